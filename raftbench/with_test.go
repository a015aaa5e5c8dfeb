package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buildHere is startBuild without another process.
func buildHere(t *testing.T) *build {
	questionsOut, questions := io.Pipe()
	answersOut, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := answerQuestions(t.Context(), questionsOut, answers)
		answers.CloseWithError(err)
		ended <- err
	}()
	b := &build{newProcess(questions, answersOut, func() error { return <-ended }, func() {})}
	t.Cleanup(func() { require.NoError(t, b.end()) })
	return b
}

func TestWith_ComparesTwoBuildsOfRaftwire(t *testing.T) {
	opts := quickOptions()
	opts.rivals = compareBuilds(allRivals, buildHere(t), buildHere(t))
	opts.workloads, opts.windows = []workload{tinyWorkload}, []window{oneByOne, 2}
	opts.rounds, opts.slice, opts.heap = 6, 2*time.Millisecond, 1
	report, err := benchmark(t.Context(), opts, &progress{out: io.Discard})
	require.NoError(t, err)
	for _, window := range opts.windows {
		for _, rival := range []string{nameRaftwire, nameAdapter, nameHooked, namePrometheus} {
			ratio := report.ratio(cell{tinyWorkload, window, 1}, comparison{rival, rival + otherBuild})
			require.NotNil(t, ratio, "%s at %s", rival, window)
			require.Len(t, ratio.Rounds, opts.rounds)
		}
	}
	require.Nil(t, report.find(cell{tinyWorkload, oneByOne, 1}, nameHashicorp), "its build does not differ")

	var table bytes.Buffer
	writeTable(&table, report)
	require.Contains(t, table.String(), "raftwire / raftwire@other")
}

func TestWith_SaysWhatABuildCouldNotMeasure(t *testing.T) {
	b := buildHere(t)
	_, err := b.measure(buildQuestion{Rival: "etcd", Workload: tinyWorkload, Window: oneByOne, Followers: 1})
	require.ErrorContains(t, err, "choose from")
	f, err := b.measure(buildQuestion{Rival: nameRaftwire, Workload: tinyWorkload, Window: 2, Followers: 1, Slice: time.Millisecond, Timeout: time.Minute, TLS: true})
	require.NoError(t, err, "an error does not end the process")
	require.Positive(t, f.RPCs)
}

func TestWith_RefusesWhatCannotBeCompared(t *testing.T) {
	for want, args := range map[string][]string{
		"leave -target out": {"-with", "x", "-target", "there:1"},
		"it compares":       {"-with", "x", "-rivals", "hashicorp/raft"},
	} {
		_, err := parseOptions(args, io.Discard)
		require.ErrorContains(t, err, want)
	}
	opts := quickOptions()
	opts.with = "no-such-executable"
	_, err := benchmark(t.Context(), opts, &progress{out: io.Discard})
	require.ErrorContains(t, err, "-with")
}
