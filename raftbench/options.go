package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are what the command line asks for.
type options struct {
	workloads []workload
	windows   []window
	followers []followers
	rivals    []rival
	rate      float64 // requests a second to each follower; 0 means as many as there can be
	rounds    int
	slice     time.Duration // how long one rival is measured in one cell and round
	timeout   time.Duration // of a request
	heap      int           // MiB of live heap
	target    string        // of a receiver elsewhere; "" means both ends in this process
	tls       bool
	secret    string // of the receiver elsewhere
	with      string // an executable of another build to compare with
	profile   bool
	format    format
	json      string
	charts    []string

	credentials *credentials // nil for plain TCP
}

// fullOptions fill about three minutes, quickOptions less than one.
func fullOptions() options {
	return options{
		workloads: must(parseList("heartbeat,1x128,1x1K,64x128,64x1K,64x16K,1x1M", parseWorkload)),
		windows:   must(parseList("sync,2,16,130,stream", parseWindow)),
		followers: []followers{1},
		rivals:    slices.Clone(defaultRivals),
		rounds:    9, // with which a 95 % interval leaves out the extremes
		slice:     200 * time.Millisecond,
		timeout:   10 * time.Second,
		heap:      64,
	}
}

func quickOptions() options {
	opts := fullOptions()
	opts.workloads = must(parseList("heartbeat,1x128,64x128,64x1K", parseWorkload))
	opts.windows = must(parseList("sync,2,130,stream", parseWindow))
	opts.rounds = 6 // the fewest that have a 95 % interval
	opts.slice = 150 * time.Millisecond
	return opts
}

// rateOptions are for requests that begin at given times.
func rateOptions() options {
	opts := fullOptions()
	opts.workloads = []workload{{64, 128}}
	opts.windows = []window{oneByOne}
	opts.followers = []followers{1, 2, 4, 6}
	opts.slice = time.Second
	return opts
}

// parseOptions reads the command line. Help goes to help.
func parseOptions(args []string, help io.Writer) (options, error) {
	opts := fullOptions()
	switch {
	case asks(args, "rate"):
		opts = rateOptions()
	case asks(args, "quick"):
		opts = quickOptions()
	}
	if err := parseFlags(newFlags(&opts), args, manual, help); err != nil {
		return opts, err
	}
	if err := opts.check(); err != nil {
		return opts, err
	}
	var err error
	switch {
	case opts.secret != "":
		opts.credentials, err = newCredentials(opts.secret)
	case opts.tls:
		opts.credentials, err = newCredentials(newSecret())
	}
	return opts, err
}

// asks looks for a flag such as -quick before the flags are parsed, because it
// changes the values that other flags override.
func asks(args []string, flag string) bool {
	for _, arg := range args {
		name, value, valued := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name == flag && strings.HasPrefix(arg, "-") {
			on, err := strconv.ParseBool(value)
			return !valued || err != nil || on
		}
	}
	return false
}

func newFlags(opts *options) *flag.FlagSet {
	flags := newFlagSet("run")
	flags.Bool("quick", false, "fewer cells, fewer rounds, shorter slices")
	listFlag(flags, "workloads", "comma-separated `list` of workloads: entries x payload bytes of each, such as 1x0 or 64x16K; or heartbeat, at window sync only", &opts.workloads, parseWorkload)
	listFlag(flags, "windows", "comma-separated `list` of windows: sync, requests in flight, stream (plain TCP without a window)", &opts.windows, parseWindow)
	listFlag(flags, "followers", "comma-separated `list` of how many followers one leader sends to at once, such as 1,2,4,6; beyond 1 without plain TCP", &opts.followers, parseFollowers)
	listFlag(flags, "rivals", "comma-separated `list` of rivals; besides the default there are hashicorpraft (the adapter, raftwire under hashicorp/raft's types), raftwire+hooks (that do nothing) and raftwire+prometheus", &opts.rivals, parseRival)
	flags.Float64Var(&opts.rate, "rate", 0, "`requests` a second that begin to each follower, whether answers come or not; latency counts from then")
	flags.IntVar(&opts.rounds, "rounds", opts.rounds, "`rounds` in which each cell is measured; a 95% interval needs 6")
	flags.DurationVar(&opts.slice, "slice", opts.slice, "`time` for one rival in one cell and round")
	flags.DurationVar(&opts.timeout, "timeout", opts.timeout, "`time` limit of a request")
	flags.IntVar(&opts.heap, "heap", opts.heap, "`MiB` of live heap to measure with; 0 is an empty process")
	flags.StringVar(&opts.target, "target", opts.target, "`HOST:PORT` of a \"raftbench serve\" to send to, from both transports in turn; plain TCP is left out")
	flags.BoolVar(&opts.tls, "tls", opts.tls, "over TLS, both ends with certificates that are made for the run; plain TCP is then plain TLS")
	flags.StringVar(&opts.secret, "tls-secret", opts.secret, "over TLS to a -target, with the `secret` that \"raftbench serve -tls\" prints")
	flags.StringVar(&opts.with, "with", opts.with, "compare raftwire with another build of this program, an `executable`; each build measures in a process of its own")
	flags.BoolVar(&opts.profile, "profile", opts.profile, "say where CPU time goes: system calls, scheduling, memory, codec")
	formatFlag(flags, &opts.format)
	flags.StringVar(&opts.json, "json", opts.json, "write all figures of all rounds to `file`")
	chartFlag(flags, "chart", &opts.charts)
	return flags
}

func (o options) check() error {
	if o.target != "" {
		if err := checkAddress("-target", o.target); err != nil {
			return err
		}
	}
	switch {
	case o.target != "" && !slices.Equal(o.followers, []followers{1}):
		return fmt.Errorf("-followers: there is one at a -target")
	case o.target == "" && o.secret != "":
		return fmt.Errorf("-tls-secret: it is for a -target; for both ends in this process, -tls alone will do")
	case o.target != "" && o.tls && o.secret == "":
		return fmt.Errorf("-tls: a -target needs -tls-secret, which \"raftbench serve -tls\" prints there")
	case o.rounds < 1 || o.rounds > maxRounds:
		return fmt.Errorf("-rounds %d: choose from 1 to %d", o.rounds, maxRounds)
	case o.rate < 0:
		return fmt.Errorf("-rate %g: must not be below 0", o.rate)
	case o.rate > 0 && len(o.charts) > 0:
		return fmt.Errorf("-rate: -chart is of requests per second, which it sets")
	case o.slice <= 0:
		return fmt.Errorf("-slice %v: must be longer than 0, for example 200ms", o.slice)
	case o.timeout <= 0:
		return fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	case len(o.tasks()) == 0:
		return fmt.Errorf("none of these -rivals can be measured at these -windows: plain TCP has sync and stream to 1 follower, a transport has all but stream, a heartbeat has sync, and a -target takes no plain TCP")
	}
	return errors.Join(o.checkWith(), checkHeap(o.heap))
}

// must is for values written into this program.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
