package hashicorpraft

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// Ten minutes of a cluster of three, in a bubble, while one thing after
// the other happens to its network. After each there is a leader, every node
// gets every entry, and in the end no goroutine is left: else the bubble would
// not end.
func TestTenMinutesOfAClusterInMemory(t *testing.T) {
	begin := time.Now()
	synctest.Test(t, func(t *testing.T) {
		x := newInmemCluster(t)
		start := time.Now()
		for round := 0; time.Since(start) < 10*time.Minute; round++ {
			trials[round%len(trials)](x)
			x.pass(20 * time.Second)
			x.apply(x.leader(x.nodes...), 10, x.nodes...)
		}
		require.GreaterOrEqual(t, x.elections, 9, "leaders that were lost and replaced")
	})
	t.Log("took", time.Since(begin))
}

// A server that is removed learns of it: the leader sends it that entry, and at
// once closes the pipeline. Else it would stand for election, again and again.
func TestARemovedServerLearnsOfItsRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newInmemCluster(t)
		leader := x.leader(x.nodes...)
		x.apply(leader, 10, x.nodes...)
		x.pass(time.Minute) // pipelines are open, and idle
		removed := without(x.nodes, leader)[0]
		require.NoError(t, leader.RemoveServer(removed.id, 0, patience).Error())
		x.pass(time.Minute)
		known := removed.GetConfiguration()
		require.NoError(t, known.Error())
		require.Len(t, known.Configuration().Servers, 2)
		require.Equal(t, raft.Follower, removed.State())
	})
}

// The network's methods are raftwire's.
func TestInmemNetworkOfHashicorpRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := NewInmemNetwork(raftwire.InmemNetworkConfig{Seed: 7})
		a, b := network.Add("a"), network.Add("b")
		b.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil) })
		ask := func() error { return a.AppendEntries("b", "b", heartbeat(), new(raft.AppendEntriesResponse)) }
		require.NoError(t, ask())
		network.Partition("a", "b")
		require.ErrorIs(t, ask(), os.ErrDeadlineExceeded)
		network.Heal()
		require.NoError(t, ask())
		require.NoError(t, network.Close())
		require.Equal(t, raft.ErrTransportShutdown, ask())
		require.Contains(t, network.String(), "Seed:7")
		require.Contains(t, network.String(), "partition a b")
	})
}

// trials is what happens.
var trials = []func(x *inmemCluster){
	(*inmemCluster).isolateLeader,
	(*inmemCluster).isolateFollower,
	(*inmemCluster).deafenFollower,
	(*inmemCluster).muteLeader,
	(*inmemCluster).loseMessages,
	(*inmemCluster).restartLeader,
	(*inmemCluster).leaveFollowerBehind,
}

// inmemCluster is a cluster on an InmemNetwork.
type inmemCluster struct {
	*cluster
	network   *InmemNetwork
	elections int // that a trial has made necessary
}

func newInmemCluster(t *testing.T) *inmemCluster {
	x := &inmemCluster{
		cluster: newPatientCluster(t, time.Hour),
		network: NewInmemNetwork(raftwire.InmemNetworkConfig{Seed: 1, Latency: time.Millisecond, Jitter: time.Millisecond}),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(x.network)
		}
	})
	x.tune = func(c *raft.Config) { c.CommitTimeout = raft.DefaultConfig().CommitTimeout }
	for _, addr := range []raft.ServerAddress{"a", "b", "c"} {
		x.add(x.network.Add(addr))
	}
	x.bootstrap(x.nodes...)
	return x
}

// pass lets fake time go by.
func (x *inmemCluster) pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// elect waits for another leader than old among the rest, who can do without it.
func (x *inmemCluster) elect(old *node) {
	rest := without(x.nodes, old)
	x.apply(x.leader(rest...), 10, rest...)
	x.elections++
}

// isolateLeader: the others elect another, and the old one gives up and commits
// nothing more.
func (x *inmemCluster) isolateLeader() {
	old := x.leader(x.nodes...)
	x.network.Isolate(old.transport.LocalAddr())
	lost := old.Apply([]byte("in a minority"), 0)
	x.elect(old)
	require.Error(x.t, lost.Error())
	require.NotEqual(x.t, raft.Leader, old.State())
	x.network.Heal()
}

// isolateFollower: the others go on with the same leader, and it catches up.
func (x *inmemCluster) isolateFollower() {
	leader := x.leader(x.nodes...)
	away := without(x.nodes, leader)[0]
	x.network.Isolate(away.transport.LocalAddr())
	rest := without(x.nodes, away)
	x.apply(leader, 100, rest...)
	require.Equal(x.t, leader, x.leader(rest...))
	x.network.Heal()
}

// deafenFollower: what the leader says does not arrive, what the follower says
// does.
func (x *inmemCluster) deafenFollower() {
	leader := x.leader(x.nodes...)
	deaf := without(x.nodes, leader)[1]
	x.network.Link(leader.transport.LocalAddr(), deaf.transport.LocalAddr()).Cut()
	x.pass(10 * time.Second)
	rest := without(x.nodes, deaf)
	x.apply(x.leader(rest...), 10, rest...)
	x.network.Heal()
}

// muteLeader: nobody hears the leader any more, although it hears the others.
func (x *inmemCluster) muteLeader() {
	mute := x.leader(x.nodes...)
	for _, n := range without(x.nodes, mute) {
		x.network.Link(mute.transport.LocalAddr(), n.transport.LocalAddr()).Cut()
	}
	x.elect(mute)
	x.network.Heal()
}

// loseMessages: one in ten, everywhere. Leaders may change, and most commands
// get through nevertheless.
func (x *inmemCluster) loseMessages() {
	x.setLoss(0.1)
	committed := 0
	for range 100 {
		if leader := agreedLeader(x.nodes); leader != nil && leader.Apply([]byte("command"), time.Second).Error() == nil {
			committed++
		}
		x.pass(100 * time.Millisecond)
	}
	x.setLoss(0)
	require.Greater(x.t, committed, 50)
}

func (x *inmemCluster) setLoss(share float64) {
	for _, from := range x.nodes {
		for _, to := range without(x.nodes, from) {
			x.network.Link(from.transport.LocalAddr(), to.transport.LocalAddr()).SetLoss(share)
		}
	}
}

// restartLeader: its process ends, and another takes its place at the address.
func (x *inmemCluster) restartLeader() {
	old := x.leader(x.nodes...)
	x.shutdown(old)
	x.elect(old)
	old.transport = x.network.Add(old.transport.LocalAddr())
	x.start(old)
}

// leaveFollowerBehind: what it has missed comes as a snapshot.
func (x *inmemCluster) leaveFollowerBehind() {
	leader := x.leader(x.nodes...)
	behind := without(x.nodes, leader)[0]
	restored := behind.machine.restored()
	x.network.Isolate(behind.transport.LocalAddr())
	x.apply(leader, 100, without(x.nodes, behind)...)
	require.NoError(x.t, leader.Snapshot().Error())
	x.network.Heal()
	x.sameState(leader, behind)
	require.Equal(x.t, restored+1, behind.machine.restored())
}
