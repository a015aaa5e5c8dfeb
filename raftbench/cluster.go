package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// A clusterMode is what is measured.
type clusterMode struct {
	what          string
	figures       []string
	compared      []string // those that ratios are of
	notes         string
	needsMajority bool // without one node
	heartbeat     time.Duration
	measure       func(context.Context, clusterOptions, clusterCell, *cluster) (sample, error)
}

// The figures of a cluster.
const (
	figureApplies = "applies/s"
	figureP50     = "p50 ms"
	figureP99     = "p99 ms"
	figureP999    = "p99.9 ms"
	figureNodeCPU = "CPU µs"
	figureAllocs  = "allocs"
	figureShare   = "transport %" // of CPU, with -profile

	figureCatchUp = "catch-up ms"
	figureDip     = "lowest %"

	figureElection = "to apply ms"
)

// patient is Raft's heartbeat timeout where no election is wanted, on a machine
// that may have other things to do.
const patient = 5 * time.Second

var (
	throughput = clusterMode{
		what:      "entries applied by writers that wait for each",
		figures:   []string{figureApplies, figureP50, figureP99, figureNodeCPU, figureAllocs},
		compared:  []string{figureApplies, figureNodeCPU, figureP99},
		heartbeat: patient,
		measure:   measureThroughput,
	}
	openLoop = clusterMode{
		what:      "entries applied at a rate, latency from the intended start",
		figures:   []string{figureP50, figureP99, figureP999, figureNodeCPU, figureApplies},
		compared:  []string{figureP50, figureP99, figureP999, figureNodeCPU},
		heartbeat: patient,
		measure:   measureThroughput,
	}
)

// clusterRivals are in the order of the table.
var clusterRivals = []string{nameHashicorp, nameRaftwire}

// measureClusters is the command cluster.
func measureClusters(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseClusterOptions(args, out)
	if err != nil {
		return err
	}
	return o.run(ctx, startNode, newProgress(os.Stderr), out)
}

// A nodeStarter starts the process of a node.
type nodeStarter func(ctx context.Context) (*process, error)

func startNode(ctx context.Context) (*process, error) { return startSelf(ctx, "node") }

func (o clusterOptions) run(ctx context.Context, start nodeStarter, status *progress, out io.Writer) error {
	trials := &Trials{
		Command:  "cluster",
		About:    o.about(),
		Machine:  thisMachine(),
		Figures:  o.mode.figures,
		Compared: o.mode.compared,
		To:       nameHashicorp,
	}
	err := o.measureInto(ctx, trials, start, status)
	return errors.Join(err, trials.publish(out, o.format, o.json), writeClusterCharts(o.charts, trials))
}

// about says what was measured.
func (o clusterOptions) about() string {
	about := fmt.Sprintf("hashicorp/raft over two transports: %s; %v each\n"+
		"each node a process with GOMAXPROCS %d and %d MiB of live heap besides its log",
		o.mode.what, o.slice, runtime.GOMAXPROCS(0), o.heap)
	if o.path != (path{}) {
		about += fmt.Sprintf("; round trip %v", 2*o.path.Delay)
	}
	if o.path.Bandwidth > 0 {
		about += fmt.Sprintf(", %d Mbit/s", o.path.Bandwidth*8/1e6)
	}
	if o.rate > 0 {
		about += fmt.Sprintf("; %g entries/s", o.rate)
	}
	return about
}

// measureInto leaves nothing behind in the directory.
func (o clusterOptions) measureInto(ctx context.Context, trials *Trials, start nodeStarter, status *progress) (err error) {
	dir, err := os.MkdirTemp(o.dir, "raftbench-")
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	clusters := make(map[string]*cluster)
	for _, rival := range clusterRivals {
		c := &cluster{rival: rival, limit: 2 * o.timeout, start: func() (*process, error) { return start(ctx) }}
		defer func() { _ = c.end() }() // an error of a node is in an answer
		clusters[rival] = c
	}
	cells := o.cells()
	status.begin(o.rounds * len(cells) * len(clusterRivals))
	defer status.end()
	for round := range o.rounds {
		for _, cell := range cells {
			for _, rival := range turn(clusterRivals, round) {
				status.show(round, o.rounds, fmt.Sprintf("%-50s  %-14s", cell, rival))
				s, err := o.measure(ctx, clusters[rival], cell, filepath.Join(dir, "logs"))
				if ctx.Err() != nil {
					return fmt.Errorf("interrupted in round %d of %d", round+1, o.rounds)
				}
				if err != nil {
					return fmt.Errorf("%s with %s: %w", rival, cell, err)
				}
				trials.add(cell, rival, s)
				status.measured(s[o.mode.figures[0]], o.mode.figures[0])
			}
		}
	}
	return nil
}

// measure opens a cluster, measures it, and closes it. Logs on disk are in dir
// meanwhile.
func (o clusterOptions) measure(ctx context.Context, c *cluster, cell clusterCell, dir string) (s sample, err error) {
	if err := c.open(o, cell, dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close(), os.RemoveAll(dir)) }()
	return o.mode.measure(ctx, o, cell, c)
}

func measureThroughput(ctx context.Context, o clusterOptions, cell clusterCell, c *cluster) (sample, error) {
	if err := c.write(0, o.load(cell)); err != nil {
		return nil, err
	}
	if err := pause(ctx, max(o.slice/8, 100*time.Millisecond)); err != nil { // warms up
		return nil, err
	}
	if _, _, err := c.read(); err != nil {
		return nil, err
	}
	if err := pause(ctx, o.slice); err != nil {
		return nil, err
	}
	used, written, err := c.read()
	if err != nil {
		return nil, err
	}
	if written.Applies == 0 {
		return nil, fmt.Errorf("no entry was applied in %v", o.slice)
	}
	return clusterSample(used, written), nil
}

func (o clusterOptions) load(cell clusterCell) load {
	return load{Writers: int(cell.Writers), Size: int(cell.Size), Rate: o.rate}
}

// clusterSample takes what each node has used, the leader first, and what was
// written to the leader.
func clusterSample(used []nodeUsage, written loadFigures) sample {
	var all nodeUsage
	for _, u := range used {
		all.CPUSeconds += u.CPUSeconds
		all.Allocs += u.Allocs
		all.Transport += u.Transport * u.CPUSeconds
	}
	each := written.Applies * float64(len(used))
	return sample{
		figureApplies: written.Applies / used[0].Seconds,
		figureP50:     written.P50 / 1e3,
		figureP99:     written.P99 / 1e3,
		figureP999:    written.P999 / 1e3,
		figureNodeCPU: all.CPUSeconds / each * 1e6,
		figureAllocs:  all.Allocs / each,
		figureShare:   all.Transport / max(all.CPUSeconds, 1e-9) * 100,
	}
}

// pause waits, unless ctx is done earlier.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
