package hashicorpraft

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// A cluster of nodes on hashicorp/raft's transport and on ours: either kind
// leads, replicates to the other and installs snapshots there, whatever format
// each writes times in.
func TestMixedCluster(t *testing.T) {
	for _, oursNew := range []bool{false, true} {
		for _, theirsNew := range []bool{false, true} {
			name := fmt.Sprintf("new time format ours=%t theirs=%t", oursNew, theirsNew)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				testMixedCluster(t, oursNew, theirsNew)
			})
		}
	}
}

func testMixedCluster(t *testing.T, oursNew, theirsNew bool) {
	addOurs := func(c *cluster) *node {
		config := networkConfig()
		config.MsgpackUseNewTimeFormat = oursNew
		return c.add(ours(t, config))
	}
	addTheirs := func(c *cluster) *node {
		config := networkConfig()
		config.MaxRPCsInFlight = 1 // while leaders change; their pipelines have a test of their own
		config.MsgpackUseNewTimeFormat = theirsNew
		return c.add(theirs(t, config))
	}

	c := newCluster(t)
	nodes := []*node{addTheirs(c)}
	c.bootstrap(nodes...)
	nodes = c.grow(nodes, nodes[0], addOurs(c))   // their snapshot to us
	nodes = c.grow(nodes, nodes[0], addTheirs(c)) // their entries to both kinds
	nodes = c.grow(nodes, nodes[1], addTheirs(c)) // our snapshot to them
	nodes = c.grow(nodes, nodes[1], addOurs(c))
	c.transfer(nodes[0], nodes...) // and back
	c.apply(nodes[0], 50, nodes...)
	c.nothingWasRefused()
}

// nothingWasRefused checks that no node took a peer for something else, or met a
// limit.
func (c *cluster) nothingWasRefused() {
	c.t.Helper()
	for _, n := range c.nodes {
		if transport, ok := n.transport.(*NetworkTransport); ok {
			require.Zero(c.t, transport.Refusals(), n.id)
		}
	}
}

// Pipelines of either kind of leader replicate to a follower of the other.
func TestMixedPipelines(t *testing.T) {
	type maker = func(*testing.T, *raft.NetworkTransportConfig) closer
	for name, kinds := range map[string][2]maker{
		"theirs to ours": {theirs, ours},
		"ours to theirs": {ours, theirs},
	} {
		for _, window := range []int{2, 130} {
			t.Run(fmt.Sprintf("%s, window %d", name, window), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t)
				var nodes []*node
				for _, kind := range kinds {
					config := networkConfig()
					config.MaxRPCsInFlight = window
					nodes = append(nodes, c.add(kind(t, config)))
				}
				c.bootstrap(nodes[0])
				leader := c.leader(nodes[0])
				c.addVoter(leader, nodes[1])
				c.apply(leader, 3000, nodes...)
				c.nothingWasRefused()
			})
		}
	}
}

// grow makes leader the leader, replicates, and adds fresh with a snapshot.
func (c *cluster) grow(nodes []*node, leader, fresh *node) []*node {
	c.t.Helper()
	c.transfer(leader, nodes...)
	c.apply(leader, 50, nodes...)
	require.NoError(c.t, leader.Snapshot().Error())
	c.addVoter(leader, fresh)
	c.sameState(leader, fresh)
	require.Equal(c.t, 1, fresh.machine.restored())
	nodes = append(nodes, fresh)
	c.apply(leader, 50, nodes...)
	return nodes
}
