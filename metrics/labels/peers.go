package labels

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire"
)

const (
	// KeepFor is how long a peer is kept for which nothing happens and to which no
	// connection is open.
	KeepFor = time.Hour

	// DefaultMaxPeers is how many peers are kept apart if nobody says otherwise.
	DefaultMaxPeers = 256

	// Other is the label of the peers beyond that.
	Other = "other"
)

// Peers keeps what belongs to each peer, such as its series, under the label that
// stands for the peer: the ID that the caller gave, or the address if that is empty.
// A peer is dropped when nothing has happened for KeepFor and no connection is open;
// an observation at that very moment may be lost. There is a limit, and the peers
// beyond it are one, Other. All methods may be called by several goroutines.
type Peers[V any] struct {
	omit bool
	max  int

	all sync.Map // of *Peer[V], by label

	mu    sync.Mutex // protects following, and orders changes of all
	known int        // in all
	swept time.Time
}

// Peer is an entry of Peers: a label, and what is kept under it.
type Peer[V any] struct {
	Label string
	Kept  V

	active atomic.Bool  // something has happened since it was swept last
	conns  atomic.Int32 // open
	since  time.Time    // the last sweep that found it in use; protected by Peers.mu
}

// sweepPause is the shortest time between two sweeps.
const sweepPause = time.Minute

// NewPeers returns peers without an entry. If omit is set, all of them are one, with
// an empty label. limit is the most that are kept apart; 0 and less mean
// DefaultMaxPeers.
func NewPeers[V any](omit bool, limit int) *Peers[V] {
	if limit <= 0 {
		limit = DefaultMaxPeers
	}
	return &Peers[V]{omit: omit, max: limit}
}

// Get returns the peer that something has happened to.
func (p *Peers[V]) Get(id raftwire.ServerID, addr raftwire.ServerAddress) *Peer[V] {
	key := p.key(id, addr)
	one := p.find(key)
	if one == nil {
		one = p.add(key)
	}
	if !one.active.Load() {
		one.active.Store(true)
	}
	return one
}

// Opened notes that a connection to a peer was opened.
func (p *Peers[V]) Opened(id raftwire.ServerID, addr raftwire.ServerAddress) {
	p.Get(id, addr).conns.Add(1)
}

// Closed notes that a connection to a peer was closed.
func (p *Peers[V]) Closed(id raftwire.ServerID, addr raftwire.ServerAddress) {
	one := p.find(validLabel(p.key(id, addr)))
	if one == nil {
		one = p.find(Other)
	}
	if one != nil { // else it was dropped
		one.conns.Add(-1)
		one.active.Store(true)
	}
}

// Each drops the peers that are gone and calls f with the others, in no order.
func (p *Peers[V]) Each(f func(*Peer[V])) {
	p.mu.Lock()
	p.sweep(time.Now())
	p.mu.Unlock()
	for _, one := range p.all.Range {
		f(one.(*Peer[V]))
	}
}

func (p *Peers[V]) key(id raftwire.ServerID, addr raftwire.ServerAddress) string {
	switch {
	case p.omit:
		return ""
	case id != "":
		return string(id)
	}
	return string(addr)
}

func (p *Peers[V]) find(key string) *Peer[V] {
	one, _ := p.all.Load(key)
	found, _ := one.(*Peer[V])
	return found
}

// add returns the peer with a key, or Other if there is no room for it.
func (p *Peers[V]) add(key string) *Peer[V] {
	p.mu.Lock()
	defer p.mu.Unlock()
	key = validLabel(key)
	if p.find(key) == nil && !p.hasRoom() {
		key = Other
	}
	if one := p.find(key); one != nil {
		return one
	}
	one := &Peer[V]{Label: strings.Clone(key)} // the key may be a part of something large
	p.all.Store(one.Label, one)
	p.known++
	return one
}

// validLabel returns a label as every metrics library wants it.
func validLabel(key string) string { return strings.ToValidUTF8(key, "\uFFFD") }

// hasRoom is called with mu held.
func (p *Peers[V]) hasRoom() bool {
	if p.known >= p.max {
		p.sweep(time.Now())
	}
	return p.known < p.max
}

// sweep drops the peers that are gone. mu is held.
func (p *Peers[V]) sweep(now time.Time) {
	if now.Sub(p.swept) < sweepPause {
		return
	}
	p.swept = now
	for key, value := range p.all.Range {
		one := value.(*Peer[V])
		switch {
		case one.active.Swap(false) || one.conns.Load() > 0:
			one.since = now
		case now.Sub(one.since) >= KeepFor:
			p.all.Delete(key)
			p.known--
		}
	}
}
