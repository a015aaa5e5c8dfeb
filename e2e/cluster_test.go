package e2e

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/hashicorpraft"
)

// Times of the clusters on fake time. What a run costs is how many of these it
// lasts, not how long they are.
const (
	electionTimeout = time.Second
	leaderLease     = electionTimeout / 2
	rpcTimeout      = electionTimeout

	// latency is that of every link without a fault. Without any, what repeats
	// itself does so at the same moment for ever.
	latency = time.Millisecond
)

// trailingLogs is how many entries a snapshot leaves in the log. There are two
// reasons why that is more than clients can have under way, and why only leaders
// take snapshots here, by the hand of a client. A follower of hashicorp/raft
// 1.8.0 rejects entries if the one before them has gone into its snapshot, and
// then gets a snapshot of the leader that is older than what it has, for ever; it
// may also panic with "log not found".
const trailingLogs = 24

// cluster is real nodes on a network in memory, inside a bubble.
type cluster struct {
	t       *testing.T
	options options
	net     *faultnet.Network
	judge   *judge
	calls   *calls
	nodes   []*node
}

// options are what a cluster is made of.
type options struct {
	size      int
	window    int  // MaxRPCsInFlight
	newTimes  bool // MsgpackUseNewTimeFormat
	snapshots bool // by clients
	diskTime  time.Duration
	logger    hclog.Logger
	sabotage  sabotage
}

// mayLeaveUnanswered reports whether a core may end with a VerifyLeader or a
// LeadershipTransfer that it has not looked at yet: it then never answers them.
// One that does not wait for its disk has looked at all of them.
func (o options) mayLeaveUnanswered() bool { return o.diskTime > 0 }

// sabotage is what must not go unnoticed.
type sabotage struct {
	drop  bool // one node forgets a write
	stale bool // clients read what any node has
}

// newCluster starts a cluster of nodes "a", "b" and so on.
func newCluster(t *testing.T, seed int64, o options) *cluster {
	c := &cluster{t: t, options: o, net: faultnet.New(seed), judge: newJudge(), calls: &calls{}}
	for _, name := range o.names() {
		c.nodes = append(c.nodes, &node{cluster: c, name: name, disk: newDisk(o.diskTime)})
	}
	c.setLatency(latency)
	for _, n := range c.nodes {
		require.NoError(t, n.bootstrap())
		n.start()
	}
	return c
}

func (o options) names() (names []string) {
	for i := range o.size {
		names = append(names, string(rune('a'+i)))
	}
	return names
}

// setLatency is for all links.
func (c *cluster) setLatency(latency time.Duration) {
	for _, from := range c.options.names() {
		for _, to := range c.options.names() {
			c.net.Link(from, to).SetLatency(latency)
		}
	}
}

// shutdown ends every node, after which nothing may be left of them.
func (c *cluster) shutdown() {
	for _, n := range c.nodes {
		n.stop()
	}
	require.Zero(c.t, c.net.OpenConns(), "connections left open")
	require.Zero(c.t, c.net.Bytes(), "bytes left on the network")
}

// leader returns a node that says that it leads, or nil.
func (c *cluster) leader() *life {
	for _, n := range c.nodes {
		if l := n.running(); l != nil && l.State() == raft.Leader {
			return l
		}
	}
	return nil
}

// within waits for something to be true, and reports whether it was in time.
func within(limit time.Duration, happened func() bool) bool {
	for end := time.Now().Add(limit); !happened(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(10 * latency) // sleep-ok: fake time
	}
	return true
}

// node is a host that has a node of the cluster on it, while it runs.
type node struct {
	cluster *cluster
	name    string
	disk    *disk
	life    atomic.Pointer[life] // nil while the node is down
}

// life is a node from its start to its end.
type life struct {
	*raft.Raft
	machine   *machine
	transport *hashicorpraft.NetworkTransport

	ready atomic.Uint64 // the term in which the machine has all of those before
}

// running returns nil if the node is down.
func (n *node) running() *life { return n.life.Load() }

// bootstrap writes onto the disk that the node belongs to the cluster.
func (n *node) bootstrap() error {
	var members raft.Configuration
	for _, name := range n.cluster.options.names() {
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	_, nobody := raft.NewInmemTransport("")
	return raft.BootstrapCluster(n.config(), n.disk, n.disk, n.disk, nobody, members)
}

// start begins a life with what is on the disk.
func (n *node) start() {
	t := n.cluster.t
	stream, err := n.cluster.net.Host(n.name).Listen()
	require.NoError(t, err)
	l := &life{machine: newMachine(raft.ServerID(n.name), n.cluster.judge), transport: n.transport(stream)}
	if n.cluster.options.sabotage.drop && n == n.cluster.nodes[0] {
		l.machine.drops = 10
	}
	l.Raft, err = raft.NewRaft(n.config(), l.machine, n.disk, n.disk, n.disk, l.transport)
	require.NoError(t, err)
	n.cluster.judge.observe(raft.ServerID(n.name), l.Raft)
	n.life.Store(l)
}

// stop ends a life, the transport first: that is what a crash looks like from
// outside.
func (n *node) stop() {
	l := n.life.Swap(nil)
	if l == nil {
		return
	}
	require.NoError(n.cluster.t, l.transport.Close())
	require.NoError(n.cluster.t, l.Shutdown().Error())
}

func (n *node) transport(stream raftwire.StreamLayer) *hashicorpraft.NetworkTransport {
	return hashicorpraft.WrapNetwork(raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
		Stream:                  stream,
		Logger:                  n.logger().Named("transport"),
		MaxPool:                 3,
		Timeout:                 rpcTimeout,
		MaxRPCsInFlight:         n.cluster.options.window,
		MsgpackUseNewTimeFormat: n.cluster.options.newTimes,
		Hooks:                   raftwire.Hooks{CallDone: n.cluster.calls.add},
	}))
}

func (n *node) config() *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(n.name)
	config.Logger = n.logger()
	config.HeartbeatTimeout = electionTimeout
	config.ElectionTimeout = electionTimeout
	config.LeaderLeaseTimeout = leaderLease
	config.CommitTimeout = electionTimeout / 4 // fewer of them make a run cheaper
	config.SnapshotInterval = time.Hour
	config.TrailingLogs = trailingLogs
	return config
}

func (n *node) logger() hclog.Logger {
	if n.cluster.options.logger == nil {
		return hclog.NewNullLogger()
	}
	return n.cluster.options.logger.Named(n.name)
}

// Operations of clients on a node that may lead or not.

// appendTo appends value to key and returns what it is then.
func (l *life) appendTo(key, value string) (string, error) {
	return l.apply(appendCommand(key, value))
}

// read reads key through the log.
func (l *life) read(key string) (string, error) { return l.apply(getCommand(key)) }

func (l *life) apply(command []byte) (string, error) {
	future := l.Apply(command, 0)
	if err := future.Error(); err != nil {
		return "", err
	}
	return future.Response().(string), nil
}

var errDeposed = errors.New("not the leader for long enough")

// readVerified reads key from the machine of this node, after a majority has
// confirmed that it leads in a term in which the machine has all that was
// acknowledged in those before.
func (l *life) readVerified(key string) (string, error) {
	term := l.CurrentTerm()
	if err := l.catchUp(term); err != nil {
		return "", err
	}
	if err := l.VerifyLeader().Error(); err != nil {
		return "", err
	}
	if l.CurrentTerm() != term {
		return "", errDeposed
	}
	return l.machine.get(key), nil
}

// catchUp has the machine apply everything that was committed before term.
func (l *life) catchUp(term uint64) error {
	if l.ready.Load() == term {
		return nil
	}
	if err := l.Barrier(0).Error(); err != nil {
		return err
	}
	if l.CurrentTerm() != term {
		return errDeposed
	}
	l.ready.Store(term)
	return nil
}
