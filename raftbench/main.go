package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
)

const manual = `Usage: go run ./raftbench [run] [flags]           AppendEntries, both ends in this process
       go run ./raftbench snapshot [flags]        InstallSnapshot from a file to a file
       go run ./raftbench idle [flags]            memory of idle inbound connections
       go run ./raftbench serve -listen HOST:PORT [flags]    the receiving machine for:
       go run ./raftbench run -target HOST:PORT [flags]      AppendEntries between two machines
       go run ./raftbench compare OLD NEW         what changed between two files of run -json
       go run ./raftbench chart FIGURES -o FILE   draws a file of run -json
Each command has a -h of its own.
`

// A command is the first argument; run is meant if that is a flag.
type command struct {
	name string
	do   func(ctx context.Context, args []string, out io.Writer) error
}

var commands = []command{
	{"run", run},
	{"snapshot", measureSnapshots},
	{"idle", measureIdle},
	{"serve", serve},
	{"compare", compare},
	{"chart", chart},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "raftbench:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return run(ctx, args, out)
	}
	names := make([]string, len(commands))
	for i, c := range commands {
		if c.name == args[0] {
			return c.do(ctx, args[1:], out)
		}
		names[i] = c.name
	}
	return fmt.Errorf("unknown command %q: choose from %s (-h explains them)", args[0], strings.Join(names, ", "))
}

// run measures and prints whatever was measured, also after an interrupt or a
// failure: figures that are complete are worth showing.
func run(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parseOptions(args, out)
	if err != nil {
		return err
	}
	if err := checkTarget(opts); err != nil {
		return err
	}
	for _, file := range append(opts.charts, opts.json) {
		if err := ensureWritable(file); err != nil {
			return err // now, not after three minutes
		}
	}
	report, err := benchmark(ctx, opts, newProgress(os.Stderr))
	return errors.Join(err, publish(report, opts, out))
}

// checkTarget looks whether somebody listens at the target, before a run.
func checkTarget(o options) error {
	if o.target == "" {
		return nil
	}
	conn, err := net.DialTimeout("tcp", o.target, o.timeout)
	if err != nil {
		return fmt.Errorf("-target: %w (is \"raftbench serve -listen HOST:PORT\" running there?)", err)
	}
	return conn.Close()
}

func publish(report *Report, opts options, out io.Writer) error {
	if len(report.Results) == 0 {
		return nil
	}
	writeTable(out, report, opts.bars)
	var saved error
	if opts.json != "" {
		saved = writeJSON(opts.json, report)
	}
	return errors.Join(saved, writeCharts(opts.charts, report))
}
