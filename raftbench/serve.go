package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"
)

const aboutServe = `Answers what "raftbench run -target" sends from another machine, one run at a time:
AppendEntries from one goroutine, heartbeats in their handler, until interrupted. Both
transports speak the same bytes, so either may send to either. Anybody who reaches the
address is answered. Flags:
`

// serveOptions are what the command line asks for.
type serveOptions struct {
	listen  string
	rival   string
	timeout time.Duration
	heap    int
}

func parseServeOptions(args []string, help io.Writer) (serveOptions, error) {
	var o serveOptions
	flags := newFlagSet("serve")
	flags.StringVar(&o.listen, "listen", "", "`HOST:PORT` to listen at; required; \":7000\" is every address of the machine")
	flags.StringVar(&o.rival, "rival", nameRaftwire, "`transport` that receives: "+nameRaftwire+" or "+nameHashicorp)
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit inside a message")
	flags.IntVar(&o.heap, "heap", 64, "`MiB` of live heap to receive with; 0 is an empty process")
	if err := parseFlags(flags, args, aboutServe, help); err != nil {
		return o, err
	}
	_, known := stacks[o.rival]
	switch {
	case !known:
		return o, fmt.Errorf("-rival %q: choose from %s, %s", o.rival, nameRaftwire, nameHashicorp)
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	case o.heap < 0:
		return o, fmt.Errorf("-heap %d: must be 0 or more MiB", o.heap)
	}
	return o, checkAddress("-listen", o.listen)
}

// checkAddress returns what is wrong with the address that a flag has.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf("%s %q: write HOST:PORT, for example 10.0.0.2:7000", flag, address)
	}
	return nil
}

// serve is the command serve.
func serve(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseServeOptions(args, out)
	if err != nil {
		return err
	}
	ballast := liveHeap(o.heap)
	defer runtime.KeepAlive(ballast)
	r, err := stacks[o.rival].listen(o.listen, setup{timeout: o.timeout})
	if err != nil {
		return fmt.Errorf("-listen %s: %w", o.listen, err)
	}
	fmt.Fprintf(out, "%s receives at %s, with %d MiB of live heap, until interrupted\n%s\n", o.rival, r.address(), o.heap, thisMachine())
	<-ctx.Done()
	return r.Close()
}
