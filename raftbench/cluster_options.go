package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
	rate    float64 // entries a second of all writers; 0 means as many as there can be

	restart, election bool
	mode              clusterMode // as these choose it

	format format
	json   string
	charts []string

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
		heap:    64,
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
	if err := parseFlags(newClusterFlags(&o), args, aboutCluster, help); err != nil {
		return o, err
	}
	o.mode, o.secret = o.chosenMode(), newSecret()
	if o.profile != "" {
		o.mode.figures = append(slices.Clone(o.mode.figures), figureShare)
	}
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

func (o clusterOptions) chosenMode() clusterMode {
	switch {
	case o.restart:
		return followerRestart
	case o.election:
		return leaderElection
	case o.rate > 0:
		return openLoop
	}
	return throughput
}

func newClusterFlags(o *clusterOptions) *flag.FlagSet {
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
	flags.StringVar(&o.profile, "profile", "", "`directory` for a CPU profile of each node in each cell, for go tool pprof, of the last round; shows the transport's share of CPU time")
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
	flags.BoolVar(&o.restart, "restart", false, "kill a follower under load, start it again, and measure how long it takes to catch up")
	flags.BoolVar(&o.election, "election", false, "kill the leader and measure how long it takes until an entry is applied again")
	formatFlag(flags, &o.format)
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to `file`")
	chartFlag(flags, "chart", &o.charts)
	return flags
}

func (o clusterOptions) check() error {
	switch {
	case o.restart && o.election:
		return errors.New("-restart and -election: one at a time")
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

// makeDir makes a directory, unless none is wanted.
func makeDir(dir string) error {
	if dir == "" {
		return nil
	}
	return os.MkdirAll(dir, 0o777)
}
