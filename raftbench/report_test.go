package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sampleReport has a cell with two rivals, one of which was interrupted before
// its third round, and a cell of plain TCP.
func sampleReport() *Report {
	r := &Report{
		Machine: Machine{
			CPU: "Some CPU", Cores: 2, OS: "linux", Arch: "amd64", Go: "go1.25",
			Date:      time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
			Libraries: map[string]string{"github.com/hashicorp/raft": "v1.8.0"},
		},
		Settings: Settings{Rounds: 3, SliceSecs: 0.4, TimeoutSecs: 10, LiveHeapMiB: 64, MaxPool: 3},
	}
	small := cell{workload{1, 128}, oneByOne, 1}
	for _, rate := range []float64{1000, 2000, 3000} {
		r.add(small, rival{name: nameHashicorp}, sampleFigures(rate))
	}
	for _, rate := range []float64{4000, 5000} {
		r.add(small, rival{name: nameRaftwire}, sampleFigures(rate))
	}
	stream := sampleFigures(1e6)
	stream.P50Micros, stream.P99Micros = 0, 0
	r.add(cell{workload{64, 1 << 10}, streaming, 1}, rival{name: "raw-stream"}, stream)
	r.summarize()
	return r
}

func sampleFigures(rate float64) Figures {
	return Figures{
		RPCs: rate / 2, Seconds: 0.5, RPCsPerSecond: rate, EntriesPerSecond: rate, MBPerSecond: rate / 1e3,
		P50Micros: 1e6 / rate, P99Micros: 4e6 / rate,
		AllocsPerRPC: 28, AllocBytesPerRPC: 1152, CPUSecsPerMRPC: 31.9,
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := sampleReport()
	require.Len(t, r.Ratios, 1)
	require.Equal(t, []float64{4, 2.5}, r.Ratios[0].Rounds)
	require.Equal(t, 3.25, r.Ratios[0].Median)
	require.Equal(t, 2000.0, r.Results[0].Median.RPCsPerSecond)
	require.Equal(t, 1.0, spread(r.Results[0].rates()))
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	writeTable(&out, sampleReport())
	for _, want := range []string{
		"64 MiB of live heap",
		"Some CPU, 2 cores, linux/amd64, go1.25, 2026-11-23 12:00 UTC",
		"medians over 3 rounds of 0.4s; hashicorp/raft v1.8.0",
		`
workload  window  rival               RPC/s  spread  entries/s   MB/s  p50 µs  p99 µs  allocs/RPC  B/RPC  CPU s/M  ratio  95%              to

1x128     sync    hashicorp/raft      2,000    100%      2,000   2.00     500   2,000        28.0  1,152     31.9
1x128     sync    raftwire            4,500     22%      4,500   4.50     225     900        28.0  1,152     31.9   3.25       hashicorp/raft

64x1K     stream  raw-stream      1,000,000      0%  1,000,000  1,000       -       -        28.0  1,152     31.9
`,
		`
raftwire / hashicorp/raft

ratio of     window  1x128
RPC/s        sync     3.25
CPU per RPC  sync     1.00
p99          sync     0.33
`,
		"slower: nowhere",
	} {
		require.Contains(t, out.String(), want)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, ensureWritable(file))
	require.NoFileExists(t, file, "nothing is left of a run that measures nothing")
	require.NoError(t, ensureWritable(""))
	require.Error(t, ensureWritable(t.TempDir()))
	want := sampleReport()
	require.NoError(t, writeJSON(file, want))
	require.NoError(t, ensureWritable(file))
	got, err := readJSON(file)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// What is read may come from anywhere.
func TestOtherFilesAreNoReports(t *testing.T) {
	for _, text := range []string{
		"", "null", "7", "[]", "{}", `{"command": 7}`, `{"results": 7}`,
		`{"results": [null]}`,
		`{"results": [{"workload": "1x128", "window": "sync", "rival": "raftwire"}]}`,
		`{"results": [{"workload": "1x128", "window": "sync", "rival": "raftwire", "rounds": [{}]}]}`,
		`{"results": [{"workload": "much", "window": "sync", "rival": "raftwire", "rounds": [{"rpcs_per_second": 1}]}]}`,
		`{"command": "idle"}`, `{"command": "idle", "figures": ["heap B"], "results": [null]}`,
		`{"command": "idle", "results": [{"rival": "raw", "rounds": [{}]}]}`,
		`{"command": "idle", "figures": ["heap B"], "results": [{"rival": "raw"}]}`,
	} {
		file := filepath.Join(t.TempDir(), "report.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := readJSON(file)
		require.ErrorContains(t, err, "is not a report", text)
	}
}

func TestCPUModel(t *testing.T) {
	require.Equal(t, "Some CPU", modelName("processor\t: 0\nmodel name\t: Some CPU\n"))
	require.Equal(t, "unknown CPU", modelName("processor\t: 0\n"))
}

func tinyRun(t *testing.T) options {
	opts, err := parseOptions(strings.Fields("-workloads 1x128 -windows sync,stream -rounds 2 -slice 2ms -heap 1"), io.Discard)
	require.NoError(t, err)
	return opts
}

func TestRunMeasuresEveryCellInEveryRound(t *testing.T) {
	opts := tinyRun(t)
	r, err := benchmark(context.Background(), opts, &progress{out: io.Discard})
	require.NoError(t, err)
	require.Len(t, r.Results, len(defaultRivals))
	for _, result := range r.Results {
		require.Len(t, result.Rounds, 2)
		require.Positive(t, result.Median.RPCsPerSecond)
	}
}

func TestInterruptKeepsWhatWasMeasured(t *testing.T) {
	opts := tinyRun(t)
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	opened := 0
	for i, r := range opts.rivals {
		opts.rivals[i].open = func(s setup) (exchange, error) {
			if opened++; opened == 2 {
				interrupt()
			}
			return r.open(s)
		}
	}
	r, err := benchmark(ctx, opts, &progress{out: io.Discard})
	require.ErrorContains(t, err, "interrupted in round 1 of 2")
	require.Equal(t, 2, opened)
	require.Len(t, r.Results, 1)
	require.Positive(t, r.Results[0].Median.RPCsPerSecond)
	var out bytes.Buffer
	writeTable(&out, r)
	require.Contains(t, out.String(), "medians over 1 of 2 rounds of 0.002s")
}

func TestAnInterruptEndsASlice(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, r := range defaultRivals {
		for _, window := range []window{oneByOne, 2, streaming} {
			if r.takes(cell{tinyWorkload, window, 1}) {
				_, err := measure(ctx, r, tinyWorkload, tinySetup(window), time.Hour, false)
				require.ErrorIs(t, err, context.Canceled, "%s at window %s", r, window)
			}
		}
	}
}

func TestLiveHeapHasItsSize(t *testing.T) {
	before := liveBytes()
	cache := liveHeap(8)
	require.InDelta(t, 8<<20, liveBytes()-before, 1<<20)
	runtime.KeepAlive(cache)
}

func liveBytes() int64 {
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return int64(mem.HeapAlloc)
}
