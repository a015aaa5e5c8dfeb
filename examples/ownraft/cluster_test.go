package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

var (
	plans = flag.Int("plans", 200, "how many plans of faults to run")
	first = flag.Int64("seed", 1, "the seed of the first of them")
)

// Times in which clusters live. They are fake: what a plan costs is what happens in it.
const (
	electionTime = 500 * time.Millisecond
	planTime     = 15 * time.Second
	healTime     = 20 * time.Second // enough to elect a leader, and for all to follow it
)

// TestCluster_SurvivesPlansOfFaults runs clusters under writes while their network and their
// processes fail. -args -plans 2000 -seed 1000 runs others.
func TestCluster_SurvivesPlansOfFaults(t *testing.T) {
	var total counts
	t.Run("seeds", func(t *testing.T) {
		for seed := *first; seed < *first+int64(*plans); seed++ {
			t.Run(strconv.FormatInt(seed, 10), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) { runPlan(t, dir, seed, &total) })
			})
		}
	})
	t.Logf("%d acknowledged writes, %d unclear ones, %d leaders, %d starts, %d snapshots installed",
		total.acknowledged.Load(), total.unclear.Load(), total.leaders.Load(), total.starts.Load(), total.restores.Load())
	if *plans >= 100 { // or what was checked is less than it seems
		require.Greater(t, total.acknowledged.Load(), int64(50**plans))
		require.Greater(t, total.leaders.Load(), int64(3**plans))
		require.Greater(t, total.restores.Load(), int64(*plans/2))
	}
}

// counts is what happened in all plans together.
type counts struct{ acknowledged, unclear, leaders, starts, restores atomic.Int64 }

func runPlan(t *testing.T, dir string, seed int64, total *counts) {
	c := newCluster(t, dir, seed, total)
	for _, id := range c.ids {
		c.start(id)
	}
	clients := startClients(c, seed)
	plan := faultnet.RandomPlan(seed, c.ids, planTime, c.actions...)
	require.NoError(t, plan.Run(context.Background(), c.target, func(step faultnet.Step) {
		switch step.Action {
		case faultnet.Crash, faultnet.PowerOff:
			c.stop(step.Hosts[0])
			if step.Action == faultnet.PowerOff {
				c.cutPower(step.Hosts[0])
			}
		case faultnet.Restart:
			c.start(step.Hosts[0])
		}
		c.lookAtLogs()
	}))
	close(clients.ended)
	c.healed.Store(true)
	c.requireProgress()
	c.lookAtLogs()
	for _, id := range c.ids {
		c.stop(id)
	}
	c.retired.Wait()
	clients.running.Wait()
	if err := c.judge.verdict(); err != nil {
		t.Errorf("%v\nseed %d:\n%v", err, seed, plan)
	}
}

// cluster is nodes on a network in memory. Every other seed has the network of messages, and
// the rest the network of bytes below the transport that real nodes use.
type cluster struct {
	t       *testing.T
	dir     string
	seed    int64
	ids     []string
	judge   *judge
	total   *counts
	target  faultnet.Target
	actions []faultnet.Action
	open    func(id string) raftTransport

	changing map[string]chan struct{} // each has room for one
	healed   atomic.Bool              // nothing fails any more
	retired  sync.WaitGroup           // what is left of nodes that were replaced

	mu    sync.Mutex // protects following
	nodes map[string]*Node
}

type raftTransport interface {
	raftwire.Transport
	raftwire.WithPreVote
	raftwire.WithClose
}

func newCluster(t *testing.T, dir string, seed int64, total *counts) *cluster {
	c := &cluster{t: t, dir: dir, seed: seed, ids: []string{"a", "b", "c"}, judge: newJudge(), total: total, nodes: make(map[string]*Node)}
	if seed%5 == 0 {
		c.ids = append(c.ids, "d", "e")
	}
	c.changing = make(map[string]chan struct{})
	for _, id := range c.ids {
		c.changing[id] = make(chan struct{}, 1)
	}
	if seed%2 == 0 {
		c.useMessages(seed)
	} else {
		c.useBytes(seed)
	}
	return c
}

func (c *cluster) useMessages(seed int64) {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{
		Seed: seed, Timeout: electionTime / 2, Latency: time.Millisecond, Jitter: time.Millisecond, Loss: float64(seed%3) / 200,
	})
	for _, id := range c.ids {
		network.Add(raftwire.ServerAddress(id)) // faults need all addresses
	}
	c.target = faultnet.Inmem(network)
	c.actions = []faultnet.Action{faultnet.Cut, faultnet.Partition, faultnet.Isolate, faultnet.Latency, faultnet.Jitter, faultnet.Crash}
	c.open = func(id string) raftTransport { return network.Add(raftwire.ServerAddress(id)) }
}

func (c *cluster) useBytes(seed int64) {
	network := faultnet.New(seed)
	c.target = network
	for _, from := range c.ids {
		for _, to := range c.ids {
			if from != to {
				network.Link(from, to).SetLatency(time.Millisecond)
			}
		}
	}
	c.open = func(id string) raftTransport {
		layer, err := network.Host(id).Listen()
		require.NoError(c.t, err)
		return raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
			Stream: layer, MaxPool: 3, MaxRPCsInFlight: 16, Timeout: electionTime / 2, Logger: hclog.NewNullLogger(),
		})
	}
}

func (c *cluster) start(id string) {
	defer c.change(id)()
	c.set(id, c.newNode(id, &spy{c.open(id), c}))
}

func (c *cluster) newNode(id string, transport raftTransport) *Node {
	peers := make(map[raftwire.ServerID]raftwire.ServerAddress)
	for _, other := range c.ids {
		if other != id {
			peers[raftwire.ServerID(other)] = raftwire.ServerAddress(other)
		}
	}
	machine := &listMachine{judge: c.judge, node: id, restores: &c.total.restores}
	node, err := Start(Config{raftwire.ServerID(id), peers, filepath.Join(c.dir, id), transport, machine, electionTime, 20})
	require.NoError(c.t, err)
	c.total.starts.Add(1)
	return node
}

func (c *cluster) stop(id string) {
	defer c.change(id)()
	node := c.node(id)
	c.set(id, nil)
	require.NoError(c.t, node.Stop())
}

// cutPower loses what a node that has ended wrote and did not sync.
func (c *cluster) cutPower(id string) { disks.cutPower(c.t, filepath.Join(c.dir, id, "log")) }

// change locks what starts and stops a node. It is a channel, since fake time goes on for
// those who wait for a channel, and not for those who wait for a mutex.
func (c *cluster) change(id string) (unlock func()) {
	c.changing[id] <- struct{}{}
	return func() { <-c.changing[id] }
}

func (c *cluster) set(id string, n *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[id] = n
}

// node returns a node, or nil if it is down.
func (c *cluster) node(id string) *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

func (c *cluster) lookAtLogs() {
	for _, id := range c.ids {
		if n := c.node(id); n != nil {
			n.do(func() { c.judge.log(id, n.disk.Entries, n.commit) })
		}
	}
}

// lastWrite may be tried several times.
const lastWrite = "the last write"

// requireProgress requires that a healed cluster takes a write, and that all nodes get it.
func (c *cluster) requireProgress() {
	deadline := time.Now().Add(healTime)
	overdue := time.AfterFunc(healTime, c.cancel)
	defer overdue.Stop()
	for time.Now().Before(deadline) {
		for _, id := range c.ids {
			if position, err := c.node(id).Propose([]byte(lastWrite)); err == nil {
				c.requireAll(string(position), deadline)
				return
			}
		}
		time.Sleep(electionTime / 10) // sleep-ok: fake time
	}
	c.t.Errorf("the healed cluster took no write in %v", healTime)
}

// cancel ends the nodes, and so the calls that wait for them.
func (c *cluster) cancel() {
	for _, id := range c.ids {
		c.node(id).cancel()
	}
}

func (c *cluster) requireAll(position string, deadline time.Time) {
	want, err := strconv.Atoi(position)
	require.NoError(c.t, err)
	for _, id := range c.ids {
		have := -1
		for have < want && time.Now().Before(deadline) {
			time.Sleep(electionTime / 10) // sleep-ok: fake time
			n := c.node(id)
			n.do(func() { have = len(n.Machine.(*listMachine).list) - 1 })
		}
		if have < want {
			c.t.Errorf("%s has not got the last write in %v", id, healTime)
		}
	}
}

// transfer has a leader ask all others at once to take over. So several stand for election
// in the same term, and the old leader, which has the decisive vote, restarts meanwhile.
func (c *cluster) transfer(n *Node, random *rand.Rand) {
	for to, address := range n.Peers {
		c.retired.Go(func() {
			_ = n.Transport.TimeoutNow(to, address, &raftwire.TimeoutNowRequest{RPCHeader: n.header}, &raftwire.TimeoutNowResponse{})
		})
	}
	time.Sleep(time.Duration(random.Int64N(int64(8 * time.Millisecond)))) // sleep-ok: fake time
	c.replace(n)
}

// disturb restarts some new leaders when they have sent little of their log: what is on how
// many nodes then decides what is committed.
func (c *cluster) disturb(leader string, term uint64) {
	random := rand.New(rand.NewPCG(uint64(c.seed), term))
	time.Sleep(time.Duration(random.Int64N(int64(8 * time.Millisecond)))) // sleep-ok: fake time
	if n := c.node(leader); n != nil && random.IntN(2) == 0 && !c.healed.Load() {
		c.replace(n)
	}
}

func (n *Node) leads() (leads bool) {
	n.do(func() { leads = n.lead != nil })
	return leads
}

// replace lets the machine of a node crash and start again before the network notices: the
// new node gets what was on its way to the old one.
func (c *cluster) replace(old *Node) {
	id := string(old.ID)
	defer c.change(id)()
	if c.node(id) != old {
		return // it is down
	}
	old.do(old.cancel) // which is the last thing that its main loop does
	c.retired.Go(func() {
		old.tasks.Wait()
		_ = old.disk.log.Close()
	})
	c.cutPower(id)
	c.set(id, c.newNode(id, old.Transport))
}

// clients write all the time, and sometimes ask for a transfer of the leadership.
type clients struct {
	cluster *cluster
	ended   chan struct{}
	running sync.WaitGroup
}

func startClients(c *cluster, seed int64) *clients {
	all := &clients{cluster: c, ended: make(chan struct{})}
	for i := range 3 {
		random := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		all.running.Go(func() { all.run(i, random) })
	}
	return all
}

func (all *clients) run(client int, random *rand.Rand) {
	c := all.cluster
	for count := 0; ; count++ {
		select {
		case <-all.ended:
			return
		case <-time.After(time.Duration(1 + random.Int64N(int64(electionTime/5)))): // sleep-ok: fake time
		}
		id := c.ids[random.IntN(len(c.ids))]
		n := c.node(id)
		if n == nil {
			continue
		}
		if random.IntN(20) == 0 && n.leads() {
			c.transfer(n, random)
			continue
		}
		write := operation{command: fmt.Sprintf("%d.%d", client, count), begin: time.Now()}
		position, err := n.Propose([]byte(write.command))
		write.end = time.Now()
		switch {
		case err == nil:
			write.position, err = strconv.Atoi(string(position))
			require.NoError(c.t, err)
			c.judge.acknowledged(write)
			c.total.acknowledged.Add(1)
		case errors.Is(err, ErrNotLeader):
			c.judge.refused(write)
		default:
			c.total.unclear.Add(1)
		}
	}
}

// listMachine is a list of all commands. The result of a command is its place in the list.
type listMachine struct {
	judge    *judge
	node     string
	restores *atomic.Int64
	list     []string
}

func (m *listMachine) Apply(command []byte) []byte {
	m.judge.applied(m.node, len(m.list), string(command))
	m.list = append(m.list, string(command))
	return strconv.AppendInt(nil, int64(len(m.list)-1), 10)
}

func (m *listMachine) Snapshot() io.Reader {
	text, _ := json.Marshal(m.list)
	return bytes.NewReader(text)
}

func (m *listMachine) Restore(state io.Reader) error {
	if m.list != nil {
		m.restores.Add(1) // not at a start
	}
	m.list = []string{}
	err := json.NewDecoder(state).Decode(&m.list)
	for position, command := range m.list {
		m.judge.applied(m.node, position, command)
	}
	return err
}

// spy sees who leads, and tells the judge.
type spy struct {
	raftTransport
	cluster *cluster
}

func (s *spy) AppendEntriesPipeline(id raftwire.ServerID, target raftwire.ServerAddress) (raftwire.AppendPipeline, error) {
	p, err := s.raftTransport.AppendEntriesPipeline(id, target)
	return &pipelineSpy{p, s.cluster}, err
}

type pipelineSpy struct {
	raftwire.AppendPipeline
	cluster *cluster
}

func (p *pipelineSpy) AppendEntries(m *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) (raftwire.AppendFuture, error) {
	if c := p.cluster; c.judge.leads(m.Term, string(m.ID)) {
		c.total.leaders.Add(1)
		c.retired.Go(func() { c.disturb(string(m.ID), m.Term) })
	}
	return p.AppendPipeline.AppendEntries(m, resp)
}
