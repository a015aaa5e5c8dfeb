package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

const aboutCompare = `Usage: go run ./raftbench compare OLD.json NEW.json
Prints what changed between two files that -json of run, cluster, snapshot or idle has written.
It has no flags.
`

// compare prints what changed from one file to another.
func compare(_ context.Context, args []string, out io.Writer) error {
	flags := newFlagSet("compare")
	if err := parseAll(flags, args, aboutCompare, out); err != nil {
		return err
	}
	if args = flags.Args(); len(args) != 2 {
		return errors.New("compare needs two files written by -json: go run ./raftbench compare old.json new.json")
	}
	before, err := readJSON(args[0])
	if err != nil {
		return err
	}
	after, err := readJSON(args[1])
	if err != nil {
		return err
	}
	if err := writeChanges(out, before, after); err != nil {
		return fmt.Errorf("%s and %s: %w", args[0], args[1], err)
	}
	return nil
}

// writeChanges compares what readJSON returned.
func writeChanges(out io.Writer, before, after saved) error {
	switch after := after.(type) {
	case *Report:
		if before, ok := before.(*Report); ok {
			return after.writeChanges(out, before)
		}
	case *Trials:
		if before, ok := before.(*Trials); ok && before.Command == after.Command {
			return after.writeChanges(out, before)
		}
	}
	return errors.New("they are of different commands")
}

// writeChanges writes what changed since an older report.
func (r *Report) writeChanges(out io.Writer, older *Report) error {
	rows := comparisonRows(older, r)
	if len(rows) == 1 {
		return errors.New("no cell is in both")
	}
	writeComparison(out, older, r, rows)
	return nil
}

func writeComparison(out io.Writer, before, after *Report, rows [][]string) {
	fmt.Fprintf(out, "old: %s\n     %s\nnew: %s\n     %s\n\n", before.about(), before.Machine, after.about(), after.Machine)
	writeAligned(out, 3, rows)
	fmt.Fprint(out, "\nA change of RPC/s in brackets is smaller than the spread of the rounds of either run.\n"+
		"Ratios within a run are less sensitive to the machine than RPC/s. 95%: the interval in which a\n"+
		"ratio lies with that confidence (none below 6 rounds).\n")
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
		grouped(a.RPCsPerSecond), percent(spread(then.rates())), grouped(b.RPCsPerSecond), percent(spread(now.rates())), change(then.rates(), now.rates()),
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

// change returns how a figure changed, in brackets if that may well be chance.
func change(then, now []float64) string {
	if median(then) == 0 {
		return "-"
	}
	relative := median(now)/median(then) - 1
	text := fmt.Sprintf("%+.1f%%", 100*relative)
	if math.Abs(relative) < max(spread(then), spread(now)) {
		return "(" + text + ")"
	}
	return text
}
