package main

import (
	"fmt"
	"io"
)

// writeSummary names the cells that matter most: those that miss their bar, if
// bars are asked for, and those in which a peer is better.
func writeSummary(out io.Writer, r *Report, bars bool) {
	for _, pair := range comparisons {
		ratios := r.ratiosOf(pair)
		if len(ratios) == 0 {
			continue
		}
		if bars {
			writeBars(out, pair, ratios)
		}
		if pair.to == nameHashicorp && r.Settings.Rate == 0 {
			writeFindings(out, pair, "slower", slower(ratios))
		}
		if pair.to == nameHashicorp || pair.to == nameHandOver {
			writeFindings(out, pair, "p99 of calls longer", slowCalls(ratios))
		}
	}
}

// A finding is a cell that is named, with why.
type finding struct {
	cell
	quotient Quotient
	note     string
}

func writeBars(out io.Writer, pair comparison, ratios []Ratio) {
	var below []finding
	reached := 0
	for _, ratio := range ratios {
		goal := pair.bar(ratio.cell())
		switch {
		case goal == 0:
		case ratio.Median >= goal:
			reached++
		default:
			below = append(below, finding{ratio.cell(), ratio.Quotient, barText(goal, ratio.Median)})
		}
	}
	if reached+len(below) > 0 {
		fmt.Fprintf(out, "\n%s: at or above the bar in %d of %d cells that have one\n", pair, reached, reached+len(below))
		writeFindings(out, pair, "below the bar", below)
	}
}

func slower(ratios []Ratio) (found []finding) {
	for _, ratio := range ratios {
		if ratio.Median < 1 {
			found = append(found, finding{cell: ratio.cell(), quotient: ratio.Quotient})
		}
	}
	return found
}

func slowCalls(ratios []Ratio) (found []finding) {
	for _, ratio := range ratios {
		if ratio.P99 != nil && ratio.P99.Median > 1 {
			found = append(found, finding{cell: ratio.cell(), quotient: *ratio.P99})
		}
	}
	return found
}

func writeFindings(out io.Writer, pair comparison, what string, found []finding) {
	if len(found) == 0 {
		fmt.Fprintf(out, "\n%s, %s: nowhere\n", pair, what)
		return
	}
	fmt.Fprintf(out, "\n%s, %s:\n", pair, what)
	var rows [][]string
	for _, f := range found {
		row := append([]string{"  " + f.workload.String(), f.lane()}, f.quotient.columns()...)
		rows = append(rows, append(row, f.note))
	}
	writeAligned(out, 2, rows)
}
