package raftwire

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/errno"
)

// snapshotBody is the Reader of an inbound InstallSnapshot: no more than size bytes
// straight from the connection. It belongs to the consumer until the consumer answers.
type snapshotBody struct {
	conn       *netConn
	claim      func()      // takes conn.In from whoever watches the sender
	othersWait func() bool // reports whether another peer's request waits for the core

	answered atomic.Bool // a Read under way is to end

	mu       sync.Mutex // protects following, and conn.In while the body is open
	left     int64
	err      error
	closed   bool
	clock    bodyClock
	progress progress // hook is called with mu held: what is over stays so
}

var errBodyClosed = errors.New("raftwire: snapshot read after it was answered")

// Read returns io.EOF after the announced size, an error that is
// io.ErrUnexpectedEOF if the sender ended before, and a timeout if it stalls.
func (b *snapshotBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	b.claim()
	n, err := b.read(p)
	b.progress.add(int64(n))
	return n, err
}

func (b *snapshotBody) read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	got, err := b.await(p[:min(int64(len(p)), b.left)])
	b.left -= int64(got)
	if err == nil || b.isInterrupt(err) {
		return got, err
	}
	b.err = b.explain(err)
	return got, b.err
}

// await reads at least a byte. The connection's deadline ends it now and then, to
// see whether the clock still allows the wait.
func (b *snapshotBody) await(p []byte) (int, error) {
	for {
		began := time.Now()
		got, err := b.conn.In.Read(p)
		b.clock.count(time.Since(began), got)
		if !errno.IsTimeout(err) || b.answered.Load() || b.clock.isOver(b.othersWait) {
			return got, err
		}
	}
}

func (b *snapshotBody) explain(err error) error {
	size := b.progress.event.Total
	got := size - b.left
	switch {
	case door.ReasonOf(err) == door.Stalled:
		return b.clock.errStalled(got, size)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errEndedEarly(got, size)
	}
	return fmt.Errorf("the snapshot broke off after %d of %d bytes: %w", got, size, err)
}

func errEndedEarly(got, size int64) error {
	return fmt.Errorf("the sender ended the snapshot after %d of %d bytes: %w", got, size, io.ErrUnexpectedEOF)
}

// isInterrupt reports whether err is what interrupt has done to a Read.
func (b *snapshotBody) isInterrupt(err error) bool {
	return errno.IsTimeout(err) && b.answered.Load() && !b.closed
}

// close takes the body back from the consumer, also from a Read under way, and
// returns how much is unread, and why a Read failed.
func (b *snapshotBody) close() (unread int64, failure error) {
	b.answered.Store(true)
	b.interrupt()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.progress.end()
	return b.left, b.err
}

// interrupt ends a Read under way if the body was answered. Read calls it, too,
// when it has set a deadline.
func (b *snapshotBody) interrupt() {
	if b.answered.Load() {
		_ = b.conn.Raw.SetReadDeadline(conn.LongAgo)
	}
}

// over ends the progress of the body, and returns how much of it the consumer
// has read.
func (b *snapshotBody) over() (read int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress.end()
	return b.progress.event.Done
}

// lookAgain is the time between looks at who else waits for the core.
const lookAgain = 100 * time.Millisecond

// bodyClock says how long a receiver waits for the bytes of a snapshot. It counts
// how far the body is behind: by the time that was waited, less the time that the
// bytes would have taken at MinSnapshotBytesPerSecond. So a body that drips ends as
// one that stalls; time in which nobody reads does not count, and bytes that came
// early are no credit.
type bodyClock struct {
	limits stallLimits
	behind time.Duration
}

// count notes that a wait has brought n bytes.
func (c *bodyClock) count(waited time.Duration, n int) {
	c.behind = max(0, c.behind+waited-time.Duration(n)*time.Second/MinSnapshotBytesPerSecond)
}

// patience is how long to wait before the next look; 0 means for ever.
func (c *bodyClock) patience() time.Duration {
	var wait time.Duration
	if c.limits.timeout > 0 {
		wait = max(c.limits.timeout-c.behind, lookAgain)
	}
	if c.limits.stall > 0 && (wait == 0 || c.limits.stall-c.behind < wait) {
		wait = max(c.limits.stall-c.behind, time.Millisecond)
	}
	return wait
}

// isOver reports whether there is nothing more to wait for. A core that copies the
// body cannot vote meanwhile: so others who wait for it shorten the wait.
func (c *bodyClock) isOver(othersWait func() bool) bool {
	if c.limits.stall > 0 && c.behind >= c.limits.stall {
		return true
	}
	return c.limits.timeout > 0 && c.behind >= c.limits.timeout && othersWait()
}

// errStalled says why isOver was true.
func (c *bodyClock) errStalled(got, size int64) error {
	why := fmt.Sprintf("for Timeout (%v), and another peer's request waits for the core", c.limits.timeout)
	if c.limits.stall > 0 && c.behind >= c.limits.stall {
		why = fmt.Sprintf("for SnapshotStallTimeout (%v)", c.limits.stall)
	}
	return errno.Timeout(fmt.Sprintf("the snapshot stalled after %d of %d bytes: next to nothing came %s", got, size, why))
}
