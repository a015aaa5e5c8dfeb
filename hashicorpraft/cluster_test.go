package hashicorpraft

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// rpcTimeout is the transports' own; a node that is gone is noticed by it.
const rpcTimeout = 2 * time.Second

// carriers make connected transports, one after the other.
var carriers = map[string]func(t *testing.T) func() closer{
	"TCP":                     func(t *testing.T) func() closer { return func() closer { return ours(t, networkConfig()) } },
	"memory":                  inMemory,
	"memory without the seam": inPlainMemory,
}

func networkConfig() *raft.NetworkTransportConfig {
	return &raft.NetworkTransportConfig{MaxPool: 3, Timeout: rpcTimeout, Logger: hclog.NewNullLogger()}
}

// ours is a node's transport by this package.
func ours(t *testing.T, config *raft.NetworkTransportConfig) closer {
	t.Helper()
	transport, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	return transport
}

// theirs is a node's transport by hashicorp/raft.
func theirs(t *testing.T, config *raft.NetworkTransportConfig) closer {
	t.Helper()
	transport, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	return transport
}

// inMemory connects each new transport with all before it.
func inMemory(*testing.T) func() closer {
	var all []*InmemTransport
	return func() closer {
		addr, added := NewInmemTransportWithTimeout("", rpcTimeout)
		for _, other := range all {
			other.Connect(addr, added)
			added.Connect(other.LocalAddr(), other)
		}
		all = append(all, added)
		return added
	}
}

// plain is a transport that offers no seam.
type plain struct {
	raftwire.Transport
	raftwire.WithPreVote
	raftwire.WithClose
}

func inPlainMemory(*testing.T) func() closer {
	var all []*raftwire.InmemTransport
	return func() closer {
		addr, added := raftwire.NewInmemTransportWithTimeout("", rpcTimeout)
		for _, other := range all {
			other.Connect(addr, added)
			added.Connect(other.LocalAddr(), other)
		}
		all = append(all, added)
		return Wrap(plain{added, added, added})
	}
}

func eachCarrier(t *testing.T, test func(t *testing.T, next func() closer)) {
	for name, make := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

func TestClusterReplicatesAndSurvivesTheLossOfItsLeader(t *testing.T) {
	eachCarrier(t, func(t *testing.T, next func() closer) {
		c := newCluster(t)
		nodes := []*node{c.add(next()), c.add(next()), c.add(next())}
		c.bootstrap(nodes...)
		first := c.leader(nodes...)
		c.apply(first, 100, nodes...)

		c.shutdown(first)
		rest := without(nodes, first)
		c.apply(c.leader(rest...), 100, rest...)
	})
}

func TestClusterTransfersLeadership(t *testing.T) {
	eachCarrier(t, func(t *testing.T, next func() closer) {
		c := newCluster(t)
		nodes := []*node{c.add(next()), c.add(next()), c.add(next())}
		c.bootstrap(nodes...)
		for _, n := range nodes {
			c.transfer(n, nodes...)
			c.apply(c.leader(nodes...), 10, nodes...)
		}
	})
}

func TestFreshNodeGetsASnapshot(t *testing.T) {
	eachCarrier(t, func(t *testing.T, next func() closer) {
		c := newCluster(t)
		first := c.add(next())
		c.bootstrap(first)
		require.Equal(t, first, c.leader(first))
		c.apply(first, 1000, first)
		require.NoError(t, first.Snapshot().Error())

		fresh := c.add(next())
		c.addVoter(first, fresh)
		c.sameState(first, fresh)
		require.Equal(t, 1, fresh.machine.restored())
		c.apply(first, 10, first, fresh)
	})
}

// preVotes counts the pre-votes that a node asks for.
type preVotes struct {
	closer
	asked *atomic.Int64
}

func (p preVotes) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := p.closer.RequestPreVote(id, target, args, resp)
	if err == nil && resp.Granted {
		p.asked.Add(1)
	}
	return err
}

func TestElectionsBeginWithAPreVote(t *testing.T) {
	eachCarrier(t, func(t *testing.T, next func() closer) {
		c := newCluster(t)
		var granted atomic.Int64
		var nodes []*node
		for range 3 {
			nodes = append(nodes, c.add(preVotes{next(), &granted}))
		}
		c.bootstrap(nodes...)
		c.leader(nodes...)
		require.Positive(t, granted.Load())
	})
}

func TestPipelinesReplicateWithAnyWindow(t *testing.T) { eachPath(t, testPipelines) }

func testPipelines(t *testing.T) {
	for _, window := range []int{1, 2, 16, 130} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			var nodes []*node
			for range 3 {
				config := networkConfig()
				config.MaxRPCsInFlight = window
				nodes = append(nodes, c.add(ours(t, config)))
			}
			c.bootstrap(nodes...)
			c.apply(c.leader(nodes...), 3000, nodes...)
		})
	}
}

func without(nodes []*node, gone *node) (rest []*node) {
	for _, n := range nodes {
		if n != gone {
			rest = append(rest, n)
		}
	}
	return rest
}
