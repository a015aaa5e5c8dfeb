// Program raft161 is a node of hashicorp/raft 1.6.1, over its own transport and in memory.
// The test that starts it calls its methods by net/rpc on standard input and output. It
// ends when the test closes them.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func main() {
	n, err := newNode(raft.ServerID(os.Args[1]))
	if err == nil {
		err = rpc.RegisterName("Node", n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rpc.ServeConn(stdio{os.Stdin, os.Stdout})
}

type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return nil }

// Node has the methods that the test calls. It ignores arguments without a name.
type Node struct {
	raft    *raft.Raft
	address string
	machine machine
}

func newNode(id raft.ServerID) (*Node, error) {
	transport, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raft.NetworkTransportConfig{
		MaxPool: 3, Timeout: 2 * time.Second, Logger: hclog.NewNullLogger(),
		MaxRPCsInFlight: 1, // no pipelines, while leaders change
	})
	if err != nil {
		return nil, err
	}
	config := raft.DefaultConfig()
	config.LocalID = id
	config.Logger = hclog.NewNullLogger()
	config.HeartbeatTimeout = time.Second // a loaded machine must not lose its leader
	config.ElectionTimeout = time.Second
	config.LeaderLeaseTimeout = time.Second
	config.CommitTimeout = 5 * time.Millisecond
	config.SnapshotInterval = time.Hour // only when the test asks for one
	config.SnapshotThreshold = 1 << 40
	config.TrailingLogs = 1
	n := &Node{address: string(transport.LocalAddr())}
	store := raft.NewInmemStore()
	n.raft, err = raft.NewRaft(config, &n.machine, store, store, raft.NewInmemSnapshotStore(), transport)
	return n, err
}

// Address returns where the node listens.
func (n *Node) Address(_ int, address *string) error {
	*address = n.address
	return nil
}

// Bootstrap makes the node a cluster of its own, and waits until it leads.
func (n *Node) Bootstrap(id string, _ *int) error {
	servers := []raft.Server{{ID: raft.ServerID(id), Address: raft.ServerAddress(n.address)}}
	if err := n.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return err
	}
	return n.Lead(0, nil)
}

// Lead waits until the node leads.
func (n *Node) Lead(int, *int) error {
	await(func() bool { return n.raft.State() == raft.Leader })
	return nil
}

func await(happened func() bool) {
	for !happened() {
		time.Sleep(10 * time.Millisecond)
	}
}

// Server is another node.
type Server struct{ ID, Address string }

// AddVoter makes another node a member.
func (n *Node) AddVoter(s Server, _ *int) error {
	return n.raft.AddVoter(raft.ServerID(s.ID), raft.ServerAddress(s.Address), 0, 0).Error()
}

// AddNonvoter makes another node a member that does not vote.
func (n *Node) AddNonvoter(s Server, _ *int) error {
	return n.raft.AddNonvoter(raft.ServerID(s.ID), raft.ServerAddress(s.Address), 0, 0).Error()
}

// Transfer makes another node the leader.
func (n *Node) Transfer(to Server, _ *int) error {
	for n.raft.State() == raft.Leader {
		_ = n.raft.LeadershipTransferToServer(raft.ServerID(to.ID), raft.ServerAddress(to.Address)).Error()
	}
	return nil
}

// Snapshot takes one.
func (n *Node) Snapshot(int, *int) error { return n.raft.Snapshot().Error() }

// Apply replicates count commands, and returns the log.
func (n *Node) Apply(count int, log *Log) error {
	futures := make([]raft.ApplyFuture, count)
	for i := range futures {
		futures[i] = n.raft.Apply(fmt.Appendf(nil, "command %d", i), 0)
	}
	for _, future := range futures {
		if err := future.Error(); err != nil {
			return err
		}
	}
	*log = n.machine.log()
	return nil
}

// Await waits for count entries, and returns the log.
func (n *Node) Await(count int, log *Log) error {
	await(func() bool { return len(n.machine.log().Entries) >= count })
	*log = n.machine.log()
	return nil
}

// AwaitTerm waits for a term, and returns the index of the last entry in the log.
func (n *Node) AwaitTerm(term uint64, last *uint64) error {
	await(func() bool { return n.raft.Stats()["term"] == fmt.Sprint(term) })
	*last = n.raft.LastIndex()
	return nil
}

// Log is what the state machine has, and how many snapshots it was restored from.
type Log struct {
	Entries  []Entry
	Restores int
}

// Entry is an entry as the nodes of the test keep it, in their snapshots too.
type Entry struct {
	Index, Term uint64
	Data        []byte
	AppendedAt  int64
}

type machine struct {
	lock sync.Mutex // protects has
	has  Log
}

func (m *machine) log() Log {
	m.lock.Lock()
	defer m.lock.Unlock()
	return Log{slices.Clone(m.has.Entries), m.has.Restores}
}

func (m *machine) Apply(l *raft.Log) any {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.has.Entries = append(m.has.Entries, Entry{l.Index, l.Term, l.Data, l.AppendedAt.UnixNano()})
	return nil
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return snapshot(m.log().Entries), nil }

func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	var entries []Entry
	if err := json.NewDecoder(from).Decode(&entries); err != nil {
		return err
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	m.has = Log{entries, m.has.Restores + 1}
	return nil
}

type snapshot []Entry

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}
