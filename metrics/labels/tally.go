package labels

import (
	"sync"
	"time"

	"github.com/raftwire/raftwire"
)

// Tally makes figures for each peer of what the stats of a transport say of each
// address: a peer may have had several. Bytes never become less, also when the
// transport forgets an address.
type Tally struct {
	peers *Peers[PeerFigures]

	mu   sync.Mutex // protects following
	seen map[raftwire.ServerAddress]trace
}

// PeerFigures are what a Tally knows of a peer.
type PeerFigures struct {
	Label                    string // see Peers
	Idle, InUse, Dialing     int
	InFlight                 int
	Pipelines, Unconsumed    int
	Oldest                   time.Duration // age of the oldest request that is in flight on a pipeline; or 0
	LastSuccess              time.Time     // or zero
	BytesReceived, BytesSent uint64
}

// trace is what an address was seen to have last. If it has changed, the address is
// in use.
type trace struct {
	in, out       uint64
	dial, success time.Time
}

// NewTally returns a tally; for its parameters see NewPeers.
func NewTally(omit bool, limit int) *Tally {
	return &Tally{peers: NewPeers[PeerFigures](omit, limit)}
}

// Look takes a transport's stats. It returns them with the figures of each peer, in
// no order.
func (t *Tally) Look(stats func() raftwire.Stats) (raftwire.Stats, []PeerFigures) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := stats() // under the lock: older ones must not come after newer ones
	t.peers.Each(func(p *Peer[PeerFigures]) { p.Kept = p.Kept.lasting() })
	seen := make(map[raftwire.ServerAddress]trace, len(s.Peers))
	for i := range s.Peers {
		p := &s.Peers[i]
		last := t.seen[p.Peer]
		now := trace{p.BytesIn, p.BytesOut, p.LastDial, p.LastSuccess}
		if seen[p.Peer] = now; now != last || p.Idle+p.InUse+p.Dialing > 0 {
			t.peers.Get(p.ID, p.Peer).Kept.add(p, last)
		}
	}
	t.seen = seen
	var all []PeerFigures
	t.peers.Each(func(p *Peer[PeerFigures]) {
		p.Kept.Label = p.Label
		all = append(all, p.Kept)
	})
	return s, all
}

// lasting returns what does not start anew with each look.
func (f PeerFigures) lasting() PeerFigures {
	return PeerFigures{LastSuccess: f.LastSuccess, BytesReceived: f.BytesReceived, BytesSent: f.BytesSent}
}

// add adds what an address has, and of bytes what came since it was seen last.
func (f *PeerFigures) add(p *raftwire.PeerStats, last trace) {
	f.Idle += p.Idle
	f.InUse += p.InUse
	f.Dialing += p.Dialing
	f.InFlight += p.InFlight
	f.Pipelines += len(p.Pipelines)
	for _, pipeline := range p.Pipelines {
		f.Unconsumed += pipeline.Unconsumed
		f.Oldest = max(f.Oldest, pipeline.OldestAge)
	}
	if p.LastSuccess.After(f.LastSuccess) {
		f.LastSuccess = p.LastSuccess
	}
	f.BytesReceived += since(last.in, p.BytesIn)
	f.BytesSent += since(last.out, p.BytesOut)
}

// since returns by how much a count has grown. One that has shrunk began anew.
func since(last, now uint64) uint64 {
	if now < last {
		return now
	}
	return now - last
}
