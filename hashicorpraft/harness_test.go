package hashicorpraft

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// A cluster of real nodes for tests. Everything waits for an event of Raft or
// of the state machine; patience is only how long a broken test takes to fail.

const patience = 60 * time.Second

// closer is a transport that a test can close.
type closer interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

type cluster struct {
	t      *testing.T
	ctx    context.Context // ends when the test has run out of patience
	events chan raft.Observation
	tune   func(*raft.Config) // or nil
	nodes  []*node
}

type node struct {
	*raft.Raft
	id        raft.ServerID
	transport closer
	machine   *machine
	store     *raft.InmemStore
	snapshots raft.SnapshotStore
}

func newCluster(t *testing.T) *cluster { return newPatientCluster(t, patience) }

func newPatientCluster(t *testing.T, patience time.Duration) *cluster {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c := &cluster{t: t, ctx: ctx, events: make(chan raft.Observation, 1)}
	t.Cleanup(func() {
		c.shutdown(c.nodes...)
		cancel()
	})
	return c
}

// add starts a node that belongs to no cluster yet.
func (c *cluster) add(transport closer) *node { return c.addAs(c.nextID(), transport) }

func (c *cluster) nextID() raft.ServerID { return raft.ServerID(fmt.Sprintf("node%d", len(c.nodes))) }

// addAs is add with an ID.
func (c *cluster) addAs(id raft.ServerID, transport closer) *node {
	c.t.Helper()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(c.t.TempDir(), 1, hclog.NewNullLogger())
	require.NoError(c.t, err)
	n := &node{
		id:        id,
		transport: transport,
		store:     raft.NewInmemStore(),
		snapshots: snapshots,
	}
	c.start(n)
	c.nodes = append(c.nodes, n)
	return n
}

// start starts a node, with what it has stored.
func (c *cluster) start(n *node) {
	c.t.Helper()
	config := config(n.id)
	if c.tune != nil {
		c.tune(config)
	}
	n.machine = newMachine()
	var err error
	n.Raft, err = raft.NewRaft(config, n.machine, n.store, n.store, n.snapshots, n.transport)
	require.NoError(c.t, err)
	n.RegisterObserver(raft.NewObserver(c.events, false, changesLeadership))
}

func config(id raft.ServerID) *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = id
	config.Logger = hclog.NewNullLogger()
	config.HeartbeatTimeout = time.Second // a loaded machine must not lose its leader
	config.ElectionTimeout = time.Second
	config.LeaderLeaseTimeout = time.Second
	config.CommitTimeout = 5 * time.Millisecond
	config.SnapshotInterval = time.Hour // only when a test asks for one
	config.SnapshotThreshold = 1 << 40
	config.TrailingLogs = 1
	return config
}

// changesLeadership passes the events that c.events is for. The channel has
// room for one: an event only says "look again".
func changesLeadership(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.RaftState, raft.LeaderObservation:
		return true
	}
	return false
}

// bootstrap makes the nodes one cluster.
func (c *cluster) bootstrap(nodes ...*node) {
	c.t.Helper()
	var servers []raft.Server
	for _, n := range nodes {
		servers = append(servers, raft.Server{ID: n.id, Address: n.transport.LocalAddr()})
	}
	for _, n := range nodes {
		require.NoError(c.t, n.BootstrapCluster(raft.Configuration{Servers: servers}).Error())
	}
}

// leader waits until one of the nodes leads and the others follow it.
func (c *cluster) leader(nodes ...*node) *node {
	c.t.Helper()
	var leader *node
	c.until("a leader that all follow", func() bool {
		leader = agreedLeader(nodes)
		return leader != nil
	})
	return leader
}

func agreedLeader(nodes []*node) *node {
	for _, leader := range nodes {
		if leader.State() == raft.Leader && !slices.ContainsFunc(nodes, func(n *node) bool { return !n.follows(leader) }) {
			return leader
		}
	}
	return nil
}

func (n *node) follows(leader *node) bool {
	_, id := n.LeaderWithID()
	return id == leader.id
}

func (c *cluster) until(what string, happened func() bool) {
	c.t.Helper()
	for !happened() {
		select {
		case <-c.events:
		case <-c.ctx.Done():
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// transfer makes to the leader. An attempt fails when an election comes in
// between; each takes its time, so nothing waits here.
func (c *cluster) transfer(to *node, nodes ...*node) {
	c.t.Helper()
	for c.ctx.Err() == nil {
		leader := c.leader(nodes...)
		if leader == to {
			return
		}
		_ = leader.LeadershipTransferToServer(to.id, to.transport.LocalAddr()).Error()
	}
	c.t.Fatal("no transfer of leadership succeeded")
}

// addVoter makes n a member.
func (c *cluster) addVoter(leader, n *node) {
	c.t.Helper()
	require.NoError(c.t, leader.AddVoter(n.id, n.transport.LocalAddr(), 0, patience).Error())
}

// apply replicates count commands through leader and waits until every node
// has applied them.
func (c *cluster) apply(leader *node, count int, nodes ...*node) {
	c.t.Helper()
	futures := make([]raft.ApplyFuture, count)
	for i := range futures {
		futures[i] = leader.Apply([]byte(fmt.Sprintf("command %d through %s", i, leader.id)), patience)
	}
	for _, future := range futures {
		require.NoError(c.t, future.Error())
	}
	c.sameState(leader, nodes...)
}

// sameState waits until every node has applied what leader has, and compares.
func (c *cluster) sameState(leader *node, nodes ...*node) {
	c.t.Helper()
	want := leader.machine.entries()
	for _, n := range nodes {
		require.NoError(c.t, n.machine.await(c.ctx, len(want)), n.id)
		require.Equal(c.t, want, n.machine.entries()[:len(want)], n.id)
	}
}

// shutdown stops nodes and closes their transports.
func (c *cluster) shutdown(nodes ...*node) {
	for _, n := range nodes {
		_ = n.Shutdown().Error()
		_ = n.transport.Close()
		if pooled, ok := n.transport.(interface{ CloseStreams() }); ok {
			pooled.CloseStreams() // what a closed *raft.NetworkTransport leaves open
		}
	}
}

// machine is a state machine that keeps every entry it was given.
type machine struct {
	lock     sync.Mutex // protects following
	log      []entry
	restores int
	changed  chan struct{} // closed at the next change
}

// entry is what must be the same on every node.
type entry struct {
	Index, Term uint64
	Data        []byte
	AppendedAt  int64
}

func newMachine() *machine { return &machine{changed: make(chan struct{})} }

func (m *machine) Apply(l *raft.Log) any {
	m.change(func() { m.log = append(m.log, entry{l.Index, l.Term, l.Data, l.AppendedAt.UnixNano()}) })
	return nil
}

func (m *machine) change(change func()) {
	m.lock.Lock()
	defer m.lock.Unlock()
	change()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *machine) entries() []entry {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.log)
}

func (m *machine) restored() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.restores
}

// await blocks until the machine holds count entries.
func (m *machine) await(ctx context.Context, count int) error {
	for {
		m.lock.Lock()
		have, changed := len(m.log), m.changed
		m.lock.Unlock()
		if have >= count {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("has %d entries, want %d", have, count)
		}
	}
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return snapshot(m.entries()), nil }

func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	var log []entry
	if err := json.NewDecoder(from).Decode(&log); err != nil {
		return err
	}
	m.change(func() { m.log, m.restores = log, m.restores+1 })
	return nil
}

type snapshot []entry

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}
