package hashicorpraft

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	armon "github.com/armon/go-metrics"
	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// timers are what every request of a kind emits.
func timers(kinds ...string) (names []string) {
	names = append(names, "raft.net.getRPCType")
	for _, kind := range kinds {
		for _, timer := range []string{"rpcDecode", "rpcEnqueue", "rpcRespond"} {
			names = append(names, "raft.net."+timer+";rpcType="+kind)
		}
	}
	slices.Sort(names)
	return names
}

// What an application's sink is given does not depend on the transport: the
// same names and labels, in whichever registry this hashicorp/raft uses.
func TestTimersAreThoseOfHashicorpRaft(t *testing.T) {
	want := emittedBy(t, theirs(t, networkConfig()))
	require.Equal(t, timers("AppendEntries", "Heartbeat", "InstallSnapshot", "RequestPreVote", "RequestVote", "TimeoutNow"),
		slices.Sorted(maps.Keys(want)))
	require.Equal(t, want, emittedBy(t, ours(t, networkConfig())))
}

func TestTimersOfTransportsWithoutTheSeam(t *testing.T) {
	next := inPlainMemory(t)
	from, to := next(), next()
	defer from.Close()
	to.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(nil, nil) })
	emitted := emitted(t, func() { sendOneOfEach(t, from, to) })
	require.Contains(t, emitted, "raft.net.rpcEnqueue;rpcType=Heartbeat")
	require.Contains(t, emitted, "raft.net.rpcRespond;rpcType=TimeoutNow")
}

// emittedBy returns what to emits for a request of every kind.
func emittedBy(t *testing.T, to closer) map[string]string {
	from := ours(t, networkConfig())
	defer from.Close()
	return emitted(t, func() { sendOneOfEach(t, from, to) })
}

func sendOneOfEach(t *testing.T, from, to closer) {
	defer to.Close()
	defer serve(to, func(rpc raft.RPC) { rpc.Respond(nil, nil) })()
	id, target := raft.ServerID("id"), to.LocalAddr()
	require.NoError(t, from.AppendEntries(id, target, heartbeat(), new(raft.AppendEntriesResponse)))
	require.NoError(t, from.AppendEntries(id, target, filled[raft.AppendEntriesRequest](), new(raft.AppendEntriesResponse)))
	require.NoError(t, from.RequestVote(id, target, filled[raft.RequestVoteRequest](), new(raft.RequestVoteResponse)))
	require.NoError(t, from.RequestPreVote(id, target, filled[raft.RequestPreVoteRequest](), new(raft.RequestPreVoteResponse)))
	require.NoError(t, from.InstallSnapshot(id, target, &raft.InstallSnapshotRequest{}, new(raft.InstallSnapshotResponse), strings.NewReader("")))
	require.NoError(t, from.TimeoutNow(id, target, filled[raft.TimeoutNowRequest](), new(raft.TimeoutNowResponse)))
}

// setSinks makes both registries emit to a sink each.
func setSinks(t *testing.T, armonSink armon.MetricSink, sink metrics.MetricSink) {
	armonConfig := armon.DefaultConfig("")
	armonConfig.EnableHostname, armonConfig.EnableRuntimeMetrics = false, false
	_, err := armon.NewGlobal(armonConfig, armonSink)
	require.NoError(t, err)

	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	_, err = metrics.NewGlobal(config, sink)
	require.NoError(t, err)
}

// emitted returns the raft.net timers that both registries were given while do
// ran, each with the registry that was given it.
func emitted(t *testing.T, do func()) map[string]string {
	armonSink, sink := armon.NewInmemSink(time.Hour, time.Hour), metrics.NewInmemSink(time.Hour, time.Hour)
	setSinks(t, armonSink, sink)
	// What an InmemSink makes inside a bubble must not be used outside.
	defer setSinks(t, &armon.BlackholeSink{}, &metrics.BlackholeSink{})

	do()

	found := make(map[string]string)
	for _, interval := range armonSink.Data() {
		collect(found, "armon", slices.Collect(maps.Keys(interval.Samples)))
	}
	for _, interval := range sink.Data() {
		collect(found, "hashicorp", slices.Collect(maps.Keys(interval.Samples)))
	}
	return found
}

func collect(found map[string]string, registry string, names []string) {
	for _, name := range names {
		if strings.HasPrefix(name, "raft.net.") {
			found[name] += registry
		}
	}
}
