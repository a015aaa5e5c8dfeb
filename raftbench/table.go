package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// writeTable prints a report for people.
func writeTable(out io.Writer, r *Report) {
	fmt.Fprintf(out, "%s\n%s\n", r.about(), r.Machine)
	fmt.Fprintf(out, "medians over %s of %vs; hashicorp/raft %s\n\n",
		r.rounds(), r.Settings.SliceSecs, r.Machine.Libraries["github.com/hashicorp/raft"])
	if r.Settings.Rate > 0 {
		writeAligned(out, 3, rateRows(r))
		fmt.Fprint(out, rateNotes)
	} else {
		writeAligned(out, 3, figureRows(r))
		fmt.Fprint(out, notes)
	}
	for _, pair := range comparisons {
		if ratios := r.ratiosOf(pair); len(ratios) > 0 {
			fmt.Fprintf(out, "\n%s\n\n", pair)
			writeAligned(out, 2, ratioRows(r, pair, ratios))
		}
	}
	writeSpent(out, r)
	writeSummary(out, r)
}

const notes = `
spread: of RPC/s over the rounds, highest minus lowest, relative to the median.
ratio: of RPC/s, the median of the rounds' ratios, and the interval in which it lies with 95 % confidence
(none below 6 rounds).
latency: of a call; in a pipeline from Start() of a future until it is consumed.
allocs, B/RPC and CPU s per million RPCs: both ends together, or the sender if the receiver is elsewhere.
Two allocations of a transport's RPC are the benchmark's: the response to fill and the answer.
window "16 to 4": 16 in flight to each of 4 followers, from one leader; RPC/s of all together.
`

const rateNotes = `
p99 ratio: the median of the rounds' ratios, and the interval in which it lies with 95 % confidence
(none below 6 rounds).
CPU s per million RPCs: both ends together, or the sender if the receiver is elsewhere.
window "sync to 4": one call at a time to each of 4 followers, from one leader; RPC/s of all together.
All followers' requests begin at the same times. Fewer RPC/s than asked for: the rival cannot do as many.
`

// about says what was measured.
func (r *Report) about() string {
	about := fmt.Sprintf("AppendEntries %s, %d MiB of live heap", r.Settings.where(), r.Settings.LiveHeapMiB)
	if r.Settings.Rate > 0 {
		about += fmt.Sprintf("; %g requests/s to each follower, latency from the intended start", r.Settings.Rate)
	}
	return about
}

// rounds says how many there were of those that were to be.
func (r *Report) rounds() string {
	if done := len(r.Results[0].Rounds); done != r.Settings.Rounds {
		return fmt.Sprintf("%d of %d rounds", done, r.Settings.Rounds)
	}
	return fmt.Sprintf("%d rounds", r.Settings.Rounds)
}

// where tells what is between the ends.
func (s Settings) where() string {
	switch {
	case s.Target != "" && s.TLS:
		return "over TLS to " + s.Target
	case s.Target != "":
		return "to " + s.Target
	}
	return "over loopback " + wire(s.TLS) + ", both ends in one process"
}

// wire names what carries the bytes.
func wire(secured bool) string {
	if secured {
		return "TLS"
	}
	return "TCP"
}

func figureRows(r *Report) [][]string {
	rows := [][]string{{"workload", "window", "rival", "RPC/s", "spread", "entries/s", "MB/s",
		"p50 µs", "p99 µs", "allocs/RPC", "B/RPC", "CPU s/M", "ratio", "95%", "to"}}
	for i, result := range r.Results {
		if i == 0 || result.Workload != r.Results[i-1].Workload {
			rows = append(rows, nil)
		}
		rows = append(rows, figureRow(r, result))
	}
	return rows
}

func figureRow(r *Report, result *Result) []string {
	f := result.Median
	row := []string{
		result.Workload.String(), result.cell().lane(), result.Rival,
		grouped(f.RPCsPerSecond), percent(spread(result.rates())),
		grouped(f.EntriesPerSecond), short(f.MBPerSecond),
		short(f.P50Micros), short(f.P99Micros),
		fmt.Sprintf("%.1f", f.AllocsPerRPC), grouped(f.AllocBytesPerRPC), short(f.CPUSecsPerMRPC),
	}
	if ratio := r.mainRatio(result.cell(), result.Rival); ratio != nil {
		row = append(append(row, ratio.columns()...), ratio.pair().to)
	}
	return row
}

// rateRows shows latency, as requests per second are given.
func rateRows(r *Report) [][]string {
	rows := [][]string{{"workload", "window", "rival", "RPC/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU s/M", "p99 ratio", "95%", "to"}}
	for _, result := range r.Results {
		f := result.Median
		row := []string{
			result.Workload.String(), result.cell().lane(), result.Rival, grouped(f.RPCsPerSecond),
			short(f.P50Micros), short(f.P99Micros), short(f.P999Micros), short(f.CPUSecsPerMRPC),
		}
		if ratio := r.mainRatio(result.cell(), result.Rival); ratio != nil {
			row = append(append(row, ratio.P99.columns()...), ratio.pair().to)
		}
		rows = append(rows, row)
	}
	return rows
}

// ratioRows makes a matrix, a row for each lane of each kind of ratio and a
// column for each workload.
func ratioRows(r *Report, pair comparison, ratios []Ratio) [][]string {
	var workloads []workload
	var lanes []cell // without workload
	for _, ratio := range ratios {
		workloads = appendNew(workloads, ratio.Workload)
		lanes = appendNew(lanes, cell{window: ratio.Window, followers: ratio.cell().followers})
	}
	head := []string{"ratio of", "window"}
	for _, w := range workloads {
		head = append(head, w.String())
	}
	rows := [][]string{head}
	for _, kind := range ratioKinds {
		for _, lane := range lanes {
			row := []string{kind.name, lane.lane()}
			for _, w := range workloads {
				row = append(row, kind.text(r.ratio(cell{w, lane.window, lane.followers}, pair)))
			}
			if slices.ContainsFunc(row[2:], func(text string) bool { return text != "-" }) {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// A ratioKind is a figure that ratios are made of.
type ratioKind struct {
	name string
	of   func(*Ratio) *Quotient
}

var ratioKinds = []ratioKind{
	{"RPC/s", func(r *Ratio) *Quotient { return &r.Quotient }},
	{"CPU per RPC", func(r *Ratio) *Quotient { return r.CPU }},
	{"p50", func(r *Ratio) *Quotient { return r.P50 }},
	{"p99", func(r *Ratio) *Quotient { return r.P99 }},
	{"p99.9", func(r *Ratio) *Quotient { return r.P999 }},
}

func (k ratioKind) text(r *Ratio) string {
	if r == nil || k.of(r) == nil {
		return "-"
	}
	return quotientText(k.of(r).Median)
}

func appendNew[T comparable](list []T, item T) []T {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// writeAligned prints rows in columns two spaces apart, the first few aligned
// left and the others right. A row may be shorter than others.
func writeAligned(out io.Writer, left int, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, text := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			padding := strings.Repeat(" ", widths[i]-width(text))
			if i < left {
				line.WriteString(text + padding)
			} else {
				line.WriteString(padding + text)
			}
			line.WriteString("  ")
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}

func width(text string) int { return len([]rune(text)) }

// grouped returns a number without fraction, in groups of three digits.
func grouped(f float64) string {
	digits := strconv.FormatFloat(f, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// short returns a number with as many decimals as matter, and "-" for none.
func short(f float64) string {
	switch {
	case f == 0:
		return "-"
	case f < 10:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case f < 100:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return grouped(f)
}

func percent(f float64) string { return fmt.Sprintf("%.0f%%", 100*f) }
