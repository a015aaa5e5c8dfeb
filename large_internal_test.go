package raftwire

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// tcpConn returns a connection whose timeout is far away, and its other end.
func tcpConn(t *testing.T) (c *conn, peer net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	raw, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	peer, err = listener.Accept()
	require.NoError(t, err)
	c = newConn(raw, "peer", time.Hour, new(tasks.Group))
	c.introduce(new(Hooks), new(traffic), false)
	t.Cleanup(func() {
		_ = c.close(net.ErrClosed)
		_ = peer.Close()
	})
	return c, peer
}

// interruptWrite ends a write that waits for the peer to read.
func interruptWrite(c *conn) {
	if unacked, known := sock.UnackedBytes(c.raw); unacked > 0 || !known {
		_ = c.raw.SetWriteDeadline(longAgo)
	}
	runtime.Gosched()
}

// The deadlines of looks for progress interrupt a write to a socket, which then
// goes on with the bytes that are left.
func TestLargeRequest_GoesOnWhereALookInterruptsItsWrite(t *testing.T) {
	c, peer := tcpConn(t)
	payload := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20)
	require.NoError(t, c.post(func(b *batch) {
		b.bytes = append(b.bytes, "begin"...)
		b.cuts = append(b.cuts, cut{len(b.bytes), payload})
		b.bytes = append(b.bytes, "end"...)
	}))
	written := make(chan error, 1)
	go func() { written <- c.flush(time.Time{}) }()
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
