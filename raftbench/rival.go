package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A rival is a way to get requests from here to there.
type rival struct {
	name  string
	takes func(window) bool
	open  func(setup) (exchange, error)
}

func (r rival) String() string { return r.name }

// A setup is what a rival needs to know in order to open an exchange.
type setup struct {
	content content
	window  window
	timeout time.Duration
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
	nameHashicorp = "hashicorp/raft"
	nameRaftwire  = "raftwire"
)

// allRivals are in the order of the table.
var allRivals = []rival{
	{"raw-ping-pong", isOneByOne, openPingPong},
	{"raw-hand-over", isOneByOne, openHandOver},
	{nameHashicorp, isTransports, opensLoop(openHashicorp)},
	{nameRaftwire, isTransports, opensLoop(openRaftwire)},
	{"raw-stream", isStreaming, openStream},
	{"raw-fresh-stream", isStreaming, openFreshStream},
}

func isOneByOne(w window) bool   { return w == oneByOne }
func isStreaming(w window) bool  { return w == streaming }
func isTransports(w window) bool { return w != streaming }

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
