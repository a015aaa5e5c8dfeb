package conn

import (
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/sock"
)

// Large messages. Timeout bounds a message of up to LargeMessage bytes from
// dialling to its answer. A larger one takes as long as the link needs for its
// bytes: it has Timeout for each step of progress, and LargeTimeouts times Timeout
// in total. Where the message is written, a step is what the connection takes.
// Afterwards most of it may still be in the system's buffer, and then a step is
// what the peer acknowledges. Where the system does not tell that, only the total
// bounds the wait for the answer.

const (
	LargeMessage  = 1 << 20
	LargeTimeouts = 10

	// LooksPerTimeout is how often within a timeout somebody looks for progress. A
	// message that makes none fails up to one such interval late.
	LooksPerTimeout = 4

	maxTLSRecord = 16 << 10 // RFC 8446 §5.1
)

// LargeClock returns the clock of a request whose deadline would be deadline if
// it was small. Zero means one timeout from now.
func LargeClock(timeout time.Duration, deadline time.Time) progress.Clock {
	c := progress.Clock{
		Stall: progress.Limit{After: timeout, Reason: "a request of more than 1 MiB made no progress within Timeout (%v)"},
		Total: progress.Limit{After: LargeTimeouts * timeout, Reason: "a request of more than 1 MiB took longer than 10 times Timeout, %v: the link is too slow for it"},
		Look:  timeout / LooksPerTimeout,
	}
	c.Restart(time.Now())
	if !deadline.IsZero() {
		c.Began = deadline.Add(-timeout)
	}
	return c
}

// WriteSteadily writes p for as long as clock allows. The caller owns the connection's
// output.
func (c *Conn) WriteSteadily(p []byte, clock *progress.Clock) error {
	return c.writeSteadily(Batch{Bytes: p}, clock)
}

// writeSteadily writes a batch for as long as clock allows.
func (c *Conn) writeSteadily(b Batch, clock *progress.Clock) error {
	if !sock.IsSocket(c.Raw) {
		return c.writeRecords(b.Bytes, clock)
	}
	c.arrange(b)
	defer clear(c.pieces)
	clock.Grew(c.sent.Load())
	for {
		_ = c.Raw.SetWriteDeadline(clock.NextLook())
		err := c.writeVector()
		if !errno.IsTimeout(err) {
			return err
		}
		if late := clock.Check(clock.Grew(c.sent.Load())); late != nil {
			return late
		}
	}
}

// writeRecords gives each record the time of a step. TLS cannot go on where a
// deadline has interrupted a write, and another layer may be TLS.
func (c *Conn) writeRecords(p []byte, clock *progress.Clock) error {
	for len(p) > 0 {
		record := p[:min(len(p), maxTLSRecord)]
		p = p[len(record):]
		_ = c.Raw.SetWriteDeadline(clock.Deadline())
		err := c.writeBytes(record)
		if late := clock.Check(err == nil); late != nil && (err == nil || errno.IsTimeout(err)) {
			return late
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckAcked is clock.Check where a large request was written: the peer's
// acknowledgements are its progress.
func (c *Conn) CheckAcked(clock *progress.Clock) error {
	unacked, known := sock.UnackedBytes(c.Raw)
	return clock.Check(clock.Grew(c.sent.Load()-unacked) || !known)
}
