package main

import (
	"fmt"
	"math"
	"slices"
)

// A comparison is of a rival to another one, in every cell that has both.
type comparison struct{ rival, to string }

// comparisons are those that are reported. The first of a rival stands in its
// row of the table.
var comparisons = []comparison{
	{nameRaftwire, nameRaftwire + otherBuild},
	{nameAdapter, nameAdapter + otherBuild},
	{nameHooked, nameHooked + otherBuild},
	{namePrometheus, namePrometheus + otherBuild},
	{nameRaftwire, nameHashicorp},
	{nameRaftwire, nameHandOver},
	{nameAdapter, nameRaftwire},
	{nameAdapter, nameHashicorp},
	{nameHooked, nameRaftwire},
	{namePrometheus, nameRaftwire},
}

func (c comparison) String() string { return c.rival + " / " + c.to }

// A Ratio compares two rivals in a cell.
type Ratio struct {
	Workload  workload  `json:"workload"`
	Window    window    `json:"window"`
	Followers followers `json:"followers,omitempty"`
	Rival     string    `json:"rival"`
	To        string    `json:"to"`
	Quotient            // of RPC/s

	// CPU is of CPU time per RPC and P99 of the latency of calls, where there
	// are such figures: above 1 the rival needs more. P50 and P999 are of the
	// latency at a rate.
	CPU  *Quotient `json:"cpu,omitempty"`
	P50  *Quotient `json:"p50,omitempty"`
	P99  *Quotient `json:"p99,omitempty"`
	P999 *Quotient `json:"p999,omitempty"`
}

// A Quotient is how many times another's figure a rival has.
type Quotient struct {
	Median   float64   `json:"median"`                // of Rounds
	Interval []float64 `json:"interval_95,omitempty"` // around Median, if there are rounds enough
	Rounds   []float64 `json:"rounds"`                // within each round
}

func newRatio(c cell, pair comparison, ours, theirs []Figures) Ratio {
	return Ratio{
		Workload: c.workload, Window: c.window, Followers: c.followers,
		Rival: pair.rival, To: pair.to,
		Quotient: newQuotient(ours, theirs, func(f Figures) float64 { return f.RPCsPerSecond }),
		CPU:      unlessNone(newQuotient(ours, theirs, func(f Figures) float64 { return f.CPUSecsPerMRPC })),
		P50:      unlessNone(newQuotient(ours, theirs, func(f Figures) float64 { return f.rateP50() })),
		P99:      unlessNone(newQuotient(ours, theirs, func(f Figures) float64 { return f.callP99(c) })),
		P999:     unlessNone(newQuotient(ours, theirs, func(f Figures) float64 { return f.P999Micros })),
	}
}

// atRate reports whether requests began at given times.
func (f Figures) atRate() bool { return f.P999Micros > 0 }

func (f Figures) rateP50() float64 {
	if !f.atRate() {
		return 0
	}
	return f.P50Micros
}

// callP99 returns 0 in a pipeline that is always full, where latency is for the
// most part a question of the window.
func (f Figures) callP99(c cell) float64 {
	if c.window != oneByOne && !f.atRate() {
		return 0
	}
	return f.P99Micros
}

// newQuotient compares within each round in which both have the figure, so that
// what changes from round to round on the machine does not count.
func newQuotient[F any](ours, theirs []F, figure func(F) float64) Quotient {
	var q Quotient
	for i := range min(len(ours), len(theirs)) {
		if a, b := figure(ours[i]), figure(theirs[i]); a > 0 && b > 0 {
			q.Rounds = append(q.Rounds, a/b)
		}
	}
	q.Median, q.Interval = median(q.Rounds), interval(q.Rounds)
	return q
}

func unlessNone(q Quotient) *Quotient {
	if len(q.Rounds) == 0 {
		return nil
	}
	return &q
}

func (r Ratio) cell() cell { return cell{r.Workload, r.Window, max(1, r.Followers)} }

func (r Ratio) pair() comparison { return comparison{r.Rival, r.To} }

// columns returns the quotient and its interval, as far as there are any.
func (q *Quotient) columns() []string {
	switch {
	case q == nil:
		return []string{"-", ""}
	case len(q.Interval) != 2:
		return []string{quotientText(q.Median), ""}
	}
	return []string{quotientText(q.Median), quotientText(q.Interval[0]) + "-" + quotientText(q.Interval[1])}
}

func quotientText(f float64) string {
	if f < 0.1 {
		return fmt.Sprintf("%.3f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// median returns the middle value, the mean of the middle two, or 0 of none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 0:
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[n/2]
}

// spread returns how far values lie apart, relative to their median.
func spread(values []float64) float64 {
	if middle := median(values); middle != 0 {
		return math.Abs((slices.Max(values) - slices.Min(values)) / middle)
	}
	return 0
}

// maxRounds is what interval can count in a float64.
const maxRounds = 1000

// interval returns bounds between which the median lies of what the values are
// a sample of, with a confidence of at least 95 %: the sign test's, which take
// rounds to be independent and nothing else. They are the k-th lowest and the
// k-th highest value. Fewer than six values have none.
func interval(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	n, k := len(sorted), 0
	exactly := math.Pow(0.5, float64(n)) // the chance that k values are below the median
	for atMost := exactly; 2*atMost <= 0.05; atMost += exactly {
		exactly *= float64(n-k) / float64(k+1)
		k++
	}
	if k == 0 {
		return nil
	}
	return []float64{sorted[k-1], sorted[n-k]}
}
