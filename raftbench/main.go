package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "compare" {
		if err := compare(os.Args[2:], os.Stdout); err != nil {
			fail(err)
		}
		return
	}
	opts, err := parseOptions(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fail(err)
	default:
		run(opts)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "raftbench:", err)
	os.Exit(1)
}

// run measures and prints whatever was measured, also after an interrupt or a
// failure: figures that are complete are worth showing.
func run(opts options) {
	if err := ensureWritable(opts.json); err != nil {
		fail(fmt.Errorf("-json: %w", err)) // now, not after three minutes
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	report, err := benchmark(ctx, opts, newProgress(os.Stderr))
	if publishErr := publish(report, opts, os.Stdout); publishErr != nil {
		err = errors.Join(err, publishErr)
	}
	if err != nil {
		fail(err)
	}
}

func publish(report *Report, opts options, out io.Writer) error {
	if len(report.Results) == 0 {
		return nil
	}
	writeTable(out, report, opts.bars)
	if opts.json == "" {
		return nil
	}
	return writeJSON(opts.json, report)
}
