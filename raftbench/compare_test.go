package main

import (
	"bytes"
	"flag"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func writeSample(t *testing.T, r any) string {
	file := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, writeJSON(file, r))
	return file
}

func TestCompare(t *testing.T) {
	before, after := sampleReport(), sampleReport()
	small := cell{workload{1, 128}, oneByOne, 1}
	after.find(small, nameRaftwire).Rounds = []Figures{sampleFigures(9000), sampleFigures(9000)}
	after.find(small, nameHashicorp).Rounds[1] = sampleFigures(2200)
	after.Results = after.Results[:2] // the third is not in both
	after.summarize()

	var out bytes.Buffer
	require.NoError(t, compare(t.Context(), []string{writeSample(t, before), writeSample(t, after)}, &out))
	require.Contains(t, out.String(), `
workload  window  rival           old RPC/s  spread  new RPC/s  spread    change  old p99 µs  new p99 µs  old allocs  new allocs  old B/RPC  new B/RPC  old CPU s/M  new CPU s/M  old ratio  95%  new ratio  95%              to
1x128     sync    hashicorp/raft      2,000    100%      2,200     91%  (+10.0%)       2,000       1,818        28.0        28.0      1,152      1,152         31.9         31.9
1x128     sync    raftwire            4,500     22%      9,000      0%   +100.0%         900         444        28.0        28.0      1,152      1,152         31.9         31.9       3.25            6.55       hashicorp/raft
`)
}

// plainReport has no transport.
func plainReport() *Report {
	r := sampleReport()
	r.Results = r.Results[2:]
	r.summarize()
	return r
}

func TestCompareSaysWhatItNeeds(t *testing.T) {
	full, plain := writeSample(t, sampleReport()), writeSample(t, plainReport())
	short := sampleReport()
	short.Results = short.Results[:2]
	require.ErrorContains(t, compare(t.Context(), []string{full}, nil), "needs two files")
	require.ErrorIs(t, compare(t.Context(), []string{"-h"}, io.Discard), flag.ErrHelp)
	require.ErrorContains(t, compare(t.Context(), []string{full, "missing.json"}, nil), "missing.json")
	require.ErrorContains(t, compare(t.Context(), []string{full, "compare_test.go"}, nil), "not a report")
	require.ErrorContains(t, compare(t.Context(), []string{writeSample(t, short), plain}, nil), "no cell is in both")
	idle := &Trials{Command: "idle", Figures: []string{figureHeap}, Results: []*Trial{{Rival: nameRaw, Rounds: []sample{{figureHeap: 1}}}}}
	require.ErrorContains(t, compare(t.Context(), []string{full, writeSample(t, idle)}, nil), "different commands")
}
