package raftwire

import (
	"time"

	"github.com/raftwire/raftwire/internal/progress"
)

// Large requests. Timeout bounds a request of up to largeRequest bytes from
// dialling to its answer. A larger one takes as long as the link needs for its
// bytes: it has Timeout for each step of progress, and largeTimeouts times Timeout
// in total. Where the request is written, a step is what the connection takes.
// Afterwards most of it may still be in the system's buffer, and then a step is
// what the peer acknowledges. Where the system does not tell that, only the total
// bounds the wait for the answer.

const (
	largeRequest  = 1 << 20
	largeTimeouts = 10

	// looksPerTimeout is how often within a timeout somebody looks for progress. A
	// request that makes none fails up to one such interval late.
	looksPerTimeout = 4
)

// newLargeClock returns the clock of a request whose deadline would be deadline if
// it was small. Zero means one timeout from now.
func newLargeClock(timeout time.Duration, deadline time.Time) progress.Clock {
	c := progress.Clock{
		Stall: progress.Limit{After: timeout, Reason: "a request of more than 1 MiB made no progress within Timeout (%v)"},
		Total: progress.Limit{After: largeTimeouts * timeout, Reason: "a request of more than 1 MiB took longer than 10 times Timeout, %v: the link is too slow for it"},
		Look:  timeout / looksPerTimeout,
	}
	c.Restart(time.Now())
	if !deadline.IsZero() {
		c.Began = deadline.Add(-timeout)
	}
	return c
}
