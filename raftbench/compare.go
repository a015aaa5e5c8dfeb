package main

import (
	"context"
	"fmt"
	"io"
	"math"
)

const aboutCompare = `Usage: go run ./raftbench compare OLD.json NEW.json
Prints what changed between two files that run -json has written. It has no flags.
`

// compare prints what changed from one report to another.
func compare(_ context.Context, args []string, out io.Writer) error {
	flags := newFlagSet("compare")
	if err := parseAll(flags, args, aboutCompare, out); err != nil {
		return err
	}
	if args = flags.Args(); len(args) != 2 {
		return fmt.Errorf("compare needs two files written by -json: go run ./raftbench compare old.json new.json")
	}
	before, err := readJSON(args[0])
	if err != nil {
		return err
	}
	after, err := readJSON(args[1])
	if err != nil {
		return err
	}
	rows := comparisonRows(before, after)
	if len(rows) == 1 {
		return fmt.Errorf("%s and %s have no cell in common", args[0], args[1])
	}
	writeComparison(out, before, after, rows)
	return nil
}

func writeComparison(out io.Writer, before, after *Report, rows [][]string) {
	fmt.Fprintf(out, "old: %s, %d MiB of live heap\n", before.Machine, before.Settings.LiveHeapMiB)
	fmt.Fprintf(out, "new: %s, %d MiB of live heap\n\n", after.Machine, after.Settings.LiveHeapMiB)
	writeAligned(out, 3, rows)
	fmt.Fprint(out, "\nA change of RPC/s in brackets is smaller than the spread of the rounds of either run.\n"+
		"Ratios to hashicorp/raft in the same run are less sensitive to the machine than RPC/s.\n")
}

// comparisonRows has a row for each result that both reports have, after the head.
func comparisonRows(before, after *Report) [][]string {
	rows := [][]string{{"workload", "window", "rival", "old RPC/s", "spread", "new RPC/s", "spread", "change",
		"old p99 µs", "new p99 µs", "old allocs", "new allocs", "old B/RPC", "new B/RPC", "old CPU s/M", "new CPU s/M",
		"old ratio", "95%", "new ratio", "95%", "to"}}
	for _, now := range after.Results {
		then := before.find(now.cell(), now.Rival)
		if then == nil {
			continue
		}
		row := comparisonRow(then, now)
		if ratio := after.mainRatio(now.cell(), now.Rival); ratio != nil {
			row = append(row, oldAndNew(before.ratio(now.cell(), ratio.pair()), ratio)...)
		}
		rows = append(rows, row)
	}
	return rows
}

func comparisonRow(then, now *Result) []string {
	a, b := then.Median, now.Median
	return []string{
		now.Workload.String(), now.cell().lane(), now.Rival,
		grouped(a.RPCsPerSecond), percent(then.spread()), grouped(b.RPCsPerSecond), percent(now.spread()), change(then, now),
		short(a.P99Micros), short(b.P99Micros),
		fmt.Sprintf("%.1f", a.AllocsPerRPC), fmt.Sprintf("%.1f", b.AllocsPerRPC),
		grouped(a.AllocBytesPerRPC), grouped(b.AllocBytesPerRPC),
		short(a.CPUSecsPerMRPC), short(b.CPUSecsPerMRPC),
	}
}

// oldAndNew returns the columns of a ratio that the old report may lack.
func oldAndNew(then, now *Ratio) []string {
	old := []string{"-", ""}
	if then != nil {
		old = then.columns()
	}
	return append(append(old, now.columns()...), now.pair().to)
}

// change returns the change of RPC/s, in brackets if it may well be chance.
func change(then, now *Result) string {
	relative := now.Median.RPCsPerSecond/then.Median.RPCsPerSecond - 1
	text := fmt.Sprintf("%+.1f%%", 100*relative)
	if math.Abs(relative) < max(then.spread(), now.spread()) {
		return "(" + text + ")"
	}
	return text
}
