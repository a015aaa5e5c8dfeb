package hashicorpraft

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	armon "github.com/armon/go-metrics"
	"github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"
	_ "github.com/raftwire/raftwire/hashicorpraft/armonmetrics"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
	"github.com/stretchr/testify/require"
)

// timersOf are what every request of a kind emits.
func timersOf(kinds ...string) (names []string) {
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
// same names and labels. They are in the registry that this hashicorp/raft uses,
// if a program on v1.7 has imported armonmetrics.
func TestTimers_AreThoseOfHashicorpRaft(t *testing.T) {
	core := emittedBy(t, theirs(t, networkConfig()))
	require.Equal(t, timersOf("AppendEntries", "Heartbeat", "InstallSnapshot", "RequestPreVote", "RequestVote", "TimeoutNow"),
		slices.Sorted(maps.Keys(core)))
	if registryOf(t, core) == "hashicorp" {
		withoutArmon(t)
	}
	require.Equal(t, core, emittedBy(t, ours(t, networkConfig())))
}

// A program that does not import armonmetrics links nothing of armon's.
func TestTimers_GoToHashicorpsRegistryByThemselves(t *testing.T) {
	withoutArmon(t)
	require.Equal(t, "hashicorp", registryOf(t, emittedBy(t, ours(t, networkConfig()))))
}

// An import of armonmetrics that was left over costs no timer.
func TestTimers_GoToTheRegistryThatIsSetUp(t *testing.T) {
	if timers.Armon == nil {
		t.Skip("built with the tag hashicorpmetrics")
	}
	linked := timers.Armon
	t.Cleanup(func() { timers.Armon = linked })
	timers.Armon = notSetUp{linked}
	require.Equal(t, "hashicorp", registryOf(t, emittedBy(t, ours(t, networkConfig()))))
}

// notSetUp is a registry that the application has not set up. (Once it has,
// nothing takes that back.)
type notSetUp struct{ timers.Registry }

func (notSetUp) InUse() bool { return false }

// withoutArmon makes the rest of a test that of a program without armonmetrics.
func withoutArmon(t *testing.T) {
	linked := timers.Armon
	t.Cleanup(func() { timers.Armon = linked })
	timers.Armon = nil
}

// registryOf returns the one registry that all timers went to.
func registryOf(t *testing.T, emitted map[string]string) string {
	registries := slices.Compact(slices.Sorted(maps.Values(emitted)))
	require.Len(t, registries, 1)
	return registries[0]
}

// With hashicorp/raft v1.8.0 or later, a program on this package links nothing
// of armon's go-metrics, which that version has left.
func TestDependencies_NameNoArmon(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	modfile, err := os.ReadFile("go.v1.8.0.mod")
	require.NoError(t, err)
	sums, err := os.ReadFile("go.v1.8.0.sum")
	require.NoError(t, err)
	program := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(program, name), []byte(text), 0o600))
	}
	run := func(args ...string) string {
		command := exec.Command("go", args...)
		command.Dir = program
		command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := command.CombinedOutput()
		require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
		return string(out)
	}
	write("go.mod", string(modfile))
	write("go.sum", string(sums))
	write("main.go", "package main\n\nimport (\n\t_ \""+corePath+"\"\n\t_ \""+adapterPath+"\"\n)\n\nfunc main() {}\n")
	run("mod", "edit", "-module=example.com/program",
		"-droprequire=github.com/armon/go-metrics",
		"-require="+adapterPath+"@v0.0.0", "-replace="+adapterPath+"="+here,
		"-replace="+wirePath+"="+filepath.Dir(here))
	packages := run("list", "-deps", ".")
	require.Contains(t, packages, adapterPath)
	require.NotContains(t, packages, "armon")
	required, err := os.ReadFile(filepath.Join(program, "go.mod"))
	require.NoError(t, err)
	require.NotContains(t, string(required), "armon")
}

func TestTimers_OfTransportsWithoutADispatcher(t *testing.T) {
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
