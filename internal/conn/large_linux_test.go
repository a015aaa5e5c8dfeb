package conn

import (
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

// After its last write a large request makes progress as long as the peer's system
// takes bytes out of the socket's buffer.
func TestLargeRequest_MakesProgressWhenThePeerAcknowledges(t *testing.T) {
	c, peer := tcpConn(t)
	written := make(chan error, 1)
	go func() { written <- c.writeBytes(make([]byte, 16<<20)) }()
	for len(written) == 0 { // the peer does not read
		interruptWrite(c)
	}
	require.True(t, errno.IsTimeout(<-written))

	clock := NewClock(c.Timeout, time.Time{})
	require.NoError(t, c.CheckAcked(&clock))
	require.Less(t, clock.acked, c.sent.Load())
	moved := clock.moved
	_, err := io.CopyN(io.Discard, peer, c.sent.Load())
	require.NoError(t, err)
	for clock.acked < c.sent.Load() { // the last bytes may be acknowledged a little later
		require.NoError(t, c.CheckAcked(&clock))
		runtime.Gosched()
	}
	require.True(t, clock.moved.After(moved))
	moved = clock.moved
	require.NoError(t, c.CheckAcked(&clock))
	require.True(t, clock.moved.Equal(moved), "nothing is left to acknowledge")

	clock.timeout = time.Nanosecond
	require.ErrorContains(t, c.CheckAcked(&clock), "Timeout")
}
