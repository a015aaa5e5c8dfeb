package raftwire

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
)

// Stats is what a transport has open and under way, for metrics and for
// debugging. Its parts are looked at one after the other, so they need not fit
// together to the last request.
type Stats struct {
	// Peers are the addresses that were dialled, in order. Of those without a
	// connection no more than about a thousand are remembered.
	Peers []PeerStats
	// Inbound are the hosts that inbound connections come from, in order.
	Inbound []HostStats
	// InboundBytesIn and InboundBytesOut were read from and written to all
	// inbound connections so far.
	InboundBytesIn, InboundBytesOut uint64
	// Refusals counts what was refused.
	Refusals Refusals
}

// PeerStats is about the connections to an address that was dialled.
type PeerStats struct {
	// ID is the server that this node called last at the address: the id of that
	// call.
	ID ServerID
	// Peer is the address.
	Peer ServerAddress
	// LastDial is when the last attempt to connect began.
	LastDial time.Time
	// Idle is how many connections wait in the pool.
	Idle int
	// InUse is how many connections carry a call, a snapshot or a pipeline.
	InUse int
	// Dialing is how many are being made, also for calls that have given up.
	Dialing int
	// InFlight is how many requests have been sent, or are being sent, and not
	// been answered: calls, snapshots, and those in pipelines.
	InFlight int
	// Pipelines are those that are open, in no order.
	Pipelines []PipelineStats
	// LastSuccess is when the last request that was answered without an error
	// was made; zero if none was.
	LastSuccess time.Time
	// BytesIn and BytesOut were read from and written to the address so far.
	BytesIn, BytesOut uint64
}

// PipelineStats is about a pipeline.
type PipelineStats struct {
	// InFlight is how many requests have not been answered.
	InFlight int
	// Unconsumed is how many futures have settled and were not yet consumed.
	Unconsumed int
	// OldestAge is how long ago the oldest request in flight was made; 0 if
	// there is none.
	OldestAge time.Duration
}

// HostStats is about the inbound connections from a host.
type HostStats struct {
	// Host is what stands before the port in their remote addresses, or the network
	// of 64 bits of an IPv6 address; "" if these have none.
	Host string
	// Conns is how many there are.
	Conns int
}

// Stats returns a snapshot. It may be called at any time, also by a hook: it
// waits for nothing but short locks. Its cost grows with the number of open
// connections, so call it every few seconds, not for every request.
func (n *NetworkTransport) Stats() Stats {
	peers := n.pool.stats()
	for _, attached := range n.tasks.Attached() {
		if p, ok := attached.(*pipeline); ok {
			p.addTo(find(peers, p.peer))
		}
	}
	for i := range peers {
		peers[i].addCalls()
	}
	return Stats{
		Peers:           peers,
		Inbound:         n.hostStats(),
		InboundBytesIn:  n.inbound.In.Load(),
		InboundBytesOut: n.inbound.Out.Load(),
		Refusals:        n.Refusals(),
	}
}

// hostStats returns how many connections come from each host, in order.
func (n *NetworkTransport) hostStats() []HostStats {
	hosts := []HostStats{}
	for host, conns := range n.door.Hosts() {
		hosts = append(hosts, HostStats{host, conns})
	}
	slices.SortFunc(hosts, func(a, b HostStats) int { return cmp.Compare(a.Host, b.Host) })
	return hosts
}

// find returns the stats of addr in peers, which are in order, or nil.
func find(peers []PeerStats, addr ServerAddress) *PeerStats {
	i, found := slices.BinarySearchFunc(peers, addr, func(p PeerStats, addr ServerAddress) int {
		return cmp.Compare(p.Peer, addr)
	})
	if !found {
		return nil
	}
	return &peers[i]
}

// addCalls counts what is in flight outside of pipelines: a connection that is
// in use and no pipeline's carries one request.
func (p *PeerStats) addCalls() {
	p.InFlight += max(0, p.InUse-len(p.Pipelines))
}

// addTo adds p to the stats of its peer, which may be nil, if it is open.
func (p *pipeline) addTo(peer *PeerStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || peer == nil {
		return
	}
	s := PipelineStats{InFlight: p.inFlight, Unconsumed: p.futures.Len() - p.inFlight}
	if p.inFlight > 0 {
		s.OldestAge = time.Since(p.futures.At(s.Unconsumed).start)
	}
	peer.Pipelines = append(peer.Pipelines, s)
	peer.InFlight += p.inFlight
}

// stats returns the stats of every peer, in order, without those of pipelines.
func (p *pool) stats() []PeerStats {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peers := make([]PeerStats, 0, len(p.peers))
	for addr, peer := range p.peers {
		s := peer.traffic.stats(addr)
		s.Idle = len(p.connPool[addr])
		s.InUse = len(peer.open) - s.Idle
		s.Dialing = len(peer.dials)
		peers = append(peers, s)
	}
	slices.SortFunc(peers, func(a, b PeerStats) int { return cmp.Compare(a.Peer, b.Peer) })
	return peers
}

// traffic counts what goes to and comes from a peer, or all inbound
// connections.
type traffic struct {
	conn.Counter
	lastSuccess atomic.Int64             // Unix time in ns; 0 for never
	lastDial    atomic.Int64             // likewise
	id          atomic.Pointer[ServerID] // see PeerStats.ID; nil for inbound connections
}

// setID notes the server that is called at the address. Most calls find its ID
// there already, and write nothing.
func (t *traffic) setID(id ServerID) {
	if known := t.id.Load(); known == nil || *known != id {
		t.storeID(id)
	}
}

// storeID allocates id. Inlined, it would make each call of setID do so.
//
//go:noinline
func (t *traffic) storeID(id ServerID) { t.id.Store(&id) }

func (t *traffic) serverID() ServerID {
	if id := t.id.Load(); id != nil {
		return *id
	}
	return ""
}

// answered notes that a request that was made at start was answered without an
// error. t may be nil.
func (t *traffic) answered(start time.Time) {
	if t != nil {
		t.lastSuccess.Store(start.UnixNano())
	}
}

// lastAnswered returns when the last request was made that was answered, or zero.
func (t *traffic) lastAnswered() time.Time { return timeAt(t.lastSuccess.Load()) }

// timeAt returns a Unix time in ns, and the zero time for 0.
func timeAt(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func (t *traffic) stats(addr ServerAddress) PeerStats {
	return PeerStats{
		ID:          t.serverID(),
		Peer:        addr,
		LastDial:    timeAt(t.lastDial.Load()),
		LastSuccess: t.lastAnswered(),
		BytesIn:     t.In.Load(),
		BytesOut:    t.Out.Load(),
	}
}
