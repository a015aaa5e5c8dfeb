package conn

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// tcpConn returns a connection whose timeout is far away, and its other end.
func tcpConn(t *testing.T) (c *Conn, peer net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	raw, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	peer, err = listener.Accept()
	require.NoError(t, err)
	c = new(Conn)
	c.Init(raw, time.Hour, new(tasks.Group), new(Counter))
	t.Cleanup(func() {
		_ = c.Close(net.ErrClosed)
		_ = peer.Close()
	})
	return c, peer
}

// interruptWrite ends a write that waits for the peer to read.
func interruptWrite(c *Conn) {
	if unacked, known := sock.UnackedBytes(c.Raw); unacked > 0 || !known {
		_ = c.Raw.SetWriteDeadline(LongAgo)
	}
	runtime.Gosched()
}

// The deadlines of looks for progress interrupt a write to a socket, which then
// goes on with the bytes that are left.
func TestLargeRequest_GoesOnWhereALookInterruptsItsWrite(t *testing.T) {
	c, peer := tcpConn(t)
	payload := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	require.NoError(t, c.Post(func(b *Batch) {
		b.Bytes = append(b.Bytes, "begin"...)
		b.Cuts = append(b.Cuts, Cut{len(b.Bytes), payload})
		b.Bytes = append(b.Bytes, "end"...)
	}))
	written := make(chan error, 1)
	go func() { written <- c.Flush(time.Time{}) }()
	for looks := 0; looks < 100 || c.sent.Load() == 0; looks++ {
		interruptWrite(c)
	}
	require.Empty(t, written, "the peer has not read")
	got := make([]byte, len("begin")+len(payload)+len("end"))
	_, err := io.ReadFull(peer, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(append([]byte("begin"), payload...), "end"...), got))
	require.NoError(t, <-written)
	require.EqualValues(t, len(got), c.sent.Load())
}

// Whoever waits for room in the queue goes on when the queue is taken to be
// written, and not only after that write.
func TestOutbox_HasRoomWhenItsBatchIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw, other := net.Pipe()
		defer func() { _ = other.Close() }()
		c := new(Conn)
		c.Init(raw, 0, new(tasks.Group), new(Counter))
		fill := func(b *Batch) { b.Bytes = append(b.Bytes, make([]byte, MaxQueued+1)...) }
		require.NoError(t, c.Post(fill))
		_, begun := c.beginFlush(false)
		require.True(t, begun)
		first := c.takeQueued()
		require.NoError(t, c.Post(fill)) // while that is written
		posted := false
		go func() {
			_ = c.Post(fill)
			posted = true
		}()
		synctest.Wait()
		require.False(t, posted)
		require.True(t, c.giveBack(first))
		synctest.Wait() // it may look now, and find the queue still full
		c.takeQueued()
		synctest.Wait()
		require.True(t, posted)
		_ = c.Close(net.ErrClosed)
	})
}

// The buffer of large requests that come one at a time is used again.
func TestSend_KeepsABufferThatIsUsed(t *testing.T) {
	c, peer := tcpConn(t)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	request := make([]byte, 2*keptBuffer)
	send := func() {
		require.NoError(t, c.Send(func(b *Batch) { b.Bytes = append(b.Bytes, request...) }, time.Time{}))
	}
	for range 200 {
		send()
	}
	before := &c.out.Bytes[:1][0]
	send()
	require.Same(t, before, &c.out.Bytes[:1][0])
}
