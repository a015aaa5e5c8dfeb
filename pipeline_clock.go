package raftwire

import (
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/progress"
)

// pipelineClock tells how long a pipeline waits: for the answer to the oldest request
// in flight, and for room. Requests behind a large one wait with it. It is protected
// by pipeline.mu.
type pipelineClock struct {
	link    link
	timeout time.Duration // 0 or less means no limit

	oldest    progress.Clock // of the oldest request in flight
	large     *appendFuture  // the last large one, while it is in flight
	largeDone time.Time      // when the last large one was answered
}

// begin begins the wait for the answer to the oldest request in flight.
func (c *pipelineClock) begin(now time.Time) {
	c.oldest.Restart(now)
	switch {
	case c.timeout <= 0:
	case c.large != nil:
		c.link.setDeadline(c.oldest.NextLook())
	default:
		c.link.setDeadline(c.oldest.Deadline())
	}
}

// stop is called when nothing is in flight.
func (c *pipelineClock) stop() {
	if c.timeout > 0 {
		c.link.setDeadline(time.Time{})
	}
}

// addLarge notes that f, which is in flight, is large.
func (c *pipelineClock) addLarge(f *appendFuture) {
	if c.timeout > 0 {
		c.large = f
		c.link.setDeadline(c.oldest.NextLook())
	}
}

// extend is answerClock.extendWait.
func (c *pipelineClock) extend(check func(*progress.Clock) error, err error) error {
	if c.large == nil {
		return err
	}
	if late := check(&c.oldest); late != nil {
		return late
	}
	c.link.setDeadline(c.oldest.NextLook())
	return nil
}

// answered notes that f was answered.
func (c *pipelineClock) answered(f *appendFuture) {
	if f == c.large {
		c.large, c.largeDone = nil, time.Now()
	}
}

// mayWait returns how much longer a sender, whose request was made at start, may wait
// before that is looked at again. While a large request is in flight, it is seen to
// that it makes progress; after its answer the consumer has a whole timeout.
func (c *pipelineClock) mayWait(start time.Time) time.Duration {
	now, since := time.Now(), start
	if c.large != nil {
		since = now
	} else if c.largeDone.After(start) {
		since = c.largeDone
	}
	return min(c.timeout-now.Sub(since), conn.LargeTimeouts*c.timeout-now.Sub(start))
}
