package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

// Three processes of kvnode, under writes all the time, go through what a
// cluster goes through in its life. Every step ends when the cluster works
// again; in the end no acknowledged write may be missing, and writes may have
// failed only at a node that the step was about, or around an election.
//
// Over TLS the two transports have the layer in common.

var long = flag.Duration("long", 0, "how long TestAClusterLosesNoWrite goes on with random steps")

// testPatience is only how long a broken test takes to fail.
const testPatience = 60 * time.Second

func TestAClusterLosesNoWrite(t *testing.T) {
	t.Parallel()
	c := startCluster(t, "hashicorp", nil)
	c.change(c.nodes[0], "raftwire")
	c.killLeader()
	c.change(c.nodes[1], "raftwire")
	c.isolate(c.leader())
	c.change(c.nodes[2], "raftwire")
	c.killFollowerUntilItNeedsASnapshot()
	c.isolate(c.follower())
	c.random(*long)
	for _, n := range c.nodes {
		c.change(n, "hashicorp")
	}
	c.check()
}

func TestAClusterOverTLSLosesNoWrite(t *testing.T) {
	t.Parallel()
	ca := testca.New()
	c := startCluster(t, "hashicorp", ca)
	c.change(c.nodes[0], "raftwire")
	c.killLeader()
	c.change(c.nodes[1], "raftwire")
	c.isolate(c.leader())
	c.change(c.nodes[2], "raftwire")
	c.renewCertificates(ca)
	c.random(*long)
	for _, n := range c.nodes {
		c.change(n, "hashicorp")
	}
	c.check()
}

// change is one step of a rolling upgrade, forth or back: the node is stopped
// as an operator stops it, and started with the other transport.
func (c *cluster) change(n *process, transport string) {
	c.step("change to "+transport, n, func() {
		n.terminate()
		n.transport = transport
		n.start()
	})
}

func (c *cluster) killLeader() {
	leader := c.leader()
	c.step("kill the leader", leader, func() {
		leader.kill()
		c.load.awaitWrites(50)
		leader.start()
	})
}

func (c *cluster) killFollowerUntilItNeedsASnapshot() {
	follower := c.follower()
	c.step("kill a follower, until its log is too old", follower, func() {
		last := follower.status().index("last_log_index")
		follower.kill()
		c.await("a snapshot that leaves the follower behind", func() bool {
			return c.leader().status().index("last_snapshot_index") > last+segments
		})
		follower.start()
	})
	require.Contains(c.t, follower.logged(), "Installed remote snapshot")
}

// isolate cuts n off from the other nodes until it has noticed. Clients still
// reach it.
func (c *cluster) isolate(n *process) {
	c.step("isolate", n, func() {
		c.eachLinkOf(n, (*link).cut)
		c.await("a node that is alone to say so", func() bool { return n.status().Leader == "" })
		c.load.awaitWrites(50)
		c.eachLinkOf(n, (*link).heal)
	})
}

// renewCertificates replaces the certificate of every node. Only one of them is
// started anew; who leads then has to connect to it.
func (c *cluster) renewCertificates(ca *testca.Authority) {
	for _, n := range c.nodes {
		n.files.Certify(issue(ca))
	}
	c.killLeader()
	require.True(c.t, slices.ContainsFunc(c.nodes, func(n *process) bool {
		return strings.Contains(n.logged(), "TLS certificates reloaded")
	}), "no node uses its new certificate")
}

func issue(ca *testca.Authority) *tls.Certificate {
	return ca.Issue(func(c *x509.Certificate) { c.DNSNames = []string{clusterName} })
}

// random takes random steps for as long as it is told.
func (c *cluster) random(howLong time.Duration) {
	steps := []func(){
		c.killLeader,
		c.killFollowerUntilItNeedsASnapshot,
		func() { c.isolate(c.leader()) },
		func() { c.isolate(c.follower()) },
		func() { c.change(c.any(), "raftwire") },
		func() { c.change(c.any(), "hashicorp") },
	}
	for end := time.Now().Add(howLong); time.Now().Before(end); {
		steps[rand.IntN(len(steps))]()
	}
}

// A cluster of processes. Each node reaches each other one through a link of
// their own, which can be cut.
type cluster struct {
	t     *testing.T
	nodes []*process
	links map[[2]raft.ServerID]*link
	load  *load
	term  uint64 // of the last step
}

const (
	snapshotAfter = 50  // makes snapshots something of every day
	segments      = 500 // entries are more than are kept after a snapshot, and two files of the log
)

// startCluster starts a cluster over TLS if there is a CA.
func startCluster(t *testing.T, transport string, ca *testca.Authority) *cluster {
	c := &cluster{t: t, links: map[[2]raft.ServerID]*link{}}
	data := t.TempDir()
	for _, id := range []raft.ServerID{"a", "b", "c"} {
		n := newProcess(t, id, transport)
		n.args = []string{"-id", string(id), "-data", data, "-snapshot-after", fmt.Sprint(snapshotAfter)}
		if ca != nil {
			n.files = testca.WriteFiles(t.TempDir(), issue(ca), ca)
			n.args = append(n.args, "-tls", n.files.Dir)
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		n.args = append(n.args, "-peers", c.peersOf(n))
	}
	c.nodes[0].args = append(c.nodes[0].args, "-bootstrap")
	for _, n := range c.nodes {
		n.start()
	}
	c.term = c.leader().status().index("term")
	c.load = startLoad(t, c.nodes)
	return c
}

// peersOf is -peers as n sees it, which reaches the others through links.
func (c *cluster) peersOf(n *process) string {
	list := ""
	for _, other := range c.nodes {
		address := other.raft
		if other != n {
			l := newLink(c.t, other.raft)
			c.links[[2]raft.ServerID{n.id, other.id}] = l
			address = l.address()
		}
		list += fmt.Sprintf(",%s=%s/%s", other.id, address, other.http)
	}
	return list[1:]
}

func (c *cluster) eachLinkOf(n *process, do func(*link)) {
	for ends, l := range c.links {
		if ends[0] == n.id || ends[1] == n.id {
			do(l)
		}
	}
}

// step does something to one node, waits until all work again, and judges the
// writes that failed since the last step.
func (c *cluster) step(what string, n *process, do func()) {
	c.t.Helper()
	began := time.Now()
	do()
	c.load.awaitWrites(50)
	c.caughtUp(n)
	c.load.awaitWrites(50)

	term := c.leader().status().index("term")
	failed := c.load.takeFailures(n)
	c.t.Logf("%s: %s (%v): term %d to %d, %d writes failed", n.id, what, time.Since(began).Round(time.Millisecond), c.term, term, len(failed))
	if len(failed) > 0 && term == c.term {
		c.t.Errorf("%s: %s: writes failed at other nodes though there was no election: %v", n.id, what, failed)
	}
	c.term = term
}

// caughtUp waits until n has applied what the leader has committed by now.
func (c *cluster) caughtUp(n *process) {
	c.t.Helper()
	committed := c.leader().status().index("commit_index")
	c.await(fmt.Sprintf("%s to have applied entry %d", n.id, committed), func() bool {
		return n.status().index("applied_index") >= committed
	})
}

// leader waits until one node leads and all that run know it.
func (c *cluster) leader() (leader *process) {
	c.t.Helper()
	c.await("a leader that all know", func() bool {
		leader = nil
		var said raft.ServerID
		for _, n := range c.nodes {
			if !n.running() {
				continue
			}
			s := n.status()
			if s.Leader == "" || (said != "" && s.Leader != said) {
				return false
			}
			said = s.Leader
			if s.ID == said && s.Raft["state"] == raft.Leader.String() {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

func (c *cluster) follower() *process {
	leader := c.leader()
	for {
		if n := c.any(); n != leader {
			return n
		}
	}
}

func (c *cluster) any() *process { return c.nodes[rand.IntN(len(c.nodes))] }

// await looks again and again. Processes have no other way to tell.
func (c *cluster) await(what string, happened func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testPatience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !happened() {
		select {
		case <-look.C:
		case <-ctx.Done():
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// check stops the load and compares what the nodes have with what it knows.
func (c *cluster) check() {
	c.t.Helper()
	c.load.stop()
	for _, n := range c.nodes {
		c.caughtUp(n)
		c.load.compare(n)
	}
	for _, n := range c.nodes {
		n.terminate()
	}
	c.t.Logf("%d writes were acknowledged", len(c.load.acknowledged))
}
