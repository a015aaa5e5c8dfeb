package raftwire

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/faults"
)

// InmemNetworkConfig configures an [InmemNetwork]. Its zero value is a network
// without faults, on which nothing takes time. The window of a pipeline is always 16:
// to test with another one, put a [NetworkTransport] over package faultnet.
type InmemNetworkConfig struct {
	// Seed decides everything random: which messages are lost, and how long they
	// take. Each link has a source of its own, which decides in the order in which
	// messages are sent. Seed does not decide the order in which goroutines run.
	Seed int64

	// Timeout is the transports'. 0 means 500 ms, negative no limit.
	Timeout time.Duration

	// Latency, Jitter and Loss are those of every link, until its own methods
	// change them.
	Latency time.Duration
	Jitter  time.Duration
	Loss    float64
}

func mustNotBeNegative(what string, d time.Duration) {
	if d < 0 {
		panic(fmt.Sprintf("raftwire: %s %v: use 0 for none, or a positive duration", what, d))
	}
}

func mustBeShare(what string, share float64) {
	if share < 0 || share > 1 || math.IsNaN(share) {
		panic(fmt.Sprintf("raftwire: %s %v: use a share from 0 to 1", what, share))
	}
}

// InmemNetwork connects transports in memory, for tests of a Raft
// implementation: each reaches every other under its address, over links with
// faults that a test switches on and off.
//
//	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Latency: time.Millisecond})
//	a, b, c := network.Add("a"), network.Add("b"), network.Add("c")
//	network.Isolate("a")
//
// Its methods may be called by several goroutines at once. Only Add, Crash and Close
// may block, for as long as it takes to close transports. Arguments that make no sense,
// such as an address at which nothing was added, or a share above 1, make them panic: a
// test with a mistake in it must not pass.
//
// Inside a testing/synctest bubble all times are exact and take none. Do not share a
// network between bubbles. Close ends no loop over a transport's Consumer, which is
// never closed: stop your core by a signal of its own, before the bubble ends.
//
// Here there are only messages, see [InmemLink]. Package faultnet has the same names
// for faults under a [NetworkTransport], with connections and bytes. Its plans run on
// an InmemNetwork, too.
type InmemNetwork struct {
	config InmemNetworkConfig
	start  time.Time

	mu      sync.Mutex // protects following
	nodes   map[ServerAddress]*InmemTransport
	links   map[[2]ServerAddress]*InmemLink // from, to
	history strings.Builder
	closed  bool
}

// NewInmemNetwork returns a network without transports.
func NewInmemNetwork(config InmemNetworkConfig) *InmemNetwork {
	mustNotBeNegative("InmemNetworkConfig.Latency is", config.Latency)
	mustNotBeNegative("InmemNetworkConfig.Jitter is", config.Jitter)
	mustBeShare("InmemNetworkConfig.Loss is", config.Loss)
	return &InmemNetwork{
		config: config,
		start:  time.Now(),
		nodes:  make(map[ServerAddress]*InmemTransport),
		links:  make(map[[2]ServerAddress]*InmemLink),
	}
}

// Add returns a new transport at addr, or at a new address if addr is empty. It
// connects the transport with those that were added before, both ways. If there is one
// at addr, it is closed and replaced, like a process that restarts: peers reach the new
// one, and links stay as they are.
//
// You may close the transport itself: then its address refuses requests until
// something is added there. Its Connect and Disconnect work as without a network:
// after Disconnect its requests to that peer are refused at once, until the peer is
// connected or added again.
//
// Peers may send to it before Add returns. Set up in prepare what must be there
// before, such as a heartbeat handler. prepare must not use the network.
func (n *InmemNetwork) Add(addr ServerAddress, prepare ...func(*InmemTransport)) *InmemTransport {
	_, added := NewInmemTransportWithTimeout(addr, cmp.Or(n.config.Timeout, defaultInmemTimeout))
	for _, f := range prepare {
		f(added)
	}
	var old *InmemTransport
	n.do(func() { old = n.connect(added) }, "add %s", added.localAddr)
	if old != nil {
		_ = old.Close()
	}
	return added
}

// Link returns what carries messages from one address to another, in this
// direction only.
func (n *InmemNetwork) Link(from, to ServerAddress) *InmemLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.link(from, to)
}

// Partition cuts the links between two addresses, both ways.
func (n *InmemNetwork) Partition(a, b ServerAddress) {
	n.do(func() { n.partition(a, b) }, "partition %s %s", a, b)
}

// Isolate cuts every link between the group and the other addresses so far,
// both ways. Within the group and among the others nothing changes.
func (n *InmemNetwork) Isolate(group ...ServerAddress) {
	n.do(func() { n.isolate(group) }, "isolate %s", strings.Trim(fmt.Sprint(group), "[]"))
}

// Heal ends every cut. It changes nothing else.
func (n *InmemNetwork) Heal() {
	n.do(func() {
		for _, l := range n.links {
			l.setCut(false)
		}
	}, "heal")
}

// Crash closes the transport at an address. The address refuses requests until a
// transport is added there again.
func (n *InmemNetwork) Crash(addr ServerAddress) {
	var crashed *InmemTransport
	n.do(func() { crashed = n.mustHave(addr) }, "crash %s", addr)
	_ = crashed.Close()
}

// Close closes every transport. Nothing can be added afterwards.
func (n *InmemNetwork) Close() error {
	n.mu.Lock()
	n.closed = true
	nodes := slices.Collect(maps.Values(n.nodes))
	n.mu.Unlock()
	var errs []error
	for _, node := range nodes {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

// String returns text for a failing test to print: the configuration with its seed, and
// what was done to the network, with the times since it was made.
func (n *InmemNetwork) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprintf("raftwire.InmemNetwork%+v, and then\n%v", n.config, n.history.String())
}

// do changes the network and writes that down.
func (n *InmemNetwork) do(change func(), format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	fmt.Fprintf(&n.history, "%v %s\n", time.Since(n.start), fmt.Sprintf(format, args...))
}

// What follows is called with mu held.

// connect returns what added replaces, if there was anything.
func (n *InmemNetwork) connect(added *InmemTransport) (old *InmemTransport) {
	if n.closed {
		panic(fmt.Sprintf("raftwire: Add(%q) to an InmemNetwork that is closed: make a new network", added.localAddr))
	}
	old = n.nodes[added.localAddr]
	n.nodes[added.localAddr] = added
	for addr, node := range n.nodes {
		added.connect(addr, node, n.link(added.localAddr, addr))
		node.connect(added.localAddr, added, n.link(addr, added.localAddr))
	}
	return old
}

// link returns a link, which is made with its other direction by its first use.
func (n *InmemNetwork) link(from, to ServerAddress) *InmemLink {
	ends := [2]ServerAddress{from, to}
	if l := n.links[ends]; l != nil {
		return l
	}
	n.mustHave(from)
	n.mustHave(to)
	l := &InmemLink{network: n, from: from, to: to, latency: n.config.Latency, jitter: n.config.Jitter, loss: n.config.Loss}
	l.random = faults.Random(n.config.Seed, string(from), string(to))
	n.links[ends] = l
	l.back = n.link(to, from)
	return l
}

func (n *InmemNetwork) mustHave(addr ServerAddress) *InmemTransport {
	if n.nodes[addr] == nil {
		panic(fmt.Sprintf("raftwire: this InmemNetwork has nothing at the address %q: Add it first", addr))
	}
	return n.nodes[addr]
}

func (n *InmemNetwork) partition(a, b ServerAddress) {
	if a == b {
		panic(fmt.Sprintf("raftwire: Partition(%q, %q) of an InmemNetwork: name two addresses", a, b))
	}
	n.link(a, b).setCut(true)
	n.link(b, a).setCut(true)
}

func (n *InmemNetwork) isolate(group []ServerAddress) {
	for _, inside := range group {
		n.mustHave(inside)
		for outside := range n.nodes {
			if !slices.Contains(group, outside) {
				n.partition(inside, outside)
			}
		}
	}
}
