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

	clock := LargeClock(c.Timeout, time.Time{})
	require.NoError(t, c.CheckAcked(&clock))
	require.Less(t, clock.Count, c.sent.Load())
	moved := clock.Moved
	_, err := io.CopyN(io.Discard, peer, c.sent.Load())
	require.NoError(t, err)
	for clock.Count < c.sent.Load() { // the last bytes may be acknowledged a little later
		require.NoError(t, c.CheckAcked(&clock))
		runtime.Gosched()
	}
	require.True(t, clock.Moved.After(moved))
	moved = clock.Moved
	require.NoError(t, c.CheckAcked(&clock))
	require.True(t, clock.Moved.Equal(moved), "nothing is left to acknowledge")

	clock.Stall.After = time.Nanosecond
	require.ErrorContains(t, c.CheckAcked(&clock), "Timeout")
}
