package main

import (
	"sync/atomic"
	"time"
)

// A pace says when requests begin: each as soon as whoever sends it is ready
// (a closed loop), or at times that do not depend on answers (an open loop).
// Latency counts from then.
type pace struct {
	every time.Duration // between two requests; 0 in a closed loop
	start time.Time     // of the first request
	begun atomic.Int64  // requests
}

// newPace returns the pace of so many requests a second, or of a closed loop
// for 0.
func newPace(rate float64) *pace {
	if rate == 0 {
		return new(pace)
	}
	return &pace{every: time.Duration(float64(time.Second) / rate), start: time.Now()}
}

// next waits until the next request is to begin, and returns when that was to
// be. It returns false if quit was closed.
func (p *pace) next(quit <-chan struct{}) (time.Time, bool) {
	select {
	case <-quit:
		return time.Time{}, false
	default:
	}
	if !p.open() {
		return time.Now(), true
	}
	begin := p.at(p.begun.Add(1) - 1)
	wait := time.Until(begin)
	if wait <= 0 {
		return begin, true
	}
	select {
	case <-time.After(wait):
		return begin, true
	case <-quit:
		return time.Time{}, false
	}
}

// at returns when a request of an open loop begins, the first being 0.
func (p *pace) at(i int64) time.Time { return p.start.Add(time.Duration(i) * p.every) }

// open reports whether the loop is open.
func (p *pace) open() bool { return p.every > 0 }
