package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A rival is a way to get requests from here to there.
type rival struct {
	name  string
	takes func(cell) bool
	open  func(setup) (exchange, error)

	build *build // measures it under the name asks, in another process; or nil
	asks  string
}

func (r rival) String() string { return r.name }

// A setup is what a rival needs to know in order to open an exchange.
type setup struct {
	content   *content // nil means any, for a receiver
	window    window
	followers followers
	rate      float64 // requests a second to each follower; 0 means as many as there can be
	timeout   time.Duration
	target    string                         // a receiver in another process; "" opens one in this
	save      func(snapshot io.Reader) error // of a receiver; nil refuses snapshots

	credentials *credentials // for TLS; nil means plain TCP
	path        path         // between the ends
}

// An exchange is a sender and a receiver, connected and ready.
type exchange interface {
	// run sends requests until stop is set, waits for all answers, and
	// returns how many there were. It records the latency of each if the
	// exchange has one. It may be called again unless it returned an error.
	run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error)

	// Close ends both sides, after run has returned.
	Close() error
}

const (
	nameHandOver   = "raw-hand-over"
	nameHashicorp  = "hashicorp/raft"
	nameRaftwire   = "raftwire"
	nameAdapter    = "hashicorpraft"
	nameHooked     = "raftwire+hooks"
	namePrometheus = "raftwire+prometheus"
)

// allRivals are in the order of the table.
var allRivals = []rival{
	{name: "raw-ping-pong", takes: isCall, open: openPingPong},
	{name: nameHandOver, takes: isHandedOver, open: openHandOver},
	{name: nameHashicorp, takes: isTransports, open: hashicorpStack.open},
	{name: nameRaftwire, takes: isTransports, open: raftwireStack.open},
	{name: "raw-stream", takes: isStreaming, open: openStream},
	{name: "raw-fresh-stream", takes: isStreaming, open: openFreshStream},
	{name: nameAdapter, takes: isTransports, open: adapterStack.open},
	{name: nameHooked, takes: isTransports, open: hookedStack.open},
	{name: namePrometheus, takes: isTransports, open: prometheusStack.open},
}

// defaultRivals leave out what is raftwire with something added to it.
var defaultRivals = slices.DeleteFunc(slices.Clone(allRivals), func(r rival) bool {
	return r.name == nameAdapter || r.name == nameHooked || r.name == namePrometheus
})

var (
	// adapterStack is raftwire with hashicorp's type set.
	adapterStack = hashicorpMaker(newAdapter).stack()
	// hookedStack is raftwire with hooks that do nothing.
	hookedStack = raftwireMaker(newHooked).stack()
	// prometheusStack is raftwire measured by its Prometheus module.
	prometheusStack = raftwireMaker(newPrometheus).stack()
)

// stacks are the rivals that are transports.
var stacks = map[string]stack{
	nameHashicorp: hashicorpStack, nameRaftwire: raftwireStack,
	nameAdapter: adapterStack, nameHooked: hookedStack, namePrometheus: prometheusStack,
}

func isCall(c cell) bool       { return c.window == oneByOne && c.followers == 1 }
func isHandedOver(c cell) bool { return isCall(c) && c.workload != heartbeat }
func isStreaming(c cell) bool {
	return c.window == streaming && c.followers == 1 && c.workload != heartbeat
}
func isTransports(c cell) bool {
	return c.window == oneByOne || (c.window != streaming && c.workload != heartbeat)
}

func (r rival) isTransport() bool {
	_, ok := stacks[r.name]
	return ok
}

func parseRival(s string) (rival, error) {
	names := make([]string, len(allRivals))
	for i, r := range allRivals {
		if r.name == s {
			return r, nil
		}
		names[i] = r.name
	}
	return rival{}, fmt.Errorf("rival %q: choose from %s", s, strings.Join(names, ", "))
}
