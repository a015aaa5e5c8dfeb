package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"

	hashicorp "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

const aboutNode = `Is a node of "raftbench cluster": it does what it is asked on standard input, a line of JSON
for each step, and answers on standard output. The program starts itself so. Flags:
`

// A nodeQuestion asks a node for one step.
type nodeQuestion struct {
	Step step      `json:"step"`
	Open nodeSetup `json:"open,omitzero"`
	Lead []string  `json:"lead,omitempty"` // addresses of all nodes, in the order of their numbers
	Load load      `json:"load,omitzero"`
}

// A step is something that a node does.
type step string

const (
	stepOpen    step = "open"    // the transport and Raft; says where it listens
	stepLead    step = "lead"    // forms the cluster, as its leader
	stepWrite   step = "write"   // starts writers
	stepRead    step = "read"    // says what was used and written since the last read
	stepApplied step = "applied" // says up to which index
	stepClose   step = "close"   // ends all that open has begun
)

// A nodeSetup is what a node is made of.
type nodeSetup struct {
	Rival     string        `json:"rival"`
	Node      int           `json:"node"`   // its number
	Listen    string        `json:"listen"` // address
	Window    window        `json:"window"`
	Entry     int           `json:"entry"` // payload bytes
	Timeout   time.Duration `json:"timeout_ns"`
	Heartbeat time.Duration `json:"heartbeat_ns"` // Raft's timeout
	Heap      int           `json:"heap_mib"`
	Dir       string        `json:"dir"`    // of the log; "" keeps it in memory
	Secret    string        `json:"secret"` // for TLS; "" means plain TCP
	Path      path          `json:"path"`
	Profile   string        `json:"profile"` // file; "" means none
}

type nodeAnswer struct {
	Address string      `json:"address,omitempty"`
	Applied uint64      `json:"applied,omitempty"`
	Used    nodeUsage   `json:"used,omitzero"`
	Load    loadFigures `json:"load,omitzero"`
	Error   string      `json:"error,omitempty"`
}

// nodeUsage is what a process has used since it was asked before.
type nodeUsage struct {
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Allocs     float64 `json:"allocs"`
	AllocBytes float64 `json:"alloc_bytes"`
	Transport  float64 `json:"transport"` // its share of the CPU time, if that was profiled
}

// serveNode is the command node.
func serveNode(_ context.Context, args []string, out io.Writer) error {
	if err := parseFlags(newFlagSet("node"), args, aboutNode, out); err != nil {
		return err
	}
	return answerNode(os.Stdin, out)
}

// answerNode is a node until the end of in.
func answerNode(in io.Reader, out io.Writer) error {
	n := new(clusterNode)
	err := answerAll(in, out, n.answer)
	return errors.Join(err, n.close())
}

// A clusterNode is a node of a cluster.
type clusterNode struct {
	setup     nodeSetup
	ballast   any
	transport hashicorpTransport
	log       io.Closer // nil in memory
	raft      *hashicorp.Raft
	profiling *os.File // nil unless a profile is being written
	running   *running // nil without writers
	seen      usage    // at the last read
}

func (n *clusterNode) answer(q nodeQuestion) (a nodeAnswer) {
	if err := n.do(q, &a); err != nil {
		a.Error = fmt.Sprintf("%s: %v", q.Step, err)
	}
	return a
}

func (n *clusterNode) do(q nodeQuestion, a *nodeAnswer) (err error) {
	switch {
	case q.Step != stepOpen && n.raft == nil:
		return errors.New("the node is not open")
	case q.Step == stepOpen && n.raft != nil:
		return errors.New("the node is open already")
	}
	switch q.Step {
	case stepOpen:
		a.Address, err = n.open(q.Open)
	case stepLead:
		err = n.lead(q.Lead)
	case stepWrite:
		n.running = q.Load.start(n.raft, n.setup.Timeout)
	case stepRead:
		a.Used, a.Load = n.read()
		a.Used.Transport, err = n.profile()
	case stepApplied:
		a.Applied = n.raft.AppliedIndex()
	case stepClose:
		err = n.close()
	default:
		err = errors.New("unknown step")
	}
	return err
}

func (n *clusterNode) open(s nodeSetup) (address string, err error) {
	n.setup = s
	if n.ballast == nil {
		n.ballast = liveHeap(s.Heap)
	}
	warmHeap(2*s.Heap + 64)
	runtime.GC()
	if n.transport, err = s.transport(); err != nil {
		return "", err
	}
	logs, stable, err := n.openLog()
	if err != nil {
		return "", err
	}
	config := hashicorp.DefaultConfig()
	config.LocalID = nodeID(s.Node)
	config.Logger = silence
	config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = s.Heartbeat, s.Heartbeat, s.Heartbeat/2
	n.limitLog(config)
	n.raft, err = hashicorp.NewRaft(config, noMachine{}, logs, stable, hashicorp.NewInmemSnapshotStore(), n.transport)
	return string(n.transport.LocalAddr()), err
}

// limitLog has Raft drop old entries of a log in memory, as it does in a node
// that has run for a while. What is on disk takes up no memory.
func (n *clusterNode) limitLog(config *hashicorp.Config) {
	if n.setup.Dir != "" {
		config.SnapshotThreshold = math.MaxUint64
		return
	}
	const kept = 16 << 20 // bytes
	config.SnapshotInterval = 100 * time.Millisecond
	config.SnapshotThreshold = 1024
	config.TrailingLogs = min(config.TrailingLogs, uint64(kept/max(1, n.setup.Entry)))
}

// nodeMakers are the transports of a cluster. raftwire's is under hashicorp/raft's
// types, because that is the Raft that runs over it.
var nodeMakers = map[string]hashicorpMaker{nameHashicorp: newHashicorp, nameRaftwire: newAdapter}

func (s nodeSetup) transport() (hashicorpTransport, error) {
	maker, known := nodeMakers[s.Rival]
	if !known {
		return nil, fmt.Errorf("rival %q: there is no cluster of it", s.Rival)
	}
	setup := setup{window: s.Window, timeout: s.Timeout, path: s.Path}
	if s.Secret != "" {
		var err error
		if setup.credentials, err = newCredentials(s.Secret); err != nil {
			return nil, err
		}
	}
	return maker(s.Listen, setup)
}

func nodeID(node int) hashicorp.ServerID { return hashicorp.ServerID(strconv.Itoa(node)) }

// openLog opens what Raft remembers.
func (n *clusterNode) openLog() (hashicorp.LogStore, hashicorp.StableStore, error) {
	if n.setup.Dir == "" {
		memory := hashicorp.NewInmemStore()
		return memory, memory, nil
	}
	if err := os.MkdirAll(n.setup.Dir, 0o700); err != nil {
		return nil, nil, err
	}
	disk, err := wal.Open(n.setup.Dir, wal.WithLogger(silence))
	if err != nil {
		return nil, nil, err
	}
	n.log = disk
	const entries = 512 // that others of this library's users keep, too
	cached, err := hashicorp.NewLogCache(entries, disk)
	return cached, disk, err
}

// lead forms a cluster and leads it: an order of this node to itself to lead
// begins an election at once, instead of after the timeout that others are for.
func (n *clusterNode) lead(addresses []string) error {
	var members hashicorp.Configuration
	for i, address := range addresses {
		members.Servers = append(members.Servers, hashicorp.Server{ID: nodeID(i), Address: hashicorp.ServerAddress(address)})
	}
	if err := n.raft.BootstrapCluster(members).Error(); err != nil {
		return err
	}
	order := &hashicorp.TimeoutNowRequest{RPCHeader: hashicorp.RPCHeader{ProtocolVersion: protocolVersion}}
	err := n.transport.TimeoutNow(nodeID(n.setup.Node), n.transport.LocalAddr(), order, new(hashicorp.TimeoutNowResponse))
	if err != nil {
		return err
	}
	select {
	case <-n.raft.LeaderCh():
		return n.raft.Barrier(n.setup.Timeout).Error()
	case <-time.After(n.setup.Timeout):
		return fmt.Errorf("no leader within %v", n.setup.Timeout)
	}
}

func (n *clusterNode) read() (used nodeUsage, written loadFigures) {
	now := readUsage()
	u := now.since(n.seen)
	n.seen = now
	if n.running != nil {
		written = n.running.read()
	}
	used = nodeUsage{Seconds: u.at.Seconds(), CPUSeconds: u.cpu.Seconds(), Allocs: float64(u.allocs), AllocBytes: float64(u.allocBytes)}
	return used, written
}

// close leaves the ballast for the next open.
func (n *clusterNode) close() error {
	var errs []error
	if n.profiling != nil {
		_, err := n.profile()
		errs = append(errs, err)
	}
	if n.running != nil {
		n.running.stop()
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	if n.transport != nil {
		n.transport.CloseStreams()
		errs = append(errs, n.transport.Close())
	}
	if n.log != nil {
		errs = append(errs, n.log.Close())
	}
	*n = clusterNode{ballast: n.ballast}
	return errors.Join(errs...)
}

// noMachine is a state machine without a state.
type noMachine struct{}

func (noMachine) Apply(*hashicorp.Log) any { return nil }

func (noMachine) Snapshot() (hashicorp.FSMSnapshot, error) { return noMachine{}, nil }

func (noMachine) Restore(from io.ReadCloser) error { return from.Close() }

func (noMachine) Persist(sink hashicorp.SnapshotSink) error { return sink.Close() }

func (noMachine) Release() {}
