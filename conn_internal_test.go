package raftwire

import (
	"net"
	"os"
	"testing"
	"testing/synctest"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// idleConn is a connection that nobody reads at its other end.
func idleConn(t *testing.T) *conn {
	raw, other := net.Pipe()
	t.Cleanup(func() { _ = other.Close() })
	c := newConn(raw, "peer", 0, new(tasks.Group))
	c.introduce(new(Hooks), new(traffic), true)
	return c
}

// Whoever waits for room in the queue goes on when the queue is taken to be
// written, and not only after that write.
func TestWhoWaitsForTheQueueGoesOnWhenItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := idleConn(t)
		fill := func(b *batch) { b.bytes = append(b.bytes, make([]byte, maxQueued+1)...) }
		require.NoError(t, c.post(fill))
		require.True(t, c.beginFlush())
		first := c.takeQueued()
		require.NoError(t, c.post(fill)) // while that is written
		posted := false
		go func() {
			_ = c.post(fill)
			posted = true
		}()
		synctest.Wait()
		require.False(t, posted)
		require.True(t, c.giveBack(first))
		synctest.Wait() // it may look now, and find the queue still full
		c.takeQueued()
		synctest.Wait()
		require.True(t, posted)
		_ = c.close(net.ErrClosed)
	})
}

// given is an answer that is there.
type given struct{}

func (given) Ready() bool                               { return true }
func (given) Await(<-chan struct{}) (RPCResponse, bool) { return RPCResponse{}, true }

// A sender that has failed keeps the answer that it had, for the hooks: nobody
// takes another one after it.
func TestNobodyTakesTheNextAnswerAfterASenderThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := idleConn(t)
		ended := 0
		m := newMeter(&Hooks{ServeDone: func(*ServeEvent) { ended++ }}, c)
		var r replies
		r.init(c, m, 16)
		add := func(more bool) {
			m.begin(true)
			m.decode(rpcAppendEntries, new(AppendEntriesRequest), 1, true)
			m.take(true)
			r.add(owed{rpcAppendEntries, given{}}, more)
		}
		c.fail(net.ErrClosed) // as close begins, so that posting fails
		add(true)
		r.awaitSender()
		add(true)
		r.awaitSender()
		_, ok, err := r.popUnsent()
		require.False(t, ok)
		require.ErrorIs(t, err, errEnded)
		m.abandon(net.ErrClosed)
		require.Equal(t, 2, ended)
		_ = c.raw.Close()
	})
}

// timedOutConn is a connection that the system has given up.
type timedOutConn struct{ net.Conn }

func (timedOutConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", errno.TimedOut)}
}

// It has nothing to do with TLS, or with a Mux.
func TestConn_NamesTheSystemsTimeout(t *testing.T) {
	c := idleConn(t)
	c.raw = timedOutConn{c.raw}
	err := c.hangUp(c.await())
	require.ErrorIs(t, err, errno.TimedOut)
	require.True(t, isTimeout(err))
	require.ErrorContains(t, err, "TCP_USER_TIMEOUT")
	require.NotContains(t, err.Error(), "TLS")
}
