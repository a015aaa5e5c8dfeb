package raftwire

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// Tests written for hashicorp/raft's transports make them without a
// constructor, in the package itself. The fields that they set keep their
// names, and those that they leave out may be zero.

func TestInmemTransport_WorksWhenMadeByHand(t *testing.T) {
	byHand := func(addr ServerAddress) *InmemTransport {
		return &InmemTransport{
			consumerCh: make(chan RPC),
			localAddr:  addr,
			peers:      make(map[ServerAddress]*InmemTransport),
			timeout:    time.Minute,
		}
	}
	a, b := byHand("a"), byHand("b")
	a.Connect("b", b)
	go func() {
		rpc := <-b.Consumer()
		rpc.Respond(&AppendEntriesResponse{LastLog: 7}, nil)
	}()
	var resp AppendEntriesResponse
	require.NoError(t, a.AppendEntries("b", "b", new(AppendEntriesRequest), &resp))
	require.EqualValues(t, 7, resp.LastLog)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// brokenListener fails each Accept, and counts the calls.
type brokenListener struct {
	StreamLayer
	accepts int
}

func (l *brokenListener) Accept() (net.Conn, error) {
	l.accepts++
	return nil, errors.New("too many open files")
}

func (l *brokenListener) Close() error { return nil }

// Accept is tried again after 5 ms, 10 ms and so on, up to one second. That makes
// eleven tries in four seconds, each with a line in the log.
func TestAccept_BacksOffToOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		broken := new(brokenListener)
		byHand := &NetworkTransport{
			logger:     hclog.New(&hclog.LoggerOptions{Output: &log}),
			stream:     broken,
			shutdownCh: make(chan struct{}),
		}
		ended := make(chan struct{})
		go func() {
			byHand.listen()
			close(ended)
		}()
		<-time.NewTimer(4 * time.Second).C
		require.NoError(t, byHand.Close())
		<-ended
		require.Equal(t, 11, broken.accepts)
		require.Equal(t, broken.accepts, bytes.Count(log.Bytes(), []byte("failed to accept connection")))
	})
}
