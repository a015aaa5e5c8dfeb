package main

import (
	"fmt"
	"io"
	"slices"
)

// writeCells prints trials that have cells: all figures, the ratios, and what
// they come to for each log and wire.
func (t *Trials) writeCells(out io.Writer) {
	fmt.Fprintf(out, "%s\n%s\nmedians over %d rounds; hashicorp/raft %s, raftwire through its adapter hashicorpraft\n\n",
		t.About, t.Machine, len(t.Results[0].Rounds), t.Machine.Libraries["github.com/hashicorp/raft"])
	writeAligned(out, len(cellColumns)+1, t.cellRows())
	fmt.Fprint(out, t.notes())
	rows := t.ratioRows()
	if len(rows) == 1 {
		return
	}
	fmt.Fprintf(out, "\nraftwire / %s: medians of the rounds' ratios, and the interval with 95 %% confidence\n(none below 6 rounds)\n\n", t.To)
	writeAligned(out, len(cellColumns), rows)
	fmt.Fprint(out, "\nover cells; below 1, above 1: in so many cells the whole interval is\n\n")
	writeAligned(out, 3, t.groupRows())
}

// notes explain figures.
func (t *Trials) notes() string {
	for _, mode := range []clusterMode{followerRestart, leaderElection} {
		if t.Figures[0] == mode.figures[0] {
			return "\n" + mode.notes
		}
	}
	notes := "\np50, p99: of an apply, at the leader. CPU and allocs: of an apply, for each node.\n"
	if slices.Contains(t.Figures, figureShare) {
		notes += "transport: of CPU time, what the transport and its codec do, system calls and allocations too.\n"
	}
	return notes
}

func (t *Trials) cellRows() [][]string {
	rows := [][]string{append(append(slices.Clone(cellColumns), "transport"), t.Figures...)}
	for i, trial := range t.Results {
		if i > 0 && trial.Cell != t.Results[i-1].Cell {
			rows = append(rows, nil)
		}
		row := append(trial.Cell.columns(), trial.Rival)
		for _, figure := range t.Figures {
			row = append(row, trial.text(figure))
		}
		rows = append(rows, row)
	}
	return rows
}

func (t *Trials) ratioRows() [][]string {
	head := slices.Clone(cellColumns)
	for _, figure := range t.compared() {
		head = append(head, figure, "95%")
	}
	rows := [][]string{head}
	for _, trial := range t.Results {
		if len(trial.Ratios) == 0 {
			continue
		}
		row := trial.Cell.columns()
		for _, figure := range t.compared() {
			row = append(row, trial.Ratios[figure].columns()...)
		}
		rows = append(rows, row)
	}
	return rows
}

// groupRows has a row for each figure that is compared, with each log and wire.
func (t *Trials) groupRows() [][]string {
	rows := [][]string{{"log", "wire", "ratio of", "cells", "median", "lowest", "highest", "below 1", "above 1"}}
	var groups []clusterCell // log and wire only
	for _, trial := range t.Results {
		groups = appendNew(groups, clusterCell{Log: trial.Cell.Log, Wire: trial.Cell.Wire})
	}
	for _, group := range groups {
		for _, figure := range t.compared() {
			if row := t.groupRow(group, figure); row != nil {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func (t *Trials) groupRow(group clusterCell, figure string) []string {
	var medians []float64
	below, above := 0, 0
	for _, trial := range t.Results {
		q := trial.Ratios[figure]
		if q == nil || trial.Cell.Log != group.Log || trial.Cell.Wire != group.Wire {
			continue
		}
		medians = append(medians, q.Median)
		if len(q.Interval) == 2 && q.Interval[1] < 1 {
			below++
		}
		if len(q.Interval) == 2 && q.Interval[0] > 1 {
			above++
		}
	}
	if len(medians) == 0 {
		return nil
	}
	return []string{
		string(group.Log), string(group.Wire), figure, fmt.Sprint(len(medians)), quotientText(median(medians)),
		quotientText(slices.Min(medians)), quotientText(slices.Max(medians)), fmt.Sprint(below), fmt.Sprint(above),
	}
}

// writeClusterCharts draws applies a second.
func writeClusterCharts(files []string, t *Trials) error {
	if len(files) == 0 || len(t.Results) == 0 {
		return nil
	}
	if !t.hasCells() || t.Figures[0] != figureApplies {
		return fmt.Errorf("chart: there is no %s in what %s has measured", figureApplies, t.Command)
	}
	caption := []string{
		"Entries applied per second by a hashicorp/raft cluster (log scale)",
		t.Machine.String(),
		fmt.Sprintf("medians over %d rounds; below the bars: writers; above: raftwire / hashicorp/raft with its 95 %% interval", len(t.Results[0].Rounds)),
	}
	panels := clusterPanels(t)
	return writeEach(files, func(out io.Writer, format string) error {
		return drawChart(out, format, caption, seriesNames(false), panels)
	})
}

// clusterPanels has a panel for each cell without its writers.
func clusterPanels(t *Trials) (panels []*panel) {
	var lanes []clusterCell // of the panels
	for _, trial := range t.Results {
		if trial.Rival != nameRaftwire {
			continue
		}
		lane := trial.Cell
		lane.Writers = 0
		i := slices.Index(lanes, lane)
		if i < 0 {
			i = len(lanes)
			lanes = append(lanes, lane)
			panels = append(panels, &panel{title: fmt.Sprintf("%s nodes, entries of %s, window %s, log: %s, %s",
				lane.Nodes, lane.Size, lane.Window, lane.Log, lane.Wire)})
		}
		panels[i].addCell(t, trial)
	}
	return panels
}

func (p *panel) addCell(t *Trials, ours *Trial) {
	p.workloads = append(p.workloads, ours.Cell.Writers.String())
	peer := 0.0
	if theirs := t.find(ours.Cell, nameHashicorp); theirs != nil {
		peer = theirs.Median[figureApplies]
	}
	for series, value := range [seriesCount]float64{floorSeries: 0, peerSeries: peer, ourSeries: ours.Median[figureApplies]} {
		p.rates[series] = append(p.rates[series], value)
	}
	p.ratios = append(p.ratios, ratioLabel(ours.Ratios[figureApplies]))
}

func ratioLabel(q *Quotient) string {
	switch {
	case q == nil:
		return ""
	case len(q.Interval) != 2:
		return fmt.Sprintf("%.2fx", q.Median)
	}
	return fmt.Sprintf("%.2fx (%.2f-%.2f)", q.Median, q.Interval[0], q.Interval[1])
}
