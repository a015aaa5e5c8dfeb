package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	hashicorp "github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// nodeStarts is a nodeStarter that counts processes: those that it started and
// those whose end was awaited.
type nodeStarts struct{ started, ended atomic.Int64 }

func (n *nodeStarts) requireEnded(t *testing.T, nodes int, why ...any) {
	require.EqualValues(t, nodes, n.started.Load(), why...)
	require.EqualValues(t, nodes, n.ended.Load(), why...)
}

func (n *nodeStarts) start(ctx context.Context) (*process, error) {
	p, err := startNode(ctx)
	if err != nil {
		return nil, err
	}
	n.started.Add(1)
	wait := p.wait
	p.wait = func() error {
		n.ended.Add(1)
		return wait()
	}
	return p, nil
}

func clusterRun(t *testing.T, args string) clusterOptions {
	o, err := parseClusterOptions(strings.Fields(args), io.Discard)
	require.NoError(t, err)
	o.dir = t.TempDir()
	return o
}

// One cell of every kind, over both transports, with all that comes of a run.
func TestCluster_IsMeasuredOverBothTransports(t *testing.T) {
	t.Parallel()
	figures, svg, profiles := filepath.Join(t.TempDir(), "cluster.json"), filepath.Join(t.TempDir(), "cluster.svg"), t.TempDir()
	o := clusterRun(t, "-quick -rounds 1 -slice 50ms -heap 1 -writers 4 -rtt 2ms -logs memory,disk -wires tcp,tls -profile "+profiles+" -json "+figures+" -chart "+svg)
	var nodes nodeStarts
	var out bytes.Buffer
	require.NoError(t, o.run(t.Context(), nodes.start, &progress{out: io.Discard}, &out))
	nodes.requireEnded(t, 6, "2 transports, 3 nodes")
	left, err := os.ReadDir(o.dir)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Contains(t, out.String(), "round trip 2ms")
	for _, cell := range []string{"memory  TCP", "disk    TCP", "memory  TLS"} {
		for _, rival := range clusterRivals {
			require.Regexp(t, `(?m)^3 +4 +128 +2 +`+cell+` +`+rival+` +[0-9,.]+ `, out.String())
		}
	}
	saved, err := readJSON(figures)
	require.NoError(t, err)
	for _, trial := range saved.(*Trials).Results {
		require.Greater(t, trial.Median[figureP50], 2.0, "no entry is applied before a round trip")
		require.Positive(t, trial.Median[figureNodeCPU])
		require.Positive(t, trial.Median[figureAllocs])
		require.Less(t, trial.Median[figureShare], 100.0)
	}
	drawn, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.Contains(t, string(drawn), "log: disk, TCP")
	files, err := filepath.Glob(filepath.Join(profiles, "3_4_128_2_*.pprof"))
	require.NoError(t, err)
	require.Len(t, files, 18)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	_, err = profile.ParseData(text)
	require.NoError(t, err)
}

func TestCluster_FollowerCatchesUpAfterItsRestart(t *testing.T) {
	t.Parallel()
	o := clusterRun(t, "-restart -rounds 1 -slice 500ms -heap 1 -writers 2")
	var nodes nodeStarts
	var out bytes.Buffer
	require.NoError(t, o.run(t.Context(), nodes.start, &progress{out: io.Discard}, &out))
	nodes.requireEnded(t, 8)
	require.Regexp(t, `(?m)^3 +2 .* raftwire +[0-9,.]+ +[0-9,.-]+$`, out.String())
	require.Contains(t, out.String(), "catch-up ms: ")
}

func TestCluster_ElectsALeaderAfterTheFirstIsKilled(t *testing.T) {
	t.Parallel()
	o := clusterRun(t, "-election -rounds 1 -slice 100ms -heap 1 -writers 2")
	var nodes nodeStarts
	var out bytes.Buffer
	require.NoError(t, o.run(t.Context(), nodes.start, &progress{out: io.Discard}, &out))
	nodes.requireEnded(t, 6)
	require.Regexp(t, `(?m)^3 +2 .* raftwire +[0-9,.]+$`, out.String())
}

func TestCluster_AnInterruptEndsItAndShowsWhatThereIs(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	o := clusterRun(t, "-quick -slice 1h -heap 1 -writers 1")
	o.mode.measure = func(ctx context.Context, _ clusterOptions, _ clusterCell, c *cluster) (sample, error) {
		if c.setups[0].Rival == nameRaftwire {
			interrupt()
			return nil, pause(ctx, time.Hour)
		}
		return sample{figureApplies: 1}, nil
	}
	var nodes nodeStarts
	var out bytes.Buffer
	require.ErrorContains(t, o.run(ctx, nodes.start, &progress{out: io.Discard}, &out), "interrupted in round 1 of 6")
	nodes.requireEnded(t, 6)
	require.Contains(t, out.String(), nameHashicorp)
}

// A node must not outlive a benchmark that was killed.
func TestNode_EndsWithItsInput(t *testing.T) {
	p, err := startNode(t.Context())
	require.NoError(t, err)
	var a nodeAnswer
	require.NoError(t, p.ask(nodeQuestion{Step: stepWrite}, &a))
	require.Equal(t, "write: the node is not open", a.Error)
	setup := nodeSetup{Rival: nameRaftwire, Listen: loopback, Window: 2, Timeout: 10 * time.Second, Heartbeat: time.Second}
	require.NoError(t, p.ask(nodeQuestion{Step: stepOpen, Open: setup}, &a))
	require.NotEmpty(t, a.Address)
	for _, q := range []struct {
		nodeQuestion
		wrong string
	}{
		{nodeQuestion{Step: stepOpen, Open: setup}, "open: the node is open already"},
		{nodeQuestion{Step: stepClose}, ""},
		{nodeQuestion{Step: stepClose}, "close: the node is not open"},
		{nodeQuestion{Step: stepOpen, Open: setup}, ""},
		{nodeQuestion{Step: "dance"}, "dance: unknown step"},
	} {
		a = nodeAnswer{}
		require.NoError(t, p.ask(q.nodeQuestion, &a))
		require.Equal(t, q.wrong, a.Error)
	}
	require.NoError(t, p.questions.Close())
	require.NoError(t, p.wait())
	p.kill()
}

// A log in memory that only grew would have the benchmark measure new memory.
func TestNode_DropsOldEntriesOfALogInMemory(t *testing.T) {
	for _, test := range []struct {
		setup     nodeSetup
		trailing  uint64
		threshold uint64
	}{
		{nodeSetup{Entry: 128}, 10240, 1024},
		{nodeSetup{Entry: 4 << 10}, 4096, 1024},
		{nodeSetup{Entry: 0}, 10240, 1024},
		{nodeSetup{Entry: 4 << 10, Dir: "somewhere"}, 10240, math.MaxUint64},
	} {
		config := hashicorp.DefaultConfig()
		(&clusterNode{setup: test.setup}).limitLog(config)
		require.Equal(t, test.trailing, config.TrailingLogs)
		require.Equal(t, test.threshold, config.SnapshotThreshold)
	}
}

func TestNode_SaysWhatItCannotDo(t *testing.T) {
	n := new(clusterNode)
	require.Contains(t, n.answer(nodeQuestion{Step: stepOpen, Open: nodeSetup{Rival: "etcd"}}).Error, "no cluster of it")
	require.NoError(t, n.close())
}

func TestCluster_MeasuresOtherLogsAndWiresInFewerCells(t *testing.T) {
	full, err := parseClusterOptions(nil, io.Discard)
	require.NoError(t, err)
	cells := full.cells()
	require.Len(t, cells, 16+4+4)
	kinds := make(map[string]int)
	for _, c := range cells {
		kinds[string(c.Log+" "+c.Wire)]++
	}
	require.Equal(t, map[string]int{"memory TCP": 16, "disk TCP": 4, "memory TLS": 4}, kinds)
	require.Less(t, clusterTime(full), 25*time.Minute)
	quick, err := parseClusterOptions([]string{"-quick"}, io.Discard)
	require.NoError(t, err)
	require.Less(t, clusterTime(quick), time.Minute)
}

// clusterTime is about what a run takes.
func clusterTime(o clusterOptions) time.Duration {
	const startAndEnd = 400 * time.Millisecond
	n := len(o.cells()) * len(clusterRivals) * o.rounds
	return time.Duration(n) * (o.slice + max(o.slice/8, 100*time.Millisecond) + startAndEnd)
}

func TestCluster_BadFlagsSayWhatToDo(t *testing.T) {
	for want, args := range map[string]string{
		"from 2 to 15":        "-nodes 1",
		"from 1 to 4095":      "-writers 0",
		"such as 128 or 4K":   "-entries large",
		"write sync":          "-windows stream",
		"choose from memory":  "-logs tape",
		"choose from TCP":     "-wires udp",
		"from 1 to 1000":      "-rounds 0",
		"for example 1s":      "-slice 0s",
		"for example 10s":     "-timeout 0s",
		"below 0":             "-rate -1",
		"one at a time":       "-restart -election",
		"3 nodes or more":     "-restart -nodes 2",
		"which -rate":         "-rate 100 -chart c.svg",
		"-h lists the flags":  "-fast",
		"unexpected argument": "quick",
	} {
		require.ErrorContains(t, measureClusters(t.Context(), strings.Fields(args), io.Discard), want, args)
	}
	require.ErrorIs(t, measureClusters(t.Context(), []string{"-h"}, io.Discard), flag.ErrHelp)
}

// clusterTrials are of two cells, with six rounds.
func clusterTrials() *Trials {
	r := sampleReport()
	t := &Trials{
		Command: "cluster", About: "about", Machine: r.Machine, To: nameHashicorp,
		Figures: throughput.figures, Compared: throughput.compared,
	}
	for _, cell := range []clusterCell{{3, 16, 128, 2, inMemory, overTCP}, {3, 64, 128, 2, inMemory, overTCP}} {
		for round := range 6 {
			for i, rival := range clusterRivals {
				rate := float64((10_000 + 100*round) * (10 + 3*i) / 10)
				t.add(cell, rival, sample{
					figureApplies: rate, figureP50: 1, figureP99: float64(2 - i), figureNodeCPU: 30, figureAllocs: 20,
				})
			}
		}
	}
	t.summarize()
	return t
}

func TestCluster_Table(t *testing.T) {
	var out bytes.Buffer
	clusterTrials().writeTable(&out)
	require.Contains(t, out.String(), `
nodes  writers  entry  window  log     wire  transport       applies/s  p50 ms  p99 ms  CPU µs  allocs
3      16       128    2       memory  TCP   hashicorp/raft     10,250    1.00    2.00    30.0    20.0
3      16       128    2       memory  TCP   raftwire           13,325    1.00    1.00    30.0    20.0
`)
	require.Contains(t, out.String(), `
nodes  writers  entry  window  log     wire  applies/s        95%  CPU µs        95%  p99 ms        95%
3      16       128    2       memory  TCP        1.30  1.30-1.30    1.00  1.00-1.00    0.50  0.50-0.50
3      64       128    2       memory  TCP        1.30  1.30-1.30    1.00  1.00-1.00    0.50  0.50-0.50
`)
	require.Contains(t, out.String(), `
log     wire  ratio of   cells  median  lowest  highest  below 1  above 1
memory  TCP   applies/s      2    1.30    1.30     1.30        0        2
memory  TCP   CPU µs         2    1.00    1.00     1.00        0        0
memory  TCP   p99 ms         2    0.50    0.50     0.50        2        0
`)
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, width(strings.TrimRight(line, "\n")), 120, line)
	}
}

func TestCluster_ComparesAndDrawsSavedFigures(t *testing.T) {
	file, svg := writeSample(t, clusterTrials()), filepath.Join(t.TempDir(), "c.svg")
	var out bytes.Buffer
	require.NoError(t, compare(t.Context(), []string{file, file}, &out))
	require.Regexp(t, `(?m)^3 +64 +128 +2 +memory +TCP +raftwire +applies/s +13,325 .* 1\.30  1\.30-1\.30 .* hashicorp/raft$`, out.String())
	require.Regexp(t, `(?m)^3 +64 +128 +2 +memory +TCP +raftwire +p99 ms .* 0\.50  0\.50-0\.50 .* hashicorp/raft$`, out.String())

	require.NoError(t, dispatch(t.Context(), []string{"chart", file, "-o", svg}, io.Discard))
	drawn, err := os.ReadFile(svg)
	require.NoError(t, err)
	for _, text := range []string{"applied per second", "1.30x (1.30-1.30)", "3 nodes, entries of 128, window 2"} {
		require.Contains(t, string(drawn), text)
	}
	require.NotContains(t, string(drawn), "TCP alone")

	idle := &Trials{Command: "idle", Figures: []string{figureHeap}, Results: []*Trial{{Rival: nameRaw, Rounds: []sample{{figureHeap: 1}}}}}
	require.ErrorContains(t, chart(t.Context(), []string{writeSample(t, idle), "-o", svg}, io.Discard), "no applies/s in what idle")
}

func TestCluster_ChartHasAPanelForEachCellWithoutItsWriters(t *testing.T) {
	trials := clusterTrials()
	trials.add(clusterCell{3, 16, 4 << 10, 130, inMemory, overTCP}, nameRaftwire, sample{figureApplies: 7})
	trials.summarize()
	panels := clusterPanels(trials)
	require.Len(t, panels, 2)
	require.Equal(t, []string{"16", "64"}, panels[0].workloads)
	require.Equal(t, &panel{
		title:     "3 nodes, entries of 4K, window 130, log: memory, TCP",
		workloads: []string{"16"},
		rates:     [seriesCount][]float64{{0}, {0}, {7}},
		ratios:    []string{""},
	}, panels[1])
}

func TestCluster_ARestartIsComparedWithTheTimeBefore(t *testing.T) {
	before := loadFigures{PerTenth: []float64{1, 100, 110, 100, 7}}
	s, err := restartSample(before, loadFigures{PerTenth: []float64{90, 25, 90, 3}}, 1500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, sample{figureCatchUp: 1500, figureDip: 25}, s)
	_, err = restartSample(before, loadFigures{PerTenth: []float64{1, 2, 3}, Error: "lost"}, 0)
	require.ErrorContains(t, err, "lost")
	_, err = restartSample(before, loadFigures{}, 0)
	require.ErrorContains(t, err, "too long")
}

func TestCluster_TransportsShareIsThatOfItsFrames(t *testing.T) {
	for want, frames := range map[bool][][2]string{
		true: {
			{"github.com/raftwire/raftwire.readLog", "codec.go"},
			{"github.com/raftwire/raftwire/hashicorpraft.(*pipeline).AppendEntries", "pipeline.go"},
			{"github.com/hashicorp/go-msgpack/v2/codec.(*Decoder).Decode", "decode.go"},
			{"github.com/hashicorp/raft.(*NetworkTransport).handleCommand", "net_transport.go"},
		},
		false: {
			{"github.com/hashicorp/raft.(*Raft).run", "raft.go"},
			{"main.(*running).write", "cluster_load.go"},
			{"runtime.findRunnable", "proc.go"},
		},
	} {
		for _, frame := range frames {
			sample := &profile.Sample{}
			for _, f := range [][2]string{{"runtime.memmove", "memmove.s"}, frame, {"github.com/hashicorp/raft.(*Raft).run", "raft.go"}} {
				function := &profile.Function{Name: f[0], Filename: "/somewhere/" + f[1]}
				sample.Location = append(sample.Location, &profile.Location{Line: []profile.Line{{Function: function}}})
			}
			require.Equal(t, want, isOfTransport(sample), frame[0])
		}
	}
}
