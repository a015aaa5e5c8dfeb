package hashicorpraft

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// What docs/moving.md says of Identity: nodes with and without it form one cluster, and
// it keeps apart what does not belong together.

// identified is a node's transport by this package, with an Identity, at an address.
type identified struct {
	*NetworkTransport
	refused chan raftwire.RefusalEvent
}

func newIdentified(t *testing.T, address raft.ServerAddress, identity raftwire.Identity, newTime bool) identified {
	t.Helper()
	refused := make(chan raftwire.RefusalEvent, 1000)
	config := WireConfig(networkConfig())
	config.Identity = identity
	config.MsgpackUseNewTimeFormat = newTime
	config.Hooks.Refused = func(e raftwire.RefusalEvent) {
		select {
		case refused <- e:
		default:
		}
	}
	network, err := raftwire.NewTCPTransportWithConfig(string(address), nil, config)
	require.NoError(t, err)
	return identified{WrapNetwork(network), refused}
}

// awaitRefusals waits until the transport has refused count connections for a reason.
func (i identified) awaitRefusals(c *cluster, count int, reason string) {
	c.t.Helper()
	for range count {
		select {
		case e := <-i.refused:
			require.Equal(c.t, reason, e.Reason, e.Err)
		case <-c.ctx.Done():
			require.Fail(c.t, "nothing was refused")
		}
	}
}

// anyPort is where a transport listens that has no address yet.
const anyPort = "127.0.0.1:0"

// addIdentified adds a node of a cluster with a name; "" stands for no Identity.
func (c *cluster) addIdentified(name string, required, newTime bool) *node {
	c.t.Helper()
	identity := raftwire.Identity{Cluster: name, Node: raftwire.ServerID(c.nextID()), Require: required}
	if name == "" {
		identity = raftwire.Identity{}
	}
	return c.add(newIdentified(c.t, anyPort, identity, newTime))
}

// Nodes of hashicorp/raft, and of raftwire with and without an Identity, elect,
// replicate, install snapshots at each other, and go on without their leader.
func TestIdentity_MixedClusterWorks(t *testing.T) {
	for _, newTime := range []bool{false, true} {
		t.Run(fmt.Sprintf("new time format=%t", newTime), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			addTheirs := func() *node {
				config := networkConfig()
				config.MaxRPCsInFlight = 1 // as in testMixedCluster
				config.MsgpackUseNewTimeFormat = newTime
				return c.add(theirs(t, config))
			}
			nodes := []*node{addTheirs()}
			c.bootstrap(nodes...)
			nodes = c.grow(nodes, nodes[0], c.addIdentified("shop", false, newTime)) // their snapshot to on
			nodes = c.grow(nodes, nodes[1], addTheirs())                             // that of on to them
			nodes = c.grow(nodes, nodes[1], c.addIdentified("", false, newTime))     // to off
			nodes = c.grow(nodes, nodes[3], c.addIdentified("shop", false, newTime)) // that of off to on
			c.transfer(nodes[4], nodes...)
			c.apply(nodes[4], 50, nodes...)
			c.nothingWasRefusedBy(nodes...)
			c.shutdown(nodes[4])
			rest := nodes[:4]
			c.apply(c.leader(rest...), 50, rest...)
		})
	}
}

func TestIdentity_ClusterThatRequiresItWorks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	nodes := []*node{c.addIdentified("shop", true, false)}
	c.bootstrap(nodes...)
	for range 2 {
		nodes = c.grow(nodes, nodes[0], c.addIdentified("shop", true, true))
	}
	nodes = c.grow(nodes, nodes[1], c.addIdentified("shop", false, true))
	c.nothingWasRefusedBy(nodes...)
	c.shutdown(nodes[1])
	rest := without(nodes, nodes[1])
	c.apply(c.leader(rest...), 50, rest...)
}

func (c *cluster) nothingWasRefusedBy(nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		if transport, ok := n.transport.(identified); ok {
			require.Zero(c.t, transport.Refusals(), n.id)
		}
	}
}

// The upgrade of hashicorp/raft's protocol from 2, where IDs are addresses, to 3: each
// server is replaced by one with an ID.
func TestIdentity_ServersMaySwapAddressesForIDs(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.tune = func(config *raft.Config) { config.ProtocolVersion = 2 }
	var nodes []*node
	for i := range 3 {
		identity := raftwire.Identity{Cluster: "shop", Node: raftwire.ServerID(fmt.Sprint("later", i)), Require: true}
		transport := newIdentified(t, anyPort, identity, false)
		nodes = append(nodes, c.addAs(raft.ServerID(transport.LocalAddr()), transport))
	}
	c.bootstrap(nodes...)
	c.tune = nil // as protocol 3 is the default
	for range 3 {
		fresh := c.addIdentified("shop", true, false)
		leader := c.leader(nodes...)
		c.addVoter(leader, fresh)
		c.apply(leader, 10, append(nodes, fresh)...)
		old := nodes[0]
		require.NoError(t, leader.RemoveServer(old.id, 0, patience).Error())
		nodes = append(without(nodes, old), fresh)
		c.shutdown(old)
		c.apply(c.leader(nodes...), 10, nodes...)
	}
	c.nothingWasRefusedBy(nodes...)
}

// state is what a node has stored.
type state struct{ term, first, last uint64 }

func (n *node) stored(t *testing.T) (s state) {
	t.Helper()
	s.term, _ = n.store.GetUint64([]byte("CurrentTerm")) // an error says that there is none
	var err error
	s.first, err = n.store.FirstIndex()
	require.NoError(t, err)
	s.last, err = n.store.LastIndex()
	require.NoError(t, err)
	return s
}

// A new node is started at an address at which a cluster has another node.
func TestIdentity_NodeAtAnothersAddress(t *testing.T) {
	shop := func(required bool) func(raftwire.ServerID) raftwire.Identity {
		return func(id raftwire.ServerID) raftwire.Identity {
			return raftwire.Identity{Cluster: "shop", Node: id, Require: required}
		}
	}
	off := func(raftwire.ServerID) raftwire.Identity { return raftwire.Identity{} }
	other := raftwire.Identity{Cluster: "other", Node: "stranger"}
	same := raftwire.Identity{Cluster: "shop", Node: "stranger"}
	requires := other
	requires.Require = true
	for _, c := range []struct {
		name     string
		cluster  func(raftwire.ServerID) raftwire.Identity
		stranger raftwire.Identity
		outcome  string // why the stranger refuses, or what it takes
	}{
		{"of another cluster", shop(false), other, "WrongCluster"},
		{"of the same cluster", shop(false), same, "WrongNode"},
		{"with an identity at the cluster alone", shop(false), raftwire.Identity{}, takesLog},
		{"with an identity that the cluster requires", shop(true), raftwire.Identity{}, takesTerm},
		{"with an identity at the stranger alone", off, other, takesLog},
		{"with an identity that the stranger alone requires", off, requires, "NoIdentity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testStranger(t, c.cluster, c.stranger, c.outcome)
		})
	}
}

// What passes where an identity is at one end only: everything; or requests, but no
// answers, so that the stranger learns the term and votes for nobody else in it.
const (
	takesLog  = "takes the log"
	takesTerm = "takes the term"
)

func testStranger(t *testing.T, identityOf func(raftwire.ServerID) raftwire.Identity, as raftwire.Identity, outcome string) {
	c := newCluster(t)
	var nodes []*node
	for range 3 {
		nodes = append(nodes, c.add(newIdentified(t, anyPort, identityOf(raftwire.ServerID(c.nextID())), false)))
	}
	c.bootstrap(nodes...)
	lost := nodes[2]
	c.transfer(nodes[0], nodes...)
	c.apply(nodes[0], 10, nodes...)
	address := lost.transport.LocalAddr()
	c.shutdown(lost)
	before := nodes[0].stored(t)

	transport := newIdentified(t, address, as, false)
	stranger := c.addAs("stranger", transport)
	switch outcome {
	case takesLog:
		require.NoError(t, stranger.machine.await(c.ctx, 10))
		require.Equal(t, nodes[0].machine.entries(), stranger.machine.entries())
		c.shutdown(nodes[1]) // the stranger's answers count: with them alone the leader goes on
		c.apply(nodes[0], 10, nodes[0])
		return
	case takesTerm:
		c.until("the cluster's term", func() bool { return stranger.stored(t).term == before.term })
		require.Equal(t, state{term: before.term}, stranger.stored(t))
	default:
		transport.awaitRefusals(c, 5, outcome)
		require.Equal(t, state{}, stranger.stored(t))
	}
	require.Empty(t, stranger.machine.entries())
	require.Equal(t, before, nodes[0].stored(t))
	c.apply(nodes[0], 10, nodes[:2]...)
	require.Equal(t, before.term, nodes[0].stored(t).term)
}

// A node of each of two clusters comes back at the address of the other's.
func TestIdentity_TwoClustersWithSwappedAddresses(t *testing.T) {
	t.Parallel()
	one, two := newSwapped(t, "one"), newSwapped(t, "two")
	atOne, atTwo := one.lose(), two.lose()
	one.comeBack(atTwo)
	two.comeBack(atOne)
	for _, s := range []*swapped{one, two} {
		transport := s.lost.transport.(identified)
		transport.awaitRefusals(s.cluster, 5, "WrongCluster")
		require.Equal(t, s.before, s.lost.stored(t))
		s.apply(s.leader, 10, s.nodes[:2]...)
		require.Equal(t, s.before.term, s.leader.stored(t).term)
	}
	require.NotEqual(t, one.leader.machine.entries(), two.leader.machine.entries())
}

// swapped is a cluster that loses its third node.
type swapped struct {
	*cluster
	name         string
	nodes        []*node
	leader, lost *node
	before       state // of the one that is lost
}

func newSwapped(t *testing.T, name string) *swapped {
	c := newCluster(t)
	s := &swapped{cluster: c, name: name}
	for range 3 {
		s.nodes = append(s.nodes, c.addIdentified(name, false, false))
	}
	s.leader, s.lost = s.nodes[0], s.nodes[2]
	c.bootstrap(s.nodes...)
	c.transfer(s.leader, s.nodes...)
	c.apply(s.leader, 10, s.nodes...)
	return s
}

// lose stops a node and returns its address.
func (s *swapped) lose() raft.ServerAddress {
	s.shutdown(s.lost)
	s.before = s.lost.stored(s.t)
	return s.lost.transport.LocalAddr()
}

// comeBack starts the node again, with what it has stored, at another address.
func (s *swapped) comeBack(at raft.ServerAddress) {
	identity := raftwire.Identity{Cluster: s.name, Node: raftwire.ServerID(s.lost.id)}
	s.lost.transport = newIdentified(s.t, at, identity, false)
	s.start(s.lost)
}
