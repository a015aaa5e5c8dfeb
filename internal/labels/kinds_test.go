package labels

import (
	"sync"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

func TestPerKindKeepsTheKindsApart(t *testing.T) {
	p := PerKind[string]{Make: func(label string) string { return "of " + label }}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, kind := range []string{"AppendEntries", "RequestVote", "RequestPreVote", "InstallSnapshot", "TimeoutNow"} {
				if got := *p.Get(kind, false); got != "of "+kind {
					t.Errorf("got what is %s for %s", got, kind)
				}
			}
			if got := *p.Get("AppendEntries", true); got != "of Heartbeat" {
				t.Errorf("got what is %s for heartbeats", got)
			}
		})
	}
	all.Wait()
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Get("RequestVote", false) }))
	require.Panics(t, func() { p.Get("RequestBeer", false) })
}

// Every request that a transport can make has a number.
func TestEveryKindIsKnown(t *testing.T) {
	var seen []string
	layer, err := faultnet.New(1).Host("a").Listen()
	require.NoError(t, err)
	transport := raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{Stream: layer, Hooks: raftwire.Hooks{
		CallDone: func(e *raftwire.CallEvent) { seen = append(seen, e.Kind); number(e.Kind, e.Heartbeat) },
	}})
	defer transport.Close()
	require.Error(t, transport.AppendEntries("b", "b", &raftwire.AppendEntriesRequest{}, &raftwire.AppendEntriesResponse{}))
	require.Error(t, transport.RequestVote("b", "b", &raftwire.RequestVoteRequest{}, &raftwire.RequestVoteResponse{}))
	require.Error(t, transport.RequestPreVote("b", "b", &raftwire.RequestPreVoteRequest{}, &raftwire.RequestPreVoteResponse{}))
	require.Error(t, transport.InstallSnapshot("b", "b", &raftwire.InstallSnapshotRequest{}, &raftwire.InstallSnapshotResponse{}, nil))
	require.Error(t, transport.TimeoutNow("b", "b", &raftwire.TimeoutNowRequest{}, &raftwire.TimeoutNowResponse{}))
	require.Len(t, seen, kinds-1, "heartbeats are a kind of their own")
}
