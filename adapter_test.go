package raftwire_test

import (
	"io"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// recordingDispatcher answers at once, and records what it was told.
type recordingDispatcher struct {
	heartbeats []bool // of the requests it took
	read       int    // how often an observer was told of a first byte
	decoded    []bool // and of a decoded request
}

func (d *recordingDispatcher) Dispatch(command any, body io.Reader, heartbeat bool) raftwire.PendingAnswer {
	d.heartbeats = append(d.heartbeats, heartbeat)
	answers := make(chan raftwire.RPCResponse, 1)
	accept(raftwire.RPC{Command: command, Reader: body, RespChan: answers})
	return given(<-answers)
}

// given is an answer that is there.
type given raftwire.RPCResponse

func (g given) Ready() bool { return true }

func (g given) Await(<-chan struct{}) (raftwire.RPCResponse, bool) {
	return raftwire.RPCResponse(g), true
}

// Observing is false for the first request.
func (d *recordingDispatcher) Observing() bool { return len(d.heartbeats) > 0 }

func (d *recordingDispatcher) KindRead(time.Time) { d.read++ }

func (d *recordingDispatcher) Decoded(_ any, heartbeat bool, _ time.Time) {
	d.decoded = append(d.decoded, heartbeat)
}

// dispatching is a transport whose requests can go elsewhere.
type dispatching interface {
	raftwire.Transport
	raftwire.WithDispatcher
}

// A dispatcher takes the place of Consumer and of the heartbeat handler.
func TestADispatcherTakesTheRequests(t *testing.T) {
	send := func(t *testing.T, a raftwire.Transport, b dispatching) *recordingDispatcher {
		d := new(recordingDispatcher)
		b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return d })
		b.SetHeartbeatHandler(func(raftwire.RPC) { t.Error("a heartbeat went to its handler") })
		require.NoError(t, appendOnce(a, b.LocalAddr()))
		require.NoError(t, heartbeat(a, b.LocalAddr()))
		require.NoError(t, installSnapshot(a, b.LocalAddr(), "body"))
		require.Equal(t, []bool{false, true, false}, d.heartbeats)

		b.SetDispatcher(nil)
		b.SetHeartbeatHandler(nil)
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, b.LocalAddr()))
		require.Len(t, d.heartbeats, 3, "a request went to a dispatcher that was taken away")
		return d
	}
	t.Run("network", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			d := send(t, listen(t, net, "a"), listen(t, net, "b"))
			require.Equal(t, 2, d.read)
			require.Equal(t, []bool{true, false}, d.decoded)
		})
	})
	t.Run("memory", func(t *testing.T) {
		a, b := inmemPair(t)
		send(t, a, b)
	})
}
