package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"time"
)

const aboutServe = `Answers what "raftbench run -target" sends from another machine, one run at a time:
AppendEntries from one goroutine, heartbeats in their handler, until interrupted. Both
transports speak the same bytes, so either may send to either. Anybody who reaches the
address is answered; with -tls, whoever has the secret that is printed. Flags:
`

// serveOptions are what the command line asks for.
type serveOptions struct {
	listen  string
	rival   string
	timeout time.Duration
	heap    int
	tls     bool
}

func parseServeOptions(args []string, help io.Writer) (serveOptions, error) {
	var o serveOptions
	flags := newFlagSet("serve")
	flags.StringVar(&o.listen, "listen", "", "`HOST:PORT` to listen at; required; \":7000\" is every address of the machine")
	flags.StringVar(&o.rival, "rival", nameRaftwire, "`transport` that receives: "+stackNames())
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit inside a message")
	flags.IntVar(&o.heap, "heap", 64, "`MiB` of live heap to receive with; 0 is an empty process")
	flags.BoolVar(&o.tls, "tls", false, "over TLS, with a certificate that is made for the run, and a secret that the sender has to know")
	if err := parseFlags(flags, args, aboutServe, help); err != nil {
		return o, err
	}
	_, known := stacks[o.rival]
	switch {
	case !known:
		return o, fmt.Errorf("-rival %q: choose from %s", o.rival, stackNames())
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	}
	return o, errors.Join(checkHeap(o.heap), checkAddress("-listen", o.listen))
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
	s, secret := setup{timeout: o.timeout}, ""
	if o.tls {
		secret = newSecret()
		if s.credentials, err = newCredentials(secret); err != nil {
			return err
		}
	}
	r, err := stacks[o.rival].listen(o.listen, s)
	if err != nil {
		return fmt.Errorf("-listen %s: %w", o.listen, err)
	}
	fmt.Fprintf(out, "%s receives over %s at %s, with %d MiB of live heap, until interrupted\n%s\n", o.rival, wire(o.tls), r.address(), o.heap, thisMachine())
	if o.tls {
		fmt.Fprintf(out, "for the other machine: run -target HOST:PORT -tls-secret %s\n", secret)
	}
	<-ctx.Done()
	return r.Close()
}

func stackNames() string { return strings.Join(slices.Sorted(maps.Keys(stacks)), ", ") }
