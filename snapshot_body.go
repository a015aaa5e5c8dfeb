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
	"github.com/raftwire/raftwire/internal/progress"
)

// snapshotBody is the Reader of an inbound InstallSnapshot: no more than Size bytes
// straight from the connection. It belongs to the consumer until the consumer answers.
type snapshotBody struct {
	conn *netConn

	ready    chan struct{} // closed when the session reads no more; nil if it never did
	answered atomic.Bool   // a Read under way is to end, and no other begins

	mu     sync.Mutex // protects following, and conn.In while the body is lent
	left   int64
	err    error
	clock  progress.Clock
	report bodyProgress // hook is called with mu held: what is over stays so
}

var errBodyClosed = errors.New("raftwire: snapshot read after it was answered")

// Read returns io.EOF after the announced size, an error that is
// io.ErrUnexpectedEOF if the sender ended before, and a timeout if it stalls.
func (b *snapshotBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered.Load() {
		return 0, errBodyClosed
	}
	if b.ready != nil {
		<-b.ready
	}
	n, err := b.read(p)
	b.report.add(int64(n))
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
	if err == nil || errno.IsTimeout(err) && b.answered.Load() {
		return got, err
	}
	b.err = b.explain(err)
	return got, b.err
}

// await reads at least a byte. The connection's deadline ends it now and then, to
// see whether the clock still allows the wait.
func (b *snapshotBody) await(p []byte) (int, error) {
	for {
		b.clock.Resume()
		got, err := b.conn.In.Read(p)
		b.clock.Received(got, MinSnapshotBytesPerSecond)
		if !errno.IsTimeout(err) || b.answered.Load() {
			return got, err
		}
		if late := b.clock.Check(false); late != nil {
			return got, late
		}
	}
}

// beforeRead is called before a read of the connection that may block.
func (b *snapshotBody) beforeRead() error {
	_ = b.conn.Raw.SetReadDeadline(b.clock.NextLook())
	b.interrupt() // if it was answered meanwhile
	return nil
}

// interrupt ends a Read under way if the body was answered.
func (b *snapshotBody) interrupt() {
	if b.answered.Load() {
		_ = b.conn.Raw.SetReadDeadline(conn.LongAgo)
	}
}

func (b *snapshotBody) explain(err error) error {
	size := b.report.event.Total
	got := size - b.left
	switch {
	case door.ReasonOf(err) == door.Stalled:
		return errStalled(got, size, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errEndedEarly(got, size)
	}
	return fmt.Errorf("the snapshot broke off after %d of %d bytes: %w", got, size, err)
}

func errStalled(got, size int64, why error) error {
	return errno.Timeout(fmt.Sprintf("the snapshot stalled after %d of %d bytes: %v", got, size, why))
}

func errEndedEarly(got, size int64) error {
	return fmt.Errorf("the sender ended the snapshot after %d of %d bytes: %w", got, size, io.ErrUnexpectedEOF)
}

// close takes the body back from the consumer that has answered, also from a Read
// under way.
func (b *snapshotBody) close() {
	b.answered.Store(true)
	b.interrupt()
}

// end ends the reports of the body. It returns how much of it was read and how much
// was not, and why a Read failed.
func (b *snapshotBody) end() (read, unread int64, failure error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report.end()
	return b.report.event.Done, b.left, b.err
}

// lookAgain is the time between looks at who else waits for the core.
const lookAgain = 100 * time.Millisecond

// bodyClock returns the clock of a receiver. A body that drips ends as one that
// stalls. A core that copies the body cannot vote meanwhile: so others who wait for it
// shorten the wait.
func (l stallLimits) bodyClock(othersWait func() bool) progress.Clock {
	c := progress.Clock{
		Stall: progress.Limit{After: l.stall, Reason: "next to nothing came for SnapshotStallTimeout (%v)"},
		Early: progress.Limit{After: l.timeout, Reason: "next to nothing came for Timeout (%v), and another peer's request waits for the core"},
		Hurry: othersWait,
	}
	if l.timeout > 0 {
		c.Look = lookAgain
	}
	c.Restart(time.Now())
	return c
}
