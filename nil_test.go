package raftwire_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

func TestNetworkTransport_RefusesNil(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		requireNilRefused(t, a)
	})
}

func TestInmemTransport_RefusesNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		serve(t, b, accept)
		requireNilRefused(t, a)
	})
}

func requireNilRefused(t *testing.T, a caller) {
	p := openPipeline(t, a, "b")
	stale := func() *raftwire.AppendEntriesResponse { return &raftwire.AppendEntriesResponse{Term: 7} }
	var nilReader *bytes.Buffer
	snapshot := &raftwire.InstallSnapshotRequest{Size: 1}
	resp := stale()
	for text, err := range map[string]error{
		"AppendEntries to b: nil args":     a.AppendEntries("b", "b", nil, resp),
		"AppendEntries to b: nil resp":     a.AppendEntries("b", "b", appendRequest(1), nil),
		"RequestVote to b: nil args":       a.RequestVote("b", "b", nil, new(raftwire.RequestVoteResponse)),
		"RequestVote to b: nil resp":       a.RequestVote("b", "b", new(raftwire.RequestVoteRequest), nil),
		"RequestPreVote to b: nil resp":    a.RequestPreVote("b", "b", new(raftwire.RequestPreVoteRequest), nil),
		"TimeoutNow to b: nil resp":        a.TimeoutNow("b", "b", new(raftwire.TimeoutNowRequest), nil),
		"InstallSnapshot to b: nil args":   a.InstallSnapshot("b", "b", nil, new(raftwire.InstallSnapshotResponse), nil),
		"InstallSnapshot to b: nil resp":   a.InstallSnapshot("b", "b", snapshot, nil, nil),
		"InstallSnapshot to b: nil reader": a.InstallSnapshot("b", "b", snapshot, new(raftwire.InstallSnapshotResponse), nilReader),
	} {
		require.ErrorContains(t, err, text)
		requireOpError(t, err)
	}
	require.Zero(t, *resp)

	resp = stale()
	_, err := p.AppendEntries(nil, resp)
	require.ErrorContains(t, err, "AppendEntries to b: nil args")
	require.Zero(t, *resp)
	_, err = p.AppendEntries(appendRequest(1), nil)
	require.ErrorContains(t, err, "AppendEntries to b: nil resp")
	require.NoError(t, pipelineOne(p, appendRequest(1)), "the pipeline goes on")
}
