package raftwire

import (
	"cmp"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/progress"
)

const (
	// snapshotChunk is how much is read and written at once.
	snapshotChunk = 64 << 10

	// MinSnapshotBytesPerSecond is the least average rate of a snapshot that is
	// received. A slower one falls behind. It ends once it is behind by
	// SnapshotStallTimeout, or by Timeout if another peer's request waits for the
	// core. Time in which nobody reads the body does not count.
	MinSnapshotBytesPerSecond = 4 << 10

	// leastPace is what each snapshot may send in a second at least: twice what a
	// receiver asks for, because links are not even.
	leastPace = 2 * MinSnapshotBytesPerSecond

	// defaultSnapshotStallTimeout is SnapshotStallTimeout if that is 0.
	defaultSnapshotStallTimeout = time.Minute

	// maxRestoreTimeout caps the default of RestoreTimeout.
	maxRestoreTimeout = time.Hour

	// silentTimeouts is how many Timeouts a sender waits for a peer that takes
	// nothing of a snapshot, and answers no other request either.
	silentTimeouts = 3
)

// stallLimits are how long a snapshot may make no progress.
type stallLimits struct {
	timeout time.Duration // for one request; 0 means no limit
	stall   time.Duration // for any stall; 0 means no limit
}

// defaultStallLimits are those for a timeout if nothing else is configured.
func defaultStallLimits(timeout time.Duration) stallLimits {
	if timeout <= 0 {
		return stallLimits{}
	}
	return stallLimits{timeout, max(defaultSnapshotStallTimeout, timeout)}
}

// sendClock returns the clock of a sender. answered returns when the peer was asked
// last what it has answered, or zero: one that answers other requests may stall for
// longer.
func (l stallLimits) sendClock(answered func() time.Time) progress.Clock {
	silent := silentTimeouts * l.timeout
	c := progress.Clock{
		Stall: progress.Limit{After: l.stall, Reason: "sending the snapshot: no progress for SnapshotStallTimeout (%v): the peer reads nothing"},
		Early: progress.Limit{After: silent, Reason: "sending the snapshot: no progress, and the peer answered no other request, for 3 Timeouts (%v)"},
		Hurry: func() bool { return time.Since(answered()) >= silent },
		Look:  cmp.Or(l.timeout, l.stall) / conn.LooksPerTimeout,
	}
	c.Restart(time.Now())
	return c
}
