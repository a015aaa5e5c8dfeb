package main

import (
	"fmt"
	"io"
)

// writeSummary names the cells in which a peer is better.
func writeSummary(out io.Writer, r *Report) {
	for _, pair := range comparisons {
		ratios := r.ratiosOf(pair)
		if len(ratios) == 0 {
			continue
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
}

func slower(ratios []Ratio) (found []finding) {
	for _, ratio := range ratios {
		if ratio.Median < 1 {
			found = append(found, finding{ratio.cell(), ratio.Quotient})
		}
	}
	return found
}

func slowCalls(ratios []Ratio) (found []finding) {
	for _, ratio := range ratios {
		if ratio.P99 != nil && ratio.P99.Median > 1 {
			found = append(found, finding{ratio.cell(), *ratio.P99})
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
		rows = append(rows, append([]string{"  " + f.workload.String(), f.lane()}, f.quotient.columns()...))
	}
	writeAligned(out, 2, rows)
}
