package raftwire

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// poolOf returns a pool with an idle connection to each of some addresses. looks
// counts the looks at connections, and alive says what they find.
func poolOf(addresses int, looks *int, alive *bool) (p *pool, closers *tasks.Group) {
	p, closers = &pool{maxPool: 3}, new(tasks.Group)
	for i := range addresses {
		raw, _ := net.Pipe()
		addr := ServerAddress(fmt.Sprint("peer-", i))
		p.connPoolLock.Lock()
		home, _ := p.peer(addr)
		c := newConn(raw, addr, 0, closers, new(Hooks), &home.traffic, false)
		c.Peek = func() bool { *looks++; return *alive }
		p.addConn(c, home)
		p.connPoolLock.Unlock()
		if !p.push(c) {
			panic("the pool refuses a connection")
		}
	}
	return p, closers
}

// A new address costs a look at a few idle connections, however many there are. All of
// them are looked at in turn.
func TestPool_LooksAtFewConnectionsForANewAddress(t *testing.T) {
	const peers = 4000
	looks, alive := 0, true
	p, closers := poolOf(peers, &looks, &alive)
	for range 100 {
		looks = 0
		p.sweep()
		require.LessOrEqual(t, looks, sweepPeers)
	}
	alive = false
	require.NoError(t, closers.AwaitEnd()) // from now on connections end within sweep, in order
	for range peers / sweepPeers {
		p.sweep()
	}
	require.Empty(t, p.open)
	require.Empty(t, p.connPool)
	require.Zero(t, p.busy.Len())
	require.Len(t, p.peers, maxPeersKnown)
	require.NotNil(t, p.peers["peer-3999"], "those that were left last are remembered")
}

// Only the connections to the old address are looked at.
func TestPool_RetiresTheConnectionsOfOneAddress(t *testing.T) {
	looks, alive := 0, true
	p, _ := poolOf(100, &looks, &alive)
	inUse := p.pop("peer-7")
	p.drop("peer-7", errAddressLeft, true)
	require.True(t, inUse.retired)
	require.False(t, p.push(inUse))
	p.discard(inUse, errPeerGone)
	require.Zero(t, looks)
	require.Len(t, p.open, 99)
}

// A pipeline is locked while it sets a deadline, which a connection of somebody else's
// may make wait. Calls need the pool meanwhile.
func TestPool_StatsWaitForAPipelineWithoutItsLock(t *testing.T) {
	looks, alive := 0, true
	p, _ := poolOf(2, &looks, &alive)
	c, used := p.pop("peer-0"), new(pipeline)
	p.setPipeline(c, used)
	used.mu.Lock()
	begun, stats := make(chan struct{}), make(chan []PeerStats)
	go func() {
		close(begun)
		stats <- p.stats()
	}()
	<-begun
	for range 1000 { // time to come to the pipeline
		runtime.Gosched()
	}
	tooLong := time.AfterFunc(10*time.Second, used.mu.Unlock)
	require.NotNil(t, p.pop("peer-1"))
	require.True(t, tooLong.Stop(), "the pool waited for the pipeline")
	used.mu.Unlock()
	require.Len(t, (<-stats)[0].Pipelines, 1)
}
