// Package faultnet is a network in memory for tests: hosts, connections with
// bounded buffers, and faults that a test switches on and off.
//
// # Use
//
// A [Network] has hosts, known by name. [Host.Listen] gives a [Layer],
// which a raftwire.NetworkTransport takes as its Stream; [Host.Dial] is for raw
// clients. Connections behave like TCP. Bytes arrive in order or not at all.
// Writers block while the reader is slow. Deadlines interrupt calls under way. Bytes
// that were written before Close still arrive. A peer that is gone answers with a
// reset.
//
// # Faults
//
// A [Link] has a direction. It can be cut ([Link.Cut]), or be slow in three ways
// ([Link.SetLatency], [Link.SetJitter], [Link.SetBandwidth]). It can deliver in small
// pieces ([Link.Slice]), flip bits ([Link.Corrupt]), break connections
// ([Link.ResetAfter]), or lose everything on them ([Link.Drop]). A cut link loses
// nothing, because TCP sends again: it holds bytes, closes and resets until it heals.
// [Network.Partition], [Network.Isolate], [Network.Heal] and [Network.Reset] are for
// several links at once. A [Host] can refuse connections, fail to accept them, crash,
// lose its power and restart.
//
// # Plans
//
// Each of these is a [Fault], which has a text and can be applied. A [Plan] is a
// schedule of faults, written by hand, drawn at random ([RandomPlan]) or recorded
// ([Network.History]). Let a test that fails print its network. The first line has
// the seed, and the other lines are the history: [ParsePlan] makes a plan of them.
// With [Inmem] a plan runs on a raftwire.InmemNetwork, too.
//
//	t.Cleanup(func() {
//		if t.Failed() {
//			t.Log(network)
//		}
//	})
//
// # Time
//
// A network waits by condition variables and timers, and holds no lock meanwhile. So
// inside a testing/synctest bubble it runs on the bubble's fake clock: a deadline ends
// a call at exactly its time. Do not share a network between bubbles.
//
// # Seeds
//
// The seed of [New] decides everything random, for each link on its own. It does not
// decide the order in which goroutines run: a seed repeats decisions, not schedules.
//
// # Leaks
//
// [Network.OpenConns] and [Network.Bytes] are zero again when everything
// was closed.
package faultnet

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/faults"
)

const (
	networkName = "faultnet"

	// DefaultBuffer is how many bytes a direction of a connection holds.
	DefaultBuffer = 64 << 10

	// firstPort numbers the dialling ends of connections.
	firstPort = 40000
)

// Network is a set of hosts and the links between them. Its methods, and those
// of everything that it gives out, may be called by several goroutines at once.
// Only Dial, Accept, Read, Write and [Plan.Run] block.
type Network struct {
	// mu protects everything in the network. It is held for moments only,
	// never while blocked, so one for all is the simplest thing that works.
	mu sync.Mutex
	// changed is what dials wait for: a link, a host or a listener.
	changed sync.Cond

	seed    int64
	start   time.Time
	history Plan
	hosts   map[string]*Host
	links   map[[2]*Host]*Link
	buffer  int
	slice   int // for links that are made from now on
	tap     func(from, to string, data []byte)
	conns   int // connection ends made so far, numbers them
}

// New returns a network without hosts and without faults.
func New(seed int64) *Network {
	n := &Network{
		seed:   seed,
		start:  time.Now(),
		hosts:  make(map[string]*Host),
		links:  make(map[[2]*Host]*Link),
		buffer: DefaultBuffer,
	}
	n.changed.L = &n.mu
	return n
}

// Host returns the host of this name. Its name is its address; a port in it has no
// meaning. A host is made and switched on by its first use, also by a fault or a plan
// that names it: a fault at a misspelt name hits a host on which nothing runs.
func (n *Network) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host(name)
}

// Link returns what carries bytes from one host to the other, in this
// direction only.
func (n *Network) Link(from, to string) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(n.host(from), n.host(to))
}

// SetBuffer sets how many bytes a direction of a connection holds before its
// writer blocks, for connections dialled from now on.
func (n *Network) SetBuffer(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buffer = max(bytes, 1)
}

// Slice is [Link.Slice] for every link, also for those that nothing uses yet.
func (n *Network) Slice(limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slice = limit
	for _, l := range n.links {
		l.slice = int64(limit)
	}
}

// Tap makes the network show what is written, in the order of each connection;
// nil ends it. tap must not block, keep data or use the network.
func (n *Network) Tap(tap func(from, to string, data []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = tap
}

// Partition cuts the links between two hosts, both ways.
func (n *Network) Partition(a, b string) { n.must(Fault{Action: Partition, Hosts: []string{a, b}}) }

// Isolate cuts every link between the group, at least one host, and the other
// hosts that exist so far, both ways. Within the group and among the others
// nothing changes.
func (n *Network) Isolate(group ...string) { n.must(Fault{Action: Isolate, Hosts: group}) }

// Heal ends every cut. It ends no other fault of links, and hosts that are down stay
// down.
func (n *Network) Heal() { n.must(Fault{Action: Heal}) }

// Reset breaks every connection between two hosts, as a box in between would:
// both ends fail with a reset, after what has already arrived was read.
func (n *Network) Reset(a, b string) { n.must(Fault{Action: Reset, Hosts: []string{a, b}}) }

// OpenConns returns how many connection ends were not closed yet by their
// owner. A connection that waits to be accepted counts, and so does one that
// was reset, like a descriptor.
func (n *Network) OpenConns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	open := 0
	for _, h := range n.hosts {
		open += len(h.conns)
	}
	return open
}

// Bytes returns how many bytes were written and not yet read, for ends that
// are still open.
func (n *Network) Bytes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	held := 0
	for _, h := range n.hosts {
		for c := range h.conns {
			held += c.held()
		}
	}
	return held
}

func (n *Network) host(name string) *Host {
	h := n.hosts[name]
	if h == nil {
		h = &Host{net: n, name: name, conns: make(map[*Conn]struct{})}
		n.hosts[name] = h
	}
	return h
}

func (n *Network) link(from, to *Host) *Link {
	key := [2]*Host{from, to}
	l := n.links[key]
	if l == nil {
		l = &Link{net: n, from: from, to: to, slice: int64(n.slice), random: faults.Random(n.seed, from.name, to.name)}
		n.links[key] = l
	}
	return l
}

// orderedLinks returns the links in the order of their hosts' names.
func (n *Network) orderedLinks() []*Link {
	return slices.SortedFunc(maps.Values(n.links), func(a, b *Link) int { return slices.Compare(a.ends(), b.ends()) })
}

func (n *Network) partition(a, b *Host) {
	n.link(a, b).setCut(true)
	n.link(b, a).setCut(true)
}

func (n *Network) isolate(group []string) {
	for _, name := range group {
		n.host(name)
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(n.hosts)), func(name string) bool { return slices.Contains(group, name) })
	for _, inside := range group {
		for _, outside := range others {
			n.partition(n.host(inside), n.host(outside))
		}
	}
}

func (n *Network) heal() {
	for _, l := range n.orderedLinks() {
		l.setCut(false)
	}
}

func (n *Network) reset(a, b *Host) {
	for _, c := range ordered(a.conns) {
		if c.peer.host == b {
			c.breakOff()
		}
	}
}

// wake makes dials look again. It is called without mu.
func (n *Network) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed.Broadcast()
}

// Addr is the address of a host, or of one end of a connection.
type Addr string

// Network returns "faultnet".
func (a Addr) Network() string { return networkName }

// String returns the host's name, with a number for a dialling end.
func (a Addr) String() string { return string(a) }
