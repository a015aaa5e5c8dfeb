package raftwire

import (
	"fmt"
	"time"
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

// largeClock tells when a large request has failed.
type largeClock struct {
	timeout time.Duration
	since   time.Time // when the total began
	moved   time.Time // when progress was seen last
	acked   int64     // bytes that the peer had then, see conn.checkAcked
}

// newLargeClock returns the clock of a request whose deadline would be deadline if
// it was small. Zero means one timeout from now.
func newLargeClock(timeout time.Duration, deadline time.Time) largeClock {
	now := time.Now()
	l := largeClock{timeout: timeout, since: now, moved: now}
	if !deadline.IsZero() {
		l.since = deadline.Add(-timeout)
	}
	return l
}

// restart begins the total anew.
func (l *largeClock) restart(now time.Time) { l.since, l.moved = now, now }

// deadline returns when the request fails, if there is no progress until then.
func (l *largeClock) deadline() time.Time {
	return earlier(l.moved.Add(l.timeout), l.since.Add(largeTimeouts*l.timeout))
}

// nextLook returns when to look for progress next.
func (l *largeClock) nextLook() time.Time {
	return earlier(time.Now().Add(l.timeout/looksPerTimeout), l.deadline())
}

// check is told whether there was progress since it was called last. It returns a
// timeout if the request has failed.
func (l *largeClock) check(progress bool) error {
	now := time.Now()
	if progress {
		l.moved = now
	}
	switch {
	case now.Sub(l.since) >= largeTimeouts*l.timeout:
		return timeoutError(fmt.Sprintf("a request of more than %d bytes took longer than %d times Timeout (%v): the link is too slow for it", largeRequest, largeTimeouts, l.timeout))
	case now.Sub(l.moved) >= l.timeout:
		return timeoutError(fmt.Sprintf("a request of more than %d bytes made no progress within Timeout (%v)", largeRequest, l.timeout))
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
