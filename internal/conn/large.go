package conn

import (
	"fmt"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
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

	// looksPerTimeout is how often within a timeout somebody looks for progress. A
	// message that makes none fails up to one such interval late.
	looksPerTimeout = 4
)

// Clock tells when a large message has failed.
type Clock struct {
	timeout time.Duration
	since   time.Time // when the total began
	moved   time.Time // when progress was seen last
	acked   int64     // bytes that the peer had then, see Conn.CheckAcked
}

// NewClock returns the clock of a request whose deadline would be deadline if
// it was small. Zero means one timeout from now.
func NewClock(timeout time.Duration, deadline time.Time) Clock {
	now := time.Now()
	l := Clock{timeout: timeout, since: now, moved: now}
	if !deadline.IsZero() {
		l.since = deadline.Add(-timeout)
	}
	return l
}

// Restart begins the total anew.
func (l *Clock) Restart(now time.Time) { l.since, l.moved = now, now }

// Deadline returns when the request fails, if there is no progress until then.
func (l *Clock) Deadline() time.Time {
	return earlier(l.moved.Add(l.timeout), l.since.Add(LargeTimeouts*l.timeout))
}

// NextLook returns when to look for progress next.
func (l *Clock) NextLook() time.Time {
	return earlier(time.Now().Add(l.timeout/looksPerTimeout), l.Deadline())
}

// Check is told whether there was progress since it was called last. It returns a
// timeout if the request has failed.
func (l *Clock) Check(progress bool) error {
	now := time.Now()
	if progress {
		l.moved = now
	}
	switch {
	case now.Sub(l.since) >= LargeTimeouts*l.timeout:
		return errno.Timeout(fmt.Sprintf("a request of more than %d bytes took longer than %d times Timeout (%v): the link is too slow for it", LargeMessage, LargeTimeouts, l.timeout))
	case now.Sub(l.moved) >= l.timeout:
		return errno.Timeout(fmt.Sprintf("a request of more than %d bytes made no progress within Timeout (%v)", LargeMessage, l.timeout))
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// writeLarge writes a batch for as long as it makes progress.
func (c *Conn) writeLarge(b Batch, clock Clock) error {
	if !CanGather(c.Raw) {
		return c.writePieces(b.Bytes, clock)
	}
	c.arrange(b)
	defer clear(c.pieces)
	for {
		before := c.sent.Load()
		_ = c.Raw.SetWriteDeadline(clock.NextLook())
		err := c.writeVector()
		if !errno.IsTimeout(err) {
			return err
		}
		if late := clock.Check(c.sent.Load() > before); late != nil {
			return late
		}
	}
}

// writePieces gives each piece the time of a step. TLS cannot go on where a
// deadline has interrupted a write, and another layer may be TLS.
func (c *Conn) writePieces(p []byte, clock Clock) error {
	for len(p) > 0 {
		piece := p[:min(len(p), maxTLSRecord)]
		p = p[len(piece):]
		_ = c.Raw.SetWriteDeadline(clock.Deadline())
		err := c.writeBytes(piece)
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
func (c *Conn) CheckAcked(clock *Clock) error {
	unacked, known := sock.UnackedBytes(c.Raw)
	acked := c.sent.Load() - unacked
	progress := !known || acked > clock.acked
	clock.acked = acked
	return clock.Check(progress)
}
