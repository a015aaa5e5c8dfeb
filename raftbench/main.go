package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const manual = `Usage: go run ./raftbench [run] [flags]           AppendEntries, both ends in this process
       go run ./raftbench run -with BINARY [flags]           AppendEntries, this build and another
       go run ./raftbench cluster [flags]         clusters of hashicorp/raft, a process for each node
       go run ./raftbench snapshot [flags]        InstallSnapshot from a file to a file
       go run ./raftbench idle [flags]            memory of idle inbound connections
       go run ./raftbench serve -listen HOST:PORT [flags]    the receiving machine for:
       go run ./raftbench run -target HOST:PORT [flags]      AppendEntries between two machines
       go run ./raftbench compare OLD NEW         what changed between two files of -json
       go run ./raftbench chart FIGURES -o FILE   draws a file of run -json
Each command has a -h of its own. Flags of run:
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
	{"cluster", measureClusters},
	{"serve", serve},
	{"compare", compare},
	{"chart", chart},
	{"measure", serveQuestions},
	{"node", serveNode},
	{"help", help},
}

func help(ctx context.Context, _ []string, out io.Writer) error { return run(ctx, []string{"-h"}, out) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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

// checkTarget has a heartbeat answered at the target, before a run.
func checkTarget(o options) error {
	if o.target == "" {
		return nil
	}
	hint := `is "raftbench serve -listen HOST:PORT" running there, without -tls?`
	if o.credentials != nil {
		hint = `is "raftbench serve -listen HOST:PORT -tls" running there, and did it print this secret?`
	}
	conn, err := greet(o.target, o.credentials, o.timeout)
	if err != nil {
		return fmt.Errorf("-target %s: %w (%s)", o.target, err, hint)
	}
	return conn.Close()
}

// greet connects and has a heartbeat answered.
func greet(address string, c *credentials, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	conn = c.client(conn)
	if err := beat(conn, timeout); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func beat(conn net.Conn, timeout time.Duration) error {
	if err := shakeHands(conn, timeout); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := conn.Write(newContent(heartbeat).requestFrame()); err != nil {
		return err
	}
	want := answerFrame()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("answer to a heartbeat: %w", err)
	}
	want, _, _ = bytes.Cut(want, []byte("LastLog")) // from there on it depends on earlier ones
	if !bytes.HasPrefix(got, want) {
		return fmt.Errorf("answer to a heartbeat: %q is none", got)
	}
	return nil
}

func publish(report *Report, opts options, out io.Writer) error {
	if len(report.Results) == 0 {
		return nil
	}
	if opts.format == formatBenchfmt {
		report.writeBenchmarks(out)
	} else {
		writeTable(out, report)
	}
	var saved error
	if opts.json != "" {
		saved = writeJSON(opts.json, report)
	}
	return errors.Join(saved, writeCharts(opts.charts, report))
}
