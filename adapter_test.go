package raftwire_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// The wait is known although no observer saw the request before.
func TestServeObserver_IsGivenDurations(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		d := &recordingDispatcher{takes: 20 * time.Millisecond}
		b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return d })
		require.NoError(t, appendOnce(a, "b"))
		pause(3 * time.Second)
		require.NoError(t, heartbeat(a, "b"))
		synctest.Wait()
		require.Len(t, d.served, 1)
		require.Equal(t, "a", d.served[0].Host)
		require.Equal(t, 3*time.Second, d.served[0].Wait)
		require.Equal(t, 20*time.Millisecond, d.served[0].Enqueue)
		require.Positive(t, d.served[0].ResponseBytes)
	})
}

// A dispatcher takes the place of Consumer and of the heartbeat handler.
func TestDispatcher_TakesEveryRequest(t *testing.T) {
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
			require.Len(t, d.served, 2)
			require.True(t, d.served[0].Heartbeat)
			require.Equal(t, "InstallSnapshot", d.served[1].Kind)
		})
	})
	t.Run("memory", func(t *testing.T) {
		a, b := inmemPair(t)
		send(t, a, b)
	})
}

// dispatching is a transport that can send requests to a Dispatcher.
type dispatching interface {
	raftwire.Transport
	raftwire.WithDispatcher
}
