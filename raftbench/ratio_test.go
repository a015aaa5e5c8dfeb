package main

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.EqualValues(t, 4, median([]float64{4}))
	require.EqualValues(t, 2, median([]float64{9, 1, 2}))
	require.EqualValues(t, 3, median([]float64{9, 1, 2, 4}))
}

// The places are those of the sign test's published tables.
func TestIntervalHoldsTheMedian(t *testing.T) {
	for n, place := range map[int]int{6: 1, 8: 1, 9: 2, 11: 2, 12: 3, 15: 4, 17: 5, 20: 6, 25: 8, 50: 18, 100: 40} {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(n - i) // n down to 1
		}
		require.Equal(t, []float64{float64(place), float64(n + 1 - place)}, interval(values), "%d values", n)
	}
	for n := range 6 {
		require.Nil(t, interval(make([]float64, n)), "%d values", n)
	}
	require.Len(t, interval(make([]float64, maxRounds)), 2)
}

func TestQuotientsAreOfTheSameRound(t *testing.T) {
	same := func(f float64) float64 { return f }
	q := newQuotient([]float64{4, 5, 0, 6}, []float64{1, 2, 3, 0, 7}, same)
	require.Equal(t, Quotient{Median: 3.25, Rounds: []float64{4, 2.5}}, q)
	require.Nil(t, unlessNone(newQuotient([]float64{0}, []float64{0}, same)), "the CPU time of a system that does not tell")
}

func TestTurnsAreBalanced(t *testing.T) {
	rivals := []string{"a", "b", "c", "d"}
	require.Equal(t, []string{"d", "c", "b", "a"}, turn(rivals, 1))
	require.Equal(t, []string{"b", "c", "d", "a"}, turn(rivals, 2))
	for n := 1; n <= len(rivals); n++ {
		firsts := make(map[string]int)
		before := 0 // how often the first rival comes before the last
		for round := range 2 * n {
			order := turn(rivals[:n], round)
			require.ElementsMatch(t, rivals[:n], order)
			firsts[order[0]]++
			if slices.Index(order, "a") < slices.Index(order, rivals[n-1]) {
				before++
			}
		}
		require.Len(t, firsts, n)
		if n > 1 {
			require.Equal(t, n, before, "of %d rounds with %d rivals", 2*n, n)
		}
	}
	require.Equal(t, []string{"a", "b", "c", "d"}, rivals)
}

// A report from before there were intervals gets them.
func TestOlderReportsAreSummarized(t *testing.T) {
	r := summaryReport()
	want := r.Ratios
	r.Ratios = nil
	read, err := readJSON(writeSample(t, r))
	require.NoError(t, err)
	require.Equal(t, want, read.(*Report).Ratios)
}

func TestRatiosOfVariantsAreToRaftwire(t *testing.T) {
	r, c := sampleReport(), cell{workload{1, 128}, oneByOne, 1}
	for _, name := range []string{nameAdapter, nameHooked, namePrometheus} {
		r.add(c, rival{name: name}, sampleFigures(3000))
	}
	r.summarize()
	for name, want := range map[string]comparison{
		nameRaftwire:   {nameRaftwire, nameHashicorp},
		nameAdapter:    {nameAdapter, nameRaftwire},
		nameHooked:     {nameHooked, nameRaftwire},
		namePrometheus: {namePrometheus, nameRaftwire},
	} {
		require.Equal(t, want, r.mainRatio(c, name).pair())
	}
	require.Nil(t, r.mainRatio(c, nameHashicorp))
	require.Equal(t, []float64{0.75}, r.mainRatio(c, nameHooked).Rounds)
}

// summaryReport has a cell for each thing that a summary says.
func summaryReport() *Report {
	r := new(Report)
	for _, f := range []struct {
		c          cell
		ours, peer float64 // RPC/s, of which p99 is the inverse
	}{
		{cell{workload{1, 128}, oneByOne, 1}, 900, 1000},
		{cell{workload{1, 128}, 16, 1}, 5000, 1000},
		{cell{workload{1, 128}, 130, 1}, 9000, 1000},
		{cell{workload{1, 0}, oneByOne, 1}, 1100, 1000},
	} {
		for i := range 6 {
			r.add(f.c, rival{name: nameRaftwire}, sampleFigures(f.ours+float64(100*i)))
			r.add(f.c, rival{name: nameHashicorp}, sampleFigures(f.peer*(1+float64(i)/10)))
		}
	}
	r.summarize()
	return r
}

func TestSummaryNamesCells(t *testing.T) {
	var out bytes.Buffer
	writeSummary(&out, summaryReport())
	require.Equal(t, `
raftwire / hashicorp/raft, slower:
  1x128  sync  0.92  0.90-0.93

raftwire / hashicorp/raft, p99 of calls longer:
  1x128  sync  1.09  1.07-1.11
`, out.String())
}

func TestSummarySaysThatNothingIsWorse(t *testing.T) {
	var out bytes.Buffer
	writeSummary(&out, sampleReport())
	require.Equal(t, `
raftwire / hashicorp/raft, slower: nowhere

raftwire / hashicorp/raft, p99 of calls longer: nowhere
`, out.String())
}
