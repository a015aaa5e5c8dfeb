package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const aboutChart = `Usage: go run ./raftbench chart FIGURES.json -o CHART.svg -o CHART.png
Draws what -json of run or cluster has saved. Flags:
`

// chart is the command chart.
func chart(_ context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		args = slices.Concat(args[1:], args[:1]) // flags may come first or last
	}
	var files []string
	flags := newFlagSet("chart")
	chartFlag(flags, "o", &files)
	if err := parseAll(flags, args, aboutChart, out); err != nil {
		return err
	}
	if flags.NArg() != 1 || len(files) == 0 {
		return errors.New("chart needs a file written by -json and -o: go run ./raftbench chart figures.json -o chart.svg")
	}
	switch saved, err := readJSON(flags.Arg(0)); r := saved.(type) {
	case *Report:
		return writeCharts(files, r)
	case *Trials:
		return writeClusterCharts(files, r)
	default:
		return err
	}
}

// writeEach has each file drawn in the format that its name ends in.
func writeEach(files []string, drawInto func(out io.Writer, format string) error) error {
	for _, file := range files {
		f, err := os.Create(file)
		if err == nil {
			err = errors.Join(drawInto(f, filepath.Ext(file)), f.Close())
		}
		if err != nil {
			return fmt.Errorf("chart %s: %w", file, err)
		}
	}
	return nil
}

func writeCharts(files []string, r *Report) error {
	panels := chartPanels(r)
	if len(files) > 0 && len(panels) == 0 {
		return errors.New("chart: there is no figure of a transport to draw")
	}
	caption := []string{
		"AppendEntries per second " + r.Settings.where() + " (log scale)",
		r.Machine.String(),
		fmt.Sprintf("medians over %s of %vs, %d MiB of live heap, hashicorp/raft %s; workloads are entries x payload bytes of each;",
			r.rounds(), r.Settings.SliceSecs, r.Settings.LiveHeapMiB, r.Machine.Libraries["github.com/hashicorp/raft"]),
		"above the bars: raftwire / hashicorp/raft (95 % interval; the median below 6 rounds); " + wire(r.Settings.TLS) + " alone: a ping-pong of the same bytes for sync, a stream of them for pipelines",
	}
	return writeEach(files, func(out io.Writer, format string) error {
		return drawChart(out, format, caption, seriesNames(r.Settings.TLS), panels)
	})
}

// The series of a chart, in the order of the bars of a group.
const (
	floorSeries = iota
	peerSeries
	ourSeries
	seriesCount
)

func seriesNames(secured bool) [seriesCount]string {
	return [seriesCount]string{wire(secured) + " alone", nameHashicorp, nameRaftwire}
}

// A panel shows one lane.
type panel struct {
	title     string
	workloads []string
	rates     [seriesCount][]float64 // RPC/s for each workload; 0 means none
	ratios    []string               // for each workload; "" means none
}

// chartPanels has a panel for each lane in which a transport was measured.
func chartPanels(r *Report) []*panel {
	var panels []*panel
	var workloads []workload
	var lanes []cell
	for _, result := range r.Results {
		if result.Rival == nameHashicorp || result.Rival == nameRaftwire {
			workloads = appendNew(workloads, result.Workload)
			lanes = appendNew(lanes, cell{window: result.Window, followers: result.cell().followers})
		}
	}
	for _, lane := range lanes {
		p := &panel{title: laneTitle(lane)}
		for _, w := range workloads {
			p.add(r, cell{w, lane.window, lane.followers})
		}
		panels = append(panels, p)
	}
	return panels
}

// add appends a cell unless no transport was measured in it.
func (p *panel) add(r *Report, c cell) {
	peer, ours := rate(r, c, nameHashicorp), rate(r, c, nameRaftwire)
	if peer == 0 && ours == 0 {
		return
	}
	p.workloads = append(p.workloads, c.workload.String())
	for series, value := range [seriesCount]float64{floorRate(r, c), peer, ours} {
		p.rates[series] = append(p.rates[series], value)
	}
	label := ""
	if ratio := r.ratio(c, comparison{nameRaftwire, nameHashicorp}); ratio != nil {
		label = narrowLabel(ratio.Quotient)
	}
	p.ratios = append(p.ratios, label)
}

// narrowLabel leaves the median out where there is an interval: there is no room for both.
func narrowLabel(q Quotient) string {
	if len(q.Interval) != 2 {
		return fmt.Sprintf("%.1fx", q.Median)
	}
	return fmt.Sprintf("%.1f-%.1f", q.Interval[0], q.Interval[1])
}

// floorRate returns what TCP, or TLS, alone does with the cell's bytes: waiting for
// each answer if the cell does, or else in a stream into fresh memory.
func floorRate(r *Report, c cell) float64 {
	switch {
	case c.followers > 1:
		return 0
	case c.window == oneByOne:
		return rate(r, c, "raw-ping-pong")
	}
	c.window = streaming
	if fresh := rate(r, c, "raw-fresh-stream"); fresh > 0 {
		return fresh
	}
	return rate(r, c, "raw-stream")
}

func rate(r *Report, c cell, rival string) float64 {
	if result := r.find(c, rival); result != nil {
		return result.Median.RPCsPerSecond
	}
	return 0
}

func laneTitle(lane cell) string {
	title := fmt.Sprintf("pipeline, %s in flight", lane.window)
	if lane.window == oneByOne {
		title = "sync: one call at a time"
	}
	if lane.followers > 1 {
		title += fmt.Sprintf(", to each of %d followers", lane.followers)
	}
	return title
}
