// Package progress limits how long something may go on that has to make progress.
package progress

import (
	"fmt"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
)

// A Limit is over After some time; 0 means never. Reason says what its error says,
// with a verb for After.
type Limit struct {
	After  time.Duration
	Reason string
}

func (l Limit) isOver(d time.Duration) bool { return l.After > 0 && d >= l.After }

func (l Limit) err() error { return errno.Timeout(fmt.Sprintf(l.Reason, l.After)) }

// from returns when the limit is over for what began then; zero is never.
func (l Limit) from(began time.Time) time.Time {
	if l.After <= 0 {
		return time.Time{}
	}
	return began.Add(l.After)
}

// A Clock tells whether something has failed that has to make progress. It is used
// by one goroutine at a time; Restart sets it going.
type Clock struct {
	Stall Limit       // without progress
	Early Limit       // without progress, if Hurry says so
	Hurry func() bool // not nil if Early is set
	Total Limit       // in all
	Look  time.Duration

	Began time.Time // when the total began
	Moved time.Time // when there was progress last
	Count int64     // what Grew was told last

	seen time.Time // see Resume
}

// Restart begins all limits anew.
func (c *Clock) Restart(now time.Time) { c.Began, c.Moved, c.seen = now, now, now }

// Deadline returns when there is nothing more to wait for, if there is no progress
// until then; zero is never.
func (c *Clock) Deadline() time.Time {
	return earlier(c.Stall.from(c.Moved), c.Total.from(c.Began))
}

// NextLook returns when to call Check next: after Look, if that is not 0, or at the
// deadline.
func (c *Clock) NextLook() time.Time {
	return earlier(Limit{After: c.Look}.from(time.Now()), c.Deadline())
}

// Check is told whether there was progress since it was called last. It returns a
// timeout if a limit is over.
func (c *Clock) Check(progress bool) error {
	now := time.Now()
	if progress {
		c.Moved = now
	}
	idle := now.Sub(c.Moved)
	switch {
	case c.Total.isOver(now.Sub(c.Began)):
		return c.Total.err()
	case c.Stall.isOver(idle):
		return c.Stall.err()
	case c.Early.isOver(idle) && c.Hurry():
		return c.Early.err()
	}
	return nil
}

// Grew reports whether count is higher than the one before.
func (c *Clock) Grew(count int64) bool {
	grew := count > c.Count
	c.Count = count
	return grew
}

// Resume begins a wait for bytes that have to come at a rate. The time since Received
// does not count: nobody has waited for them.
func (c *Clock) Resume() {
	now := time.Now()
	c.Moved, c.seen = c.Moved.Add(now.Sub(c.seen)), now
}

// Received ends a wait that has brought n bytes. They are as much progress as the
// time that they take at rate bytes a second: bytes that drip make less than the wait
// has cost. Those that come early are no credit.
func (c *Clock) Received(n int, rate int64) {
	c.seen = time.Now()
	c.Moved = earlier(c.seen, c.Moved.Add(time.Duration(n)*time.Second/time.Duration(rate)))
}

// earlier returns the earlier one of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
