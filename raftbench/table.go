package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// writeTable prints a report for people.
func writeTable(out io.Writer, r *Report, bars bool) {
	fmt.Fprintf(out, "AppendEntries %s, %d MiB of live heap\n", r.Settings.where(), r.Settings.LiveHeapMiB)
	fmt.Fprintln(out, r.Machine)
	fmt.Fprintf(out, "medians over %d rounds of %vs; hashicorp/raft %s\n\n",
		r.Settings.Rounds, r.Settings.SliceSecs, r.Machine.Libraries["github.com/hashicorp/raft"])
	writeAligned(out, 3, figureRows(r, bars))
	fmt.Fprint(out, "\nspread: of RPC/s over the rounds, highest minus lowest, relative to the median.\n"+
		"ratio: of RPC/s, raftwire / hashicorp/raft, the median of the rounds' ratios, and their range.\n"+
		"latency: of a call; in a pipeline from Start() of a future until it is consumed.\n"+
		"allocs, B/RPC and CPU: both ends together, or the sender if the receiver is elsewhere.\n"+
		"Two allocations of a transport's RPC are the benchmark's: the response to fill and the answer.\n"+
		"window \"16 to 4\": 16 in flight to each of 4 followers, from one leader; RPC/s of all together.\n")
	if len(r.Ratios) > 0 {
		fmt.Fprint(out, "\nRPC/s, raftwire / hashicorp/raft\n\n")
		writeAligned(out, 1, ratioRows(r, bars))
	}
}

// where tells what is between the ends.
func (s Settings) where() string {
	if s.Target != "" {
		return "to " + s.Target
	}
	return "over loopback TCP, both ends in one process"
}

func figureRows(r *Report, bars bool) [][]string {
	head := []string{"workload", "window", "rival", "RPC/s", "spread", "entries/s", "MB/s",
		"p50 µs", "p99 µs", "allocs/RPC", "B/RPC", "CPU s/M", "ratio", "of rounds"}
	if bars {
		head = append(head, "bar")
	}
	rows := [][]string{head}
	for i, result := range r.Results {
		if i == 0 || result.Workload != r.Results[i-1].Workload {
			rows = append(rows, nil)
		}
		rows = append(rows, figureRow(r, result, bars))
	}
	return rows
}

func figureRow(r *Report, result *Result, bars bool) []string {
	f := result.Median
	row := []string{
		result.Workload.String(), result.cell().lane(), result.Rival,
		grouped(f.RPCsPerSecond), fmt.Sprintf("%.0f%%", 100*result.spread()),
		grouped(f.EntriesPerSecond), short(f.MBPerSecond),
		short(f.P50Micros), short(f.P99Micros),
		fmt.Sprintf("%.1f", f.AllocsPerRPC), grouped(f.AllocBytesPerRPC), short(f.CPUSecsPerMRPC),
	}
	if ratio := r.ratio(result.cell()); ratio != nil && result.Rival == nameRaftwire {
		row = append(row, fmt.Sprintf("%.2f", ratio.Median),
			fmt.Sprintf("%.2f-%.2f", slices.Min(ratio.Rounds), slices.Max(ratio.Rounds)))
		if bars {
			row = append(row, barText(result.cell(), ratio.Median))
		}
	}
	return row
}

// ratioRows makes a matrix, a row for each lane and a column for each workload.
func ratioRows(r *Report, bars bool) [][]string {
	var workloads []workload
	var lanes []cell // without workload
	for _, ratio := range r.Ratios {
		workloads = appendNew(workloads, ratio.Workload)
		lanes = appendNew(lanes, cell{window: ratio.Window, followers: ratio.cell().followers})
	}
	head := []string{"window"}
	for _, w := range workloads {
		head = append(head, w.String())
	}
	rows := [][]string{head}
	for _, lane := range lanes {
		row := []string{lane.lane()}
		for _, w := range workloads {
			row = append(row, ratioText(r, cell{w, lane.window, lane.followers}, bars))
		}
		rows = append(rows, row)
	}
	return rows
}

func ratioText(r *Report, c cell, bars bool) string {
	ratio := r.ratio(c)
	if ratio == nil {
		return "-"
	}
	text := fmt.Sprintf("%.2f", ratio.Median)
	if bars {
		text += " " + barText(c, ratio.Median)
	}
	return text
}

// barText says how a ratio stands to the bar of its cell.
func barText(c cell, ratio float64) string {
	goal := bar(c)
	switch {
	case goal == 0:
		return "no bar"
	case ratio < goal:
		return fmt.Sprintf("< %.1f", goal)
	}
	return fmt.Sprintf(">= %.1f", goal)
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

// rangeText returns the lowest and the highest of some numbers.
func rangeText(values []float64) string {
	return short(slices.Min(values)) + "-" + short(slices.Max(values))
}
