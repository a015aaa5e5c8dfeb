package raftwire

import (
	"sync"
	"sync/atomic"
	"time"
)

// pacer spreads what is sent evenly over time, in the order of its calls.
type pacer struct {
	rate int64 // bytes per second; 0 means no limit

	snapshots atomic.Int64 // under way

	mu   sync.Mutex // protects following
	free time.Time  // when all that was reserved has had its time
}

func (p *pacer) enter() { p.snapshots.Add(1) }
func (p *pacer) leave() { p.snapshots.Add(-1) }

// reserve takes the time for some of n bytes: for a tenth of a second of the
// snapshot's share, so that the receiver sees progress. It returns how many, and how
// long it is until then. Time that nobody took is lost, so there are no bursts.
func (p *pacer) reserve(n int64) (now int64, wait time.Duration) {
	if p.rate <= 0 {
		return n, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	snapshots := p.snapshots.Load()
	share := max(p.rate/snapshots, leastPace)
	now = min(n, share/10)
	if began := time.Now(); p.free.Before(began) {
		p.free = began
	} else {
		wait = p.free.Sub(began)
	}
	p.free = p.free.Add(time.Duration(float64(now) / float64(share*snapshots) * float64(time.Second)))
	return now, wait
}

// progressPause is the shortest time between two calls of SnapshotProgress,
// but for the last.
const progressPause = time.Second

// bodyProgress counts the bytes of a snapshot's body, and tells the hook of them.
type bodyProgress struct {
	tell  func(SnapshotEvent) // hook, or nil
	event SnapshotEvent
	told  time.Duration // when tell was called last, since epoch
}

func newBodyProgress(c *netConn, id ServerID, total int64) bodyProgress {
	return bodyProgress{
		tell:  c.hooks.SnapshotProgress,
		event: SnapshotEvent{ID: id, Peer: c.peer, Inbound: c.inbound, Total: total},
	}
}

// add counts n bytes, unless the transfer is over.
func (p *bodyProgress) add(n int64) {
	if n == 0 || p.event.Over {
		return
	}
	first := p.event.Done == 0
	if p.event.Done += n; p.tell == nil {
		return
	}
	if now := sinceEpoch(); first || now-p.told >= progressPause {
		p.told = now
		p.tell(p.event)
	}
}

func (p *bodyProgress) end() {
	if p.event.Over {
		return
	}
	p.event.Over = true
	if p.tell != nil {
		p.tell(p.event)
	}
}
