package e2e

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// A follower whose disk fails once answers that it has not stored the entries.
// At that the core stops looking at the answers of its pipeline, but may go on
// sending (hashicorp/raft#612): unless the transport then ends the call, the
// follower gets heartbeats for ever, and no entries.
func TestAFollowerWhoseDiskFailedOnceCatchesUp(t *testing.T) {
	for _, window := range []int{2, 3, 16, 130} {
		t.Run(fmt.Sprintf("window %d", window), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { testDiskFailures(t, window) })
		})
	}
}

func testDiskFailures(t *testing.T, window int) {
	c := newCluster(t, 1, options{size: 3, window: window})
	defer c.shutdown()
	leader := c.awaitLeader()
	follower := c.follower(leader)
	c.setLatency(roundTrip / 2)

	rounds := 3 + 200/window // the larger, the more there is to do in each
	if longRun {
		rounds *= 10
	}
	var slowest time.Duration
	for range rounds {
		applyMany(t, leader, window)
		follower.disk.failing.Store(true)
		applyMany(t, leader, window)
		require.False(t, follower.disk.failing.Load())
		slowest = max(slowest, c.requireCaughtUp(follower.running(), leader))
	}
	require.Equal(t, raft.Leader, leader.State())
	require.Equal(t, 1, c.judge.elections())
	require.NotZero(t, c.calls.of("AppendEntries in a pipeline"))
	t.Logf("%d failures of the disk, the last entry reached the follower %v after the others at most", rounds, slowest)
}

const roundTrip = 40 * latency

// applyMany applies entries for three round trips, each of which makes a
// request of its own, at a rate that keeps the window full.
func applyMany(t *testing.T, leader *life, window int) {
	t.Helper()
	var futures []raft.ApplyFuture
	for i := range 6 * window {
		futures = append(futures, leader.Apply(appendCommand("x", fmt.Sprint(i)), 0))
		time.Sleep(roundTrip / time.Duration(2*window)) // sleep-ok: fake time
	}
	for _, future := range futures {
		require.NoError(t, future.Error())
	}
}

// catchUpTime is what the transport may take to end the pipeline, and the core,
// which waits between requests, to send what has gathered.
const catchUpTime = 10 * rpcTimeout

// requireCaughtUp wants one node to have soon what the other has, and returns
// how long it took.
func (c *cluster) requireCaughtUp(behind, ahead *life) time.Duration {
	c.t.Helper()
	start, last := time.Now(), ahead.machine.state().Index
	require.True(c.t, within(catchUpTime, func() bool { return behind.machine.state().Index >= last }),
		"has entry %d after %v, want %d", behind.machine.state().Index, catchUpTime, last)
	return time.Since(start)
}

func (c *cluster) awaitLeader() (leader *life) {
	c.t.Helper()
	require.True(c.t, within(10*electionTimeout, func() bool {
		leader = c.leader()
		return leader != nil
	}), "no leader")
	return leader
}

// follower returns a node that is not the leader.
func (c *cluster) follower(leader *life) *node {
	for _, n := range c.nodes {
		if n.running() != leader {
			return n
		}
	}
	panic("there is no other node")
}
