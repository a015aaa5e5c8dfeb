package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

const aboutCluster = `Measures clusters of hashicorp/raft, each node a process of its own on this machine, over
raftwire and over hashicorp/raft's transport in turn. Writers in the leader's process apply
one entry after the other. The first -logs and the first -wires are measured with all
-entries and -windows, the others with the first entry and the first window. Flags:
`

// clusterOptions are what the command line asks for.
type clusterOptions struct {
	nodes   []count
	writers []count
	sizes   []entries
	windows []window
	logs    []choice
	wires   []choice

	rounds  int
	slice   time.Duration // how long one cluster is measured in one cell and round
	timeout time.Duration
	heap    int // MiB in each node
	dir     string
	profile string // directory
	path    path
	rate    float64
	mode    clusterMode
	format  format
	json    string
	charts  []string

	secret string // of the nodes, for TLS
}

// fullClusterOptions fill less than 25 minutes, quickClusterOptions less than one.
func fullClusterOptions() clusterOptions {
	return clusterOptions{
		nodes:   []count{3},
		writers: []count{1, 16, 64, 256},
		sizes:   []entries{128, 4 << 10},
		windows: []window{2, 130},
		logs:    []choice{inMemory, onDisk},
		wires:   []choice{overTCP, overTLS},
		rounds:  9, // with which a 95 % interval leaves out the extremes
		slice:   2 * time.Second,
		timeout: 10 * time.Second,
		heap:    32,
		mode:    throughput,
	}
}

func quickClusterOptions() clusterOptions {
	o := fullClusterOptions()
	o.sizes, o.windows = o.sizes[:1], o.windows[:1]
	o.logs, o.wires = o.logs[:1], o.wires[:1]
	o.rounds = 6 // the fewest that have a 95 % interval
	o.slice = 500 * time.Millisecond
	return o
}

// eventOptions are for what happens once in a measurement.
func eventOptions() clusterOptions {
	o := quickClusterOptions()
	o.writers = []count{16}
	o.slice = time.Second
	return o
}

// clusterRateOptions are for entries that begin at given times.
func clusterRateOptions() clusterOptions {
	o := quickClusterOptions()
	o.nodes = []count{2, 3, 5, 7}
	o.writers = []count{256}
	o.rounds, o.slice = 9, 2*time.Second
	return o
}

func parseClusterOptions(args []string, help io.Writer) (clusterOptions, error) {
	o := fullClusterOptions()
	switch {
	case asks(args, "restart"), asks(args, "election"):
		o = eventOptions()
	case asks(args, "rate"):
		o = clusterRateOptions()
	case asks(args, "quick"):
		o = quickClusterOptions()
	}
	restart, election, err := false, false, error(nil)
	if err = parseFlags(newClusterFlags(&o, &restart, &election), args, aboutCluster, help); err != nil {
		return o, err
	}
	if restart && election {
		return o, errors.New("-restart and -election: one at a time")
	}
	switch {
	case restart:
		o.mode = followerRestart
	case election:
		o.mode = leaderElection
	case o.rate > 0:
		o.mode = openLoop
	}
	o.secret = newSecret()
	if err := o.check(); err != nil {
		return o, err
	}
	for _, file := range append(slices.Clone(o.charts), o.json) {
		if err := ensureWritable(file); err != nil {
			return o, err
		}
	}
	return o, nil
}

func newClusterFlags(o *clusterOptions, restart, election *bool) *flag.FlagSet {
	flags := newFlagSet("cluster")
	flags.Bool("quick", false, "fewer cells, fewer rounds, shorter slices: under a minute")
	listFlag(flags, "nodes", "comma-separated `list` of how many nodes there are", &o.nodes, parseNodes)
	listFlag(flags, "writers", "comma-separated `list` of how many writers there are", &o.writers, parseCount)
	listFlag(flags, "entries", "comma-separated `list` of payload bytes of an entry", &o.sizes, parseEntries)
	listFlag(flags, "windows", "comma-separated `list` of windows (MaxRPCsInFlight); sync has no pipeline", &o.windows, parseNodeWindow)
	listFlag(flags, "logs", "comma-separated `list` of where the log is: memory, disk (hashicorp/raft-wal, with fsync)", &o.logs, parseChoice(inMemory, onDisk))
	listFlag(flags, "wires", "comma-separated `list` of what carries the bytes: TCP, TLS", &o.wires, parseChoice(overTCP, overTLS))
	flags.IntVar(&o.rounds, "rounds", o.rounds, "`rounds` in which each cell is measured; a 95% interval needs 6")
	flags.DurationVar(&o.slice, "slice", o.slice, "`time` for one cluster in one cell and round")
	flags.DurationVar(&o.timeout, "timeout", o.timeout, "`time` limit of a request, and of a step of the benchmark")
	flags.IntVar(&o.heap, "heap", o.heap, "`MiB` of live heap in each node, besides its log")
	flags.StringVar(&o.profile, "profile", "", "`directory` for a CPU profile of each node in each cell, for go tool pprof, of the last round")
	flags.StringVar(&o.dir, "dir", "", "`directory` for logs on disk (default the system's for temporary files, which may be in memory)")
	flags.Func("rtt", "round trip `time` to put between the nodes, such as 20ms", func(s string) (err error) {
		o.path.Delay, err = time.ParseDuration(s)
		o.path.Delay /= 2
		return err
	})
	flags.Func("mbit", "bandwidth in `Mbit/s` of a connection between nodes, in each direction", func(s string) error {
		var mbit int
		_, err := fmt.Sscan(s, &mbit)
		o.path.Bandwidth = mbit * 1e6 / 8
		return err
	})
	flags.Float64Var(&o.rate, "rate", 0, "`entries` a second that writers begin, all together, whether answers come or not; latency counts from then")
	flags.BoolVar(restart, "restart", false, "kill a follower under load, start it again, and measure how long it takes to catch up")
	flags.BoolVar(election, "election", false, "kill the leader and measure how long it takes until an entry is applied again")
	formatFlag(flags, &o.format)
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to `file`")
	chartFlag(flags, "chart", &o.charts)
	return flags
}

func (o clusterOptions) check() error {
	switch {
	case o.rounds < 1 || o.rounds > maxRounds:
		return fmt.Errorf("-rounds %d: choose from 1 to %d", o.rounds, maxRounds)
	case o.slice < 10*time.Millisecond:
		return fmt.Errorf("-slice %v: must be 10ms or longer, for example 1s", o.slice)
	case o.timeout <= 0:
		return fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	case o.path.Delay < 0 || o.path.Bandwidth < 0 || o.rate < 0:
		return errors.New("-rtt, -mbit and -rate: must not be below 0")
	case o.mode.needsMajority && slices.Min(o.nodes) < 3:
		return errors.New("-restart and -election: 3 nodes or more are needed, so that a majority is left")
	case len(o.charts) > 0 && o.mode.figures[0] != figureApplies:
		return errors.New("-chart: it is of applies/s, which -rate, -restart and -election do not measure")
	}
	return errors.Join(checkHeap(o.heap), makeDir(o.profile))
}

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
	return o.run(ctx, startSelfAs, newProgress(os.Stderr), out)
}

// A nodeStarter starts the process of a node.
type nodeStarter func(ctx context.Context) (*process, error)

// startSelfAs starts this program again.
func startSelfAs(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, self, "node")
}

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
	cells := o.cells()
	status.begin(o.rounds * len(cells) * len(clusterRivals))
	defer status.end()
	for round := range o.rounds {
		for _, cell := range cells {
			for _, rival := range turn(clusterRivals, round) {
				status.show(round, o.rounds, fmt.Sprintf("%-50s  %-14s", cell, rival))
				s, err := o.measure(ctx, rival, cell, dir, start)
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

// measure starts a cluster, measures it, and ends it.
func (o clusterOptions) measure(ctx context.Context, rival string, cell clusterCell, dir string, start nodeStarter) (s sample, err error) {
	dir = filepath.Join(dir, "cluster")
	c, err := o.startCluster(ctx, rival, cell, dir, start)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end(), os.RemoveAll(dir)) }()
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
	}
	each := written.Applies * float64(len(used))
	return sample{
		figureApplies: written.Applies / used[0].Seconds,
		figureP50:     written.P50 / 1e3,
		figureP99:     written.P99 / 1e3,
		figureP999:    written.P999 / 1e3,
		figureNodeCPU: all.CPUSeconds / each * 1e6,
		figureAllocs:  all.Allocs / each,
	}
}

// makeDir makes a directory, unless none is wanted.
func makeDir(dir string) error {
	if dir == "" {
		return nil
	}
	return os.MkdirAll(dir, 0o777)
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
