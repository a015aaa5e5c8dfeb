package hashicorpraft

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

var _ raft.LoopbackTransport = (*InmemTransport)(nil)

// InmemTransport is raftwire's transport in memory, with the types of
// hashicorp/raft. It stands where a *raft.InmemTransport stood.
type InmemTransport struct {
	*Transport
	peers raftwire.WithPeers
}

// NewInmemTransport returns a transport in memory and its address, a new one
// if addr is empty. It is [raft.NewInmemTransport] with raftwire underneath.
func NewInmemTransport(addr raft.ServerAddress) (raft.ServerAddress, *InmemTransport) {
	_, inmem := raftwire.NewInmemTransport(raftwire.ServerAddress(addr))
	return wrapInmem(inmem)
}

// NewInmemTransportWithTimeout is [NewInmemTransport] with the time that a
// request may take.
func NewInmemTransportWithTimeout(addr raft.ServerAddress, timeout time.Duration) (raft.ServerAddress, *InmemTransport) {
	_, inmem := raftwire.NewInmemTransportWithTimeout(raftwire.ServerAddress(addr), timeout)
	return wrapInmem(inmem)
}

func wrapInmem(inmem raftwire.LoopbackTransport) (raft.ServerAddress, *InmemTransport) {
	wrapper := WrapInmem(inmem)
	return wrapper.LocalAddr(), wrapper
}

// WrapInmem is [Wrap] for a transport in memory, made with the options that
// only raftwire has.
func WrapInmem(inmem raftwire.LoopbackTransport) *InmemTransport {
	return &InmemTransport{Transport: Wrap(inmem), peers: inmem}
}

// Connect makes peer reachable through t, which is a transport of this
// package, or embeds one. It panics for any other: the transports of
// hashicorp/raft keep their own memory.
func (i *InmemTransport) Connect(peer raft.ServerAddress, t raft.Transport) {
	wrapper, ok := t.(interface{ Unwrap() raftwire.Transport })
	if !ok {
		panic(fmt.Sprintf("hashicorpraft: cannot connect a %T: make it with this package's constructors", t))
	}
	i.peers.Connect(raftwire.ServerAddress(peer), wrapper.Unwrap())
}

// Disconnect makes peer unreachable.
func (i *InmemTransport) Disconnect(peer raft.ServerAddress) {
	i.peers.Disconnect(raftwire.ServerAddress(peer))
}

// DisconnectAll makes every peer unreachable.
func (i *InmemTransport) DisconnectAll() { i.peers.DisconnectAll() }

// InmemNetwork is raftwire's network of transports in memory, with the types of
// hashicorp/raft.
type InmemNetwork struct{ inner *raftwire.InmemNetwork }

// NewInmemNetwork returns a network without transports.
func NewInmemNetwork(config raftwire.InmemNetworkConfig) *InmemNetwork {
	return &InmemNetwork{raftwire.NewInmemNetwork(config)}
}

// Add returns a new transport at addr that reaches every other, and is reached
// by them. One that was there before is closed and replaced.
func (n *InmemNetwork) Add(addr raft.ServerAddress) *InmemTransport {
	var added *InmemTransport
	n.inner.Add(raftwire.ServerAddress(addr), func(inner *raftwire.InmemTransport) {
		added = WrapInmem(inner) // before a peer's request could go to its Consumer
	})
	return added
}

// Link returns what carries messages from one address to another, in this
// direction only.
func (n *InmemNetwork) Link(from, to raft.ServerAddress) *raftwire.InmemLink {
	return n.inner.Link(raftwire.ServerAddress(from), raftwire.ServerAddress(to))
}

// Partition cuts the links between two addresses, both ways.
func (n *InmemNetwork) Partition(a, b raft.ServerAddress) {
	n.inner.Partition(raftwire.ServerAddress(a), raftwire.ServerAddress(b))
}

// Isolate cuts every link between the group and the other addresses so far,
// both ways.
func (n *InmemNetwork) Isolate(group ...raft.ServerAddress) {
	inner := make([]raftwire.ServerAddress, len(group))
	for i, addr := range group {
		inner[i] = raftwire.ServerAddress(addr)
	}
	n.inner.Isolate(inner...)
}

// Heal ends every cut.
func (n *InmemNetwork) Heal() { n.inner.Heal() }

// Crash closes the transport at an address. The address refuses requests until a
// transport is added there again.
func (n *InmemNetwork) Crash(addr raft.ServerAddress) { n.inner.Crash(raftwire.ServerAddress(addr)) }

// Unwrap returns raftwire's network, for faultnet.Inmem.
func (n *InmemNetwork) Unwrap() *raftwire.InmemNetwork { return n.inner }

// Close closes every transport.
func (n *InmemNetwork) Close() error { return n.inner.Close() }

// String returns text for a failing test to print: the seed and the history.
func (n *InmemNetwork) String() string { return n.inner.String() }
