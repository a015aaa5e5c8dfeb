package hashicorpraft

import (
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// Nodes of hashicorp/raft 1.6.1 are processes: this package does not build beside that
// version, which has no pre-vote.

// Nodes of 1.6.1 and of this package replicate and install snapshots at each other, and
// go on without their leader.
func TestRaft161_FormsOneClusterWithOurs(t *testing.T) {
	program := buildRaft161(t)
	for name, cluster := range map[string]string{"without Identity": "", "with Identity": "shop"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			first := c.startOld(program, "old1")
			first.call("Bootstrap", first.ID, nil)
			first.apply(50)
			first.call("Snapshot", 0, nil)
			ours := c.addIdentified(cluster, false, false)
			first.call("AddVoter", serverOf(ours), nil)
			c.hasAll(ours, first.apply(50).Entries)
			require.Equal(t, 1, ours.machine.restored(), "their snapshot")

			first.call("Transfer", serverOf(ours), nil)
			c.leader(ours)
			c.apply(ours, 50, ours)
			require.NoError(t, ours.Snapshot().Error())
			second := c.startOld(program, "old2")
			require.NoError(t, ours.AddVoter(raft.ServerID(second.ID), raft.ServerAddress(second.Address), 0, patience).Error())
			c.apply(ours, 50, ours)
			first.hasAll(ours)
			require.Equal(t, 1, second.hasAll(ours).Restores, "our snapshot")

			for ours.State() == raft.Leader {
				_ = ours.LeadershipTransferToServer(raft.ServerID(first.ID), raft.ServerAddress(first.Address)).Error()
			}
			first.call("Lead", 0, nil)
			want := first.apply(50).Entries
			c.hasAll(ours, want)
			second.hasAll(ours)

			first.end()
			second.call("Lead", 0, nil) // ours does not: it asks for pre-votes
			c.hasAll(ours, second.apply(50).Entries)
			c.nothingWasRefusedBy(ours)
		})
	}
}

// Neither gets anything of the other's log where this node requires an Identity.
func TestRaft161_IsKeptOutByRequire(t *testing.T) {
	program := buildRaft161(t)
	t.Run("leading", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t)
		old := c.startOld(program, "old")
		old.call("Bootstrap", old.ID, nil)
		old.apply(10)
		ours := c.addIdentified("shop", true, false)
		old.call("AddNonvoter", serverOf(ours), nil)
		ours.transport.(identified).awaitRefusals(c, 5, "NoIdentity")
		require.Equal(t, state{}, ours.stored(t))
		require.Empty(t, ours.machine.entries())
	})
	t.Run("following", func(t *testing.T) { // and takes the term, as SECURITY.md says
		t.Parallel()
		c := newCluster(t)
		ours := c.addIdentified("shop", true, false)
		c.bootstrap(ours)
		c.leader(ours)
		c.apply(ours, 10, ours)
		old := c.startOld(program, "old")
		require.NoError(t, ours.AddNonvoter(raft.ServerID(old.ID), raft.ServerAddress(old.Address), 0, patience).Error())
		var last uint64
		old.call("AwaitTerm", ours.stored(t).term, &last)
		require.Zero(t, last)
		c.apply(ours, 10, ours)
	})
}

// oldServer is what a node of 1.6.1 is told of another.
type oldServer struct{ ID, Address string }

func serverOf(n *node) oldServer {
	return oldServer{string(n.id), string(n.transport.LocalAddr())}
}

// oldNode is a node of 1.6.1 that runs.
type oldNode struct {
	c *cluster
	oldServer
	client *rpc.Client
	end    func()
}

// buildRaft161 returns the path of the program in testdata. It is of no module of the
// workspace.
func buildRaft161(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "raft161.exe")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("testdata", "raft161")
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return program
}

// startOld starts a process. It ends with the test, or when the cluster's patience does.
func (c *cluster) startOld(program, id string) *oldNode {
	c.t.Helper()
	command := exec.CommandContext(c.ctx, program, id)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	require.NoError(c.t, err)
	out, err := command.StdoutPipe()
	require.NoError(c.t, err)
	require.NoError(c.t, command.Start())
	n := &oldNode{c: c, oldServer: oldServer{ID: id}, client: rpc.NewClient(pipes{out, in})}
	n.end = sync.OnceFunc(func() {
		_ = command.Process.Kill()
		_ = n.client.Close()
		_ = command.Wait() // it was killed
	})
	c.t.Cleanup(n.end)
	n.call("Address", 0, &n.Address)
	return n
}

// pipes are the ends of a process's standard input and output.
type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p pipes) Close() error {
	_ = p.in.Close()
	return p.ReadCloser.Close()
}

// call calls a method of the program's Node.
func (n *oldNode) call(method string, argument, result any) {
	n.c.t.Helper()
	require.NoError(n.c.t, n.client.Call("Node."+method, argument, result), "%s of %s", method, n.ID)
}

// oldLog is what the state machine of a node of 1.6.1 has.
type oldLog struct {
	Entries  []entry
	Restores int
}

func (n *oldNode) apply(count int) (log oldLog) {
	n.c.t.Helper()
	n.call("Apply", count, &log)
	return log
}

// hasAll waits until the node has applied what another has, and compares.
func (n *oldNode) hasAll(other *node) (log oldLog) {
	n.c.t.Helper()
	want := other.machine.entries()
	n.call("Await", len(want), &log)
	require.Equal(n.c.t, want, log.Entries, n.ID)
	return log
}

// hasAll waits until a node has applied entries, and compares.
func (c *cluster) hasAll(n *node, want []entry) {
	c.t.Helper()
	require.NoError(c.t, n.machine.await(c.ctx, len(want)), n.id)
	require.Equal(c.t, want, n.machine.entries(), n.id)
}
