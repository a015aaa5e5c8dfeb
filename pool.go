package raftwire

import (
	"cmp"
	"container/list"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

// pool knows every open connection that a transport has dialled, and keeps the idle
// ones for each peer. It waits for nothing but a look at a connection's state.
type pool struct {
	maxPool int
	dialer  dialer

	connPoolLock sync.Mutex // protects following
	connPool     map[ServerAddress][]*netConn
	open         map[*netConn]*peerConns // idle and in use
	peers        map[ServerAddress]*peerConns
	busy         list.List // of peerConns with a connection, a dial or a call that waits
	unused       list.List // of the others; the one left last is at the back
	dials        int       // that are left to themselves, see pool.count
	generation   int       // of connections; CloseStreams begins a new one
	closed       bool
}

// peerConns is what there is to an address that was dialled. All but traffic is
// protected by pool.connPoolLock.
type peerConns struct {
	addr    ServerAddress
	traffic traffic
	open    map[*netConn]*pipeline // nil for what is no pipeline's
	dials   []*dial                // under way, in the order of their beginning
	waiting []*connWaiter          // calls that wait for a connection, likewise
	place   *list.Element
	isBusy  bool // place is in pool.busy
}

// get takes an idle connection to addr that is alive, or returns nil. The one
// used last comes first: it is the most likely to be alive and warm. One whose
// last call began less than freshFor before now is not checked; with the zero
// time all are.
func (p *pool) get(addr ServerAddress, now time.Time) *netConn {
	for {
		c := p.pop(addr)
		if c == nil || c.isFresh(now) || c.IsSilent() {
			return c
		}
		p.discard(c, errPeerGone)
	}
}

func (p *pool) pop(addr ServerAddress) *netConn {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	return p.popIdle(addr)
}

// popIdle is called with connPoolLock held.
func (p *pool) popIdle(addr ServerAddress) *netConn {
	idle := p.connPool[addr]
	if len(idle) == 0 {
		delete(p.connPool, addr) // perhaps nobody asks for it again
		return nil
	}
	last := len(idle) - 1
	c := idle[last]
	idle[last] = nil
	p.connPool[addr] = idle[:last]
	return c
}

// put gives a connection back: after an answer was read to its end, or after it was
// dialled for a call that has gone. It goes to a call that waits for one. Else it is
// kept, unless it is closed, the pool for its peer is full, or it has bytes that belong
// to no request.
func (p *pool) put(c *netConn) {
	if c.In.Buffered() > 0 {
		p.discard(c, errors.New("the peer sent more than an answer"))
		return
	}
	if !sock.CanPeek(c.Raw) || c.isUnused() && sock.IsTLS(c.Raw) {
		// TLS may have a ticket to read before the first answer comes.
		c.EndWriteDeadline() // the call's
		c.StartWatching()
	} else if !c.IsDrained() {
		p.discard(c, errors.New("the peer sent more than an answer, or has gone"))
		return
	}
	if !p.push(c) {
		p.discard(c, errors.New("the pool is full, or the peer has a new address"))
	}
}

func (p *pool) push(c *netConn) bool {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peer := p.open[c]
	if peer == nil || c.retired {
		return false
	}
	if w := peer.nextFor(c); w != nil {
		p.deliver(peer, w, delivery{conn: c, pooled: true})
		return true
	}
	idle, limit := p.connPool[c.peer], p.maxPool
	if c.isUnused() || c.answeredLate {
		limit = max(limit, 1) // the next call would not have the time to make one, either
	}
	if len(idle) >= limit {
		return false
	}
	// The ones that were never used come first: a peer does not wait long for the
	// first request of a connection.
	at := len(idle)
	for at > 0 && !c.isUnused() && idle[at-1].isUnused() {
		at--
	}
	set(&p.connPool, c.peer, slices.Insert(idle, at, c))
	return true
}

// discard closes a connection that is not in the pool, and forgets it.
func (p *pool) discard(c *netConn, why error) {
	defer p.forget(c) // also if a hook panics
	_ = c.Close(why)
}

func (p *pool) forget(c *netConn) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	p.removeConn(c)
}

// removeConn is called with connPoolLock held.
func (p *pool) removeConn(c *netConn) {
	if peer := p.open[c]; peer != nil {
		delete(p.open, c)
		delete(peer.open, c)
		p.sort(peer)
	}
}

// drop closes the idle connections to addr. If it was left, nobody will ask for them
// again: those in use are closed once they are given back.
func (p *pool) drop(addr ServerAddress, why error, left bool) {
	for _, c := range p.takeIdle(addr, left) {
		p.discard(c, why)
	}
}

func (p *pool) takeIdle(addr ServerAddress, left bool) []*netConn {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if peer := p.peers[addr]; left && peer != nil {
		for c := range peer.open {
			c.retired = true
		}
		peer.endAbandoned(errAddressLeft)
	}
	idle := p.connPool[addr]
	delete(p.connPool, addr)
	return idle
}

// sweepPeers is at how many peers sweep looks. It is called once for each new
// address, so that those with dead connections are never more than a fraction of
// those with live ones.
const sweepPeers = 8

// sweep closes the idle connections of some peers that have gone. Their addresses
// may have gone with them, and then nobody would ask for them again.
func (p *pool) sweep() {
	for _, c := range p.takeDead() {
		c.CloseAside(errPeerGone, func() { p.forget(c) }) // the caller is about to call another peer
	}
}

// takeDead takes the dead out of the pool, of the peers whose turn it is. It waits
// for nothing: a look at a socket does not, nor does a watch that found the end of
// its connection.
func (p *pool) takeDead() (dead []*netConn) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	for range min(sweepPeers, p.busy.Len()) {
		next := p.busy.Front()
		p.busy.MoveToBack(next)
		addr := next.Value.(*peerConns).addr
		idle := slices.DeleteFunc(p.connPool[addr], func(c *netConn) bool {
			gone := c.IsDead()
			if gone {
				dead = append(dead, c)
			}
			return gone
		})
		if len(idle) > 0 {
			p.connPool[addr] = idle
		} else {
			delete(p.connPool, addr)
		}
	}
	return dead
}

// addConn makes c one of the pool's open connections. connPoolLock is held.
func (p *pool) addConn(c *netConn, peer *peerConns) {
	set(&p.open, c, peer)
	peer.open[c] = nil
	p.sort(peer)
}

// setPipeline notes what a connection is used for.
func (p *pool) setPipeline(c *netConn, used *pipeline) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if peer := p.open[c]; peer != nil {
		peer.open[c] = used
	}
}

// renew begins a new generation: it empties the pool and returns what was open. The
// connections are closed without holding the lock.
func (p *pool) renew() []*netConn {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	open := slices.Collect(maps.Keys(p.open))
	clear(p.open)
	clear(p.connPool)
	p.generation++
	for _, peer := range p.busyPeers() {
		clear(peer.open)
		peer.endAbandoned(errStreamsClosed)
		p.sort(peer)
	}
	return open
}

// takePeer takes everything to an address out of the pool: calls that wait for a
// connection end with why, and so do dials. The caller closes the connections.
func (p *pool) takePeer(addr ServerAddress, why error) (conns []*netConn) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peer := p.peers[addr]
	if peer == nil {
		return nil
	}
	for len(peer.waiting) > 0 {
		p.deliver(peer, peer.waiting[0], delivery{err: why})
	}
	for _, d := range peer.dials {
		d.end(why)
	}
	for c := range peer.open {
		conns = append(conns, c)
		p.removeConn(c)
	}
	delete(p.connPool, addr)
	return conns
}

// maxPeersKnown is how many addresses are remembered to which there is nothing any
// more. More only come together where addresses change all the time.
const maxPeersKnown = 1000

// peer returns what there is to an address, and whether the address is new.
// connPoolLock is held.
func (p *pool) peer(addr ServerAddress) (peer *peerConns, isNew bool) {
	if peer := p.peers[addr]; peer != nil {
		return peer, false
	}
	peer = &peerConns{addr: addr, open: make(map[*netConn]*pipeline)}
	peer.place = p.unused.PushBack(peer)
	set(&p.peers, addr, peer)
	return peer, true
}

// sort puts a peer, to which something has come or from which something has gone,
// among the busy ones or the others. connPoolLock is held.
func (p *pool) sort(peer *peerConns) {
	isBusy := len(peer.open)+len(peer.dials)+len(peer.waiting) > 0
	if isBusy == peer.isBusy {
		return
	}
	peer.isBusy = isBusy
	from, to := &p.unused, &p.busy
	if !isBusy {
		from, to = to, from
		delete(p.connPool, peer.addr)
	}
	from.Remove(peer.place)
	peer.place = to.PushBack(peer)
	if p.unused.Len() > maxPeersKnown {
		oldest := p.unused.Remove(p.unused.Front()).(*peerConns)
		delete(p.peers, oldest.addr)
	}
}

// busyPeers is called with connPoolLock held.
func (p *pool) busyPeers() []*peerConns {
	peers := make([]*peerConns, 0, p.busy.Len())
	for e := p.busy.Front(); e != nil; e = e.Next() {
		peers = append(peers, e.Value.(*peerConns))
	}
	return peers
}

// stats returns the stats of every peer, in order. Pipelines are asked without the
// lock: they may wait for a connection of somebody else's.
func (p *pool) stats() []PeerStats {
	peers, pipelines := p.ownStats()
	for i := range peers {
		peers[i].addPipelines(pipelines[peers[i].Peer])
	}
	slices.SortFunc(peers, func(a, b PeerStats) int { return cmp.Compare(a.Peer, b.Peer) })
	return peers
}

// ownStats returns what the pool knows itself, and the pipelines of each peer.
func (p *pool) ownStats() (peers []PeerStats, pipelines map[ServerAddress][]*pipeline) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peers = make([]PeerStats, 0, len(p.peers))
	for addr, peer := range p.peers {
		s := peer.traffic.stats(addr)
		s.Idle = len(p.connPool[addr])
		s.InUse = len(peer.open) - s.Idle
		s.Dialing = len(peer.dials)
		peers = append(peers, s)
		for _, used := range peer.open {
			if used != nil {
				set(&pipelines, addr, append(pipelines[addr], used))
			}
		}
	}
	return peers, pipelines
}

// set sets m[key], also if there is no map yet.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[key] = value
}
