package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBenchfmt_HasALineForEachRound(t *testing.T) {
	var out bytes.Buffer
	sampleReport().writeBenchmarks(&out)
	const head = "goos: linux\ngoarch: amd64\npkg: github.com/raftwire/raftwire/raftbench\ncpu: Some CPU\n"
	const rest = "\t1152.0 B/op\t28.00 allocs/op\t31900.0 CPU-ns/op"
	const cell = "BenchmarkAppendEntries/workload=1x128/window=sync/followers=1/rival="
	require.Equal(t, head+
		cell+"hashicorp-raft-2\t500\t1000000.0 ns/op\t1000.0 RPC/s"+rest+"\t1000000 p50-ns\t4000000 p99-ns\n"+
		cell+"hashicorp-raft-2\t1000\t500000.0 ns/op\t2000.0 RPC/s"+rest+"\t500000 p50-ns\t2000000 p99-ns\n"+
		cell+"hashicorp-raft-2\t1500\t333333.3 ns/op\t3000.0 RPC/s"+rest+"\t333333 p50-ns\t1333333 p99-ns\n"+
		cell+"raftwire-2\t2000\t250000.0 ns/op\t4000.0 RPC/s"+rest+"\t250000 p50-ns\t1000000 p99-ns\n"+
		cell+"raftwire-2\t2500\t200000.0 ns/op\t5000.0 RPC/s"+rest+"\t200000 p50-ns\t800000 p99-ns\n"+
		"BenchmarkAppendEntries/workload=64x1K/window=stream/followers=1/rival=raw-stream-2\t500000\t1000.0 ns/op\t1000000.0 RPC/s"+rest+"\n",
		out.String())

	out.Reset()
	require.NoError(t, clusterTrials().publish(&out, formatBenchfmt, ""))
	require.Contains(t, out.String(), head+
		"BenchmarkCluster/nodes=3/writers=16/entry=128/window=2/log=memory/wire=TCP/rival=hashicorp-raft-2\t1\t"+
		"10000 applies/s\t1 p50-ms\t2 p99-ms\t30 CPU-µs\t20 allocs\n")
	require.NotContains(t, out.String(), "medians", "nothing but benchmarks")
}

func TestBenchfmt_IsAskedFor(t *testing.T) {
	opts, err := parseOptions([]string{"-o", "benchfmt"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, formatBenchfmt, opts.format)
	_, err = parseOptions([]string{"-o", "xml"}, io.Discard)
	require.ErrorContains(t, err, "choose from table, benchfmt")

	var out bytes.Buffer
	require.NoError(t, dispatch(t.Context(), []string{"-o", "benchfmt", "-workloads", "1x128", "-windows", "sync", "-rounds", "1", "-slice", "2ms", "-heap", "1"}, &out))
	require.Regexp(t, `\ncpu: .*\nBenchmarkAppendEntries/`, out.String())
}
