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

// idleConn is a connection whose other end nobody reads.
func idleConn(t *testing.T) *netConn {
	raw, other := net.Pipe()
	t.Cleanup(func() { _ = other.Close() })
	c := newConn(raw, "peer", 0, new(tasks.Group), new(Hooks), new(traffic), true)
	return c
}

// given is an answer that is ready.
type given struct{}

func (given) Ready() bool                               { return true }
func (given) Await(<-chan struct{}) (RPCResponse, bool) { return RPCResponse{}, true }

// A sender that has failed keeps its own answer, for the hooks. No other sender takes
// an answer after it.
func TestConn_TakesNoAnswerAfterAFailedSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := idleConn(t)
		ended := 0
		m := newMeter(&Hooks{ServeDone: func(*ServeEvent) { ended++ }}, c)
		var r replies
		r.init(c, m, 16)
		add := func(more bool) {
			m.await()
			m.begin(true)
			m.decode(rpcAppendEntries, new(AppendEntriesRequest), 1, true)
			r.add(pendingReply{kind: rpcAppendEntries, answer: given{}, serving: m.take()}, more)
		}
		_ = c.Close(net.ErrClosed) // so that posting fails
		add(true)
		r.awaitSender()
		add(true)
		r.awaitSender()
		_, ok, err := r.popUnsent(false)
		require.False(t, ok)
		require.ErrorIs(t, err, errEnded)
		r.abandon(net.ErrClosed)
		require.Equal(t, 2, ended)
	})
}

// timedOutConn is a connection that the system has ended by a timeout.
type timedOutConn struct{ net.Conn }

func (timedOutConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", errno.TimedOut)}
}

// The error of the system's timeout names neither TLS nor a Mux.
func TestConn_NamesTheSystemsTimeout(t *testing.T) {
	c := idleConn(t)
	c.Raw = timedOutConn{c.Raw}
	err := c.hangUp(c.Await())
	require.ErrorIs(t, err, errno.TimedOut)
	require.True(t, errno.IsTimeout(err))
	require.ErrorContains(t, err, "TCP_USER_TIMEOUT")
	require.NotContains(t, err.Error(), "TLS")
}
