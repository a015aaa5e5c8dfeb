package labels

import (
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Every request that a transport can make has a label.
func TestKinds_AreComplete(t *testing.T) {
	seen := []string{Kinds[Kind("AppendEntries", true)]}
	layer, err := faultnet.New(1).Host("a").Listen()
	require.NoError(t, err)
	transport := raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{Stream: layer, Hooks: raftwire.Hooks{
		CallDone: func(e *raftwire.CallEvent) {
			require.Equal(t, e.Kind, Kinds[Kind(e.Kind, e.Heartbeat)])
			seen = append(seen, e.Kind)
		},
	}})
	defer transport.Close()
	require.Error(t, transport.AppendEntries("b", "b", &raftwire.AppendEntriesRequest{}, &raftwire.AppendEntriesResponse{}))
	require.Error(t, transport.RequestVote("b", "b", &raftwire.RequestVoteRequest{}, &raftwire.RequestVoteResponse{}))
	require.Error(t, transport.RequestPreVote("b", "b", &raftwire.RequestPreVoteRequest{}, &raftwire.RequestPreVoteResponse{}))
	require.Error(t, transport.InstallSnapshot("b", "b", &raftwire.InstallSnapshotRequest{}, &raftwire.InstallSnapshotResponse{}, nil))
	require.Error(t, transport.TimeoutNow("b", "b", &raftwire.TimeoutNowRequest{}, &raftwire.TimeoutNowResponse{}))
	require.ElementsMatch(t, Kinds[:], seen)
	require.Equal(t, "AppendEntries", Kinds[AppendEntries])
	require.Panics(t, func() { Kind("RequestBeer", false) })
}
