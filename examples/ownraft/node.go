package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/raftwire/raftwire"
)

// StateMachine is what is replicated. The main loop calls its methods, and does nothing
// else meanwhile.
type StateMachine interface {
	// Apply carries out a command and returns its result. It is called for each committed
	// command once, in the same order on all nodes, and must do the same on all.
	Apply(command []byte) []byte
	// Snapshot returns the state in bytes. Restore replaces the state by one in such bytes.
	Snapshot() io.Reader
	Restore(io.Reader) error
}

// Config says who a node is. All fields are required.
type Config struct {
	ID        raftwire.ServerID
	Peers     map[raftwire.ServerID]raftwire.ServerAddress // the other servers of the cluster; they never change
	Dir       string                                       // for the node's files
	Transport interface {                                  // belongs to the node; those of raftwire have all of it
		raftwire.Transport
		raftwire.WithPreVote
		raftwire.WithClose
	}
	Machine         StateMachine
	ElectionTimeout time.Duration // a node waits for a leader so long, or up to twice as long
	SnapshotAfter   uint64        // entries; half as many stay in the log, for followers that are behind
}

// Node is a server of a Raft cluster. Its main loop owns the state and makes every
// decision. Other goroutines wait for the network, and bring what they learn by do.
type Node struct {
	Config
	header raftwire.RPCHeader // of all messages
	calls  chan func()        // for the main loop
	ctx    context.Context    // done when Stop was called
	cancel context.CancelFunc
	tasks  sync.WaitGroup // all goroutines

	// Owned by the main loop.
	disk      *storage
	commit    uint64            // the entries up to here are committed and applied
	leader    raftwire.ServerID // or "" if unknown
	contact   time.Time         // when the leader was heard last
	round     *round            // nil unless this node stands for election
	lead      context.Context   // nil unless this node leads; done when it does no longer
	resign    context.CancelFunc
	followers []*follower
	waiting   map[uint64]chan []byte // for the results of entries; closed when the node leads no longer
	timer     *time.Timer            // the patience with a leader, or a leader's with its followers
}

// Start starts a node with what its directory holds.
func Start(config Config) (*Node, error) {
	disk, err := openStorage(config.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Config: config, disk: disk, calls: make(chan func()), waiting: make(map[uint64]chan []byte)}
	n.header = raftwire.RPCHeader{ProtocolVersion: raftwire.ProtocolVersionMax, ID: []byte(n.ID)}
	n.header.Addr = n.Transport.EncodePeer(n.ID, n.Transport.LocalAddr())
	n.restore()
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.timer = time.NewTimer(n.patience())
	n.tasks.Go(n.run)
	return n, nil
}

// Stop ends the node and closes its transport. It is called once.
func (n *Node) Stop() error {
	n.cancel()
	err := n.Transport.Close() // ends the calls that tasks wait for
	n.tasks.Wait()
	return errors.Join(err, n.disk.log.Close())
}

// run is the main loop.
func (n *Node) run() {
	requests := n.Transport.Consumer() // never closed
	for n.ctx.Err() == nil {
		select {
		case rpc := <-requests:
			n.serve(rpc)
		case call := <-n.calls:
			call()
		case <-n.timer.C:
			n.timeout()
		case <-n.ctx.Done():
		}
	}
	n.stopLeading()
}

// do runs f on the main loop and waits for it. After Stop it does nothing.
func (n *Node) do(f func()) {
	done := make(chan struct{})
	select {
	case n.calls <- func() { f(); close(done) }:
		<-done
	case <-n.ctx.Done():
	}
}

// must ends the process after a failure of the disk or the state machine: such a node no
// longer knows what it has promised.
func (n *Node) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("node %s cannot go on: %v", n.ID, err))
	}
}

// serve answers a request, once. What an answer promises is on disk before.
func (n *Node) serve(rpc raftwire.RPC) {
	from := raftwire.ServerID(rpc.Command.(raftwire.WithRPCHeader).GetRPCHeader().ID)
	if _, known := n.Peers[from]; !known {
		rpc.Respond(nil, fmt.Errorf("%q is no other server of this cluster", from))
		return
	}
	switch m := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		rpc.Respond(n.appendEntries(from, m), nil)
	case *raftwire.InstallSnapshotRequest:
		n.installSnapshot(from, m, rpc)
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(n.preVote(m), nil)
	case *raftwire.RequestVoteRequest:
		rpc.Respond(n.vote(from, m), nil)
	case *raftwire.TimeoutNowRequest: // the leader hands its leadership over
		if from == n.leader {
			n.campaign(&round{transfer: true})
		}
		rpc.Respond(&raftwire.TimeoutNowResponse{RPCHeader: n.header}, nil)
	}
}

// Elections

// round is one attempt to become leader.
type round struct {
	pre      bool // asks first whether there would be a majority, and changes nothing
	transfer bool // at the leader's wish
	votes    int
}

// patience is random, so that one node stands for election before the others do.
func (n *Node) patience() time.Duration { return n.ElectionTimeout + rand.N(n.ElectionTimeout) }

func (n *Node) quorum() int { return (len(n.Peers)+1)/2 + 1 }

// timeout is called when the timer has run out.
func (n *Node) timeout() {
	reached := 1
	for _, f := range n.followers {
		if time.Since(f.contact) < n.ElectionTimeout {
			reached++
		}
	}
	switch {
	case n.lead == nil:
		n.campaign(&round{pre: true})
	case reached < n.quorum(): // such a leader only keeps clients waiting
		n.follow(n.disk.Term, "")
	default:
		n.timer.Reset(n.ElectionTimeout)
	}
}

// campaign begins a round: it asks all others at once.
func (n *Node) campaign(r *round) {
	n.round, n.leader = r, ""
	n.timer.Reset(n.patience())
	term, last := n.disk.Term+1, n.disk.last()
	if !r.pre {
		n.must(n.disk.setVote(term, n.ID)) // before others are asked
	}
	m := raftwire.RequestVoteRequest{RPCHeader: n.header, Term: term, LastLogIndex: last.Index, LastLogTerm: last.Term, LeadershipTransfer: r.transfer}
	for id, address := range n.Peers {
		n.tasks.Go(func() { n.ask(r, id, address, &m) })
	}
	n.count(r, n.disk.Term, true) // its own vote
}

// ask asks another server. It blocks for as long as the transport's timeout allows.
func (n *Node) ask(r *round, id raftwire.ServerID, address raftwire.ServerAddress, m *raftwire.RequestVoteRequest) {
	var resp raftwire.RequestVoteResponse
	var err error
	if r.pre {
		var preResp raftwire.RequestPreVoteResponse
		pre := raftwire.RequestPreVoteRequest{RPCHeader: m.RPCHeader, Term: m.Term, LastLogIndex: m.LastLogIndex, LastLogTerm: m.LastLogTerm}
		err = n.Transport.RequestPreVote(id, address, &pre, &preResp)
		resp.Term, resp.Granted = preResp.Term, preResp.Granted
	} else {
		err = n.Transport.RequestVote(id, address, m, &resp)
	}
	if err == nil {
		n.do(func() { n.count(r, resp.Term, resp.Granted) })
	}
}

// count takes an answer to a round, which may be over.
func (n *Node) count(r *round, term uint64, granted bool) {
	if term > n.disk.Term {
		n.follow(term, "")
	}
	if n.round != r || !granted {
		return
	}
	switch r.votes++; {
	case r.votes < n.quorum():
	case r.pre:
		n.campaign(&round{})
	default:
		n.startLeading()
	}
}

// follow makes the node a follower in a term, of a leader if one is known.
func (n *Node) follow(term uint64, leader raftwire.ServerID) {
	if term > n.disk.Term {
		n.must(n.disk.setVote(term, ""))
	}
	n.stopLeading()
	n.round, n.leader = nil, leader
	if leader != "" {
		n.contact = time.Now()
		n.timer.Reset(n.patience())
	}
}

// preVote answers as vote would, and changes nothing. While there is a leader it says no:
// a node that comes back from a partition must not depose it.
func (n *Node) preVote(m *raftwire.RequestPreVoteRequest) *raftwire.RequestPreVoteResponse {
	led := n.lead != nil || time.Since(n.contact) < n.ElectionTimeout
	granted := !led && m.Term > n.disk.Term && n.isUpToDate(m.LastLogIndex, m.LastLogTerm)
	return &raftwire.RequestPreVoteResponse{RPCHeader: n.header, Term: n.disk.Term, Granted: granted}
}

func (n *Node) vote(from raftwire.ServerID, m *raftwire.RequestVoteRequest) *raftwire.RequestVoteResponse {
	if m.Term > n.disk.Term {
		n.follow(m.Term, "")
	}
	free := m.Term == n.disk.Term && (n.disk.Vote == "" || n.disk.Vote == from)
	granted := free && n.isUpToDate(m.LastLogIndex, m.LastLogTerm)
	if granted {
		n.must(n.disk.setVote(m.Term, from)) // before the answer
		n.round = nil
		n.timer.Reset(n.patience())
	}
	return &raftwire.RequestVoteResponse{RPCHeader: n.header, Term: n.disk.Term, Granted: granted}
}

// isUpToDate reports whether a log that ends so has all that may be committed in this one.
func (n *Node) isUpToDate(index, term uint64) bool {
	last := n.disk.last()
	return term > last.Term || term == last.Term && index >= last.Index
}

// Following

// appendEntries takes entries of a leader, or its heartbeat. LastLog tells the leader of what
// it can be sure: so much of the log is the same.
func (n *Node) appendEntries(from raftwire.ServerID, m *raftwire.AppendEntriesRequest) *raftwire.AppendEntriesResponse {
	resp := &raftwire.AppendEntriesResponse{RPCHeader: n.header, Term: max(n.disk.Term, m.Term), LastLog: n.commit}
	if m.Term < n.disk.Term {
		return resp
	}
	n.follow(m.Term, from)
	if !n.disk.matches(m.PrevLogEntry, m.PrevLogTerm) {
		return resp
	}
	for i, entry := range m.Entries {
		if !n.disk.matches(entry.Index, entry.Term) { // those before have come twice
			n.must(n.disk.append(m.Entries[i:]...)) // they belong to the node now, as all of m does
			break
		}
	}
	n.commitTo(min(m.LeaderCommitIndex, lastOf(m))) // entries after lastOf may be an older leader's
	resp.Success = true
	return resp
}

// commitTo applies the entries up to index.
func (n *Node) commitTo(index uint64) {
	for n.commit < index {
		n.commit++
		if entry := n.disk.entry(n.commit); entry.Type == raftwire.LogCommand {
			result := n.Machine.Apply(entry.Data)
			if done, ok := n.waiting[n.commit]; ok {
				done <- result
				delete(n.waiting, n.commit)
			}
		}
	}
	if n.commit >= n.disk.SnapshotIndex+n.SnapshotAfter {
		n.takeSnapshot()
	}
}

// takeSnapshot stores the state, and drops entries that it stands for. A large state should
// be written by another goroutine.
func (n *Node) takeSnapshot() {
	term := n.disk.entry(n.commit).Term
	n.must(n.disk.replace(snapshotName(n.commit, term), n.Machine.Snapshot()))
	n.must(n.disk.useSnapshot(n.commit, term, n.SnapshotAfter/2))
}

// installSnapshot takes a leader's snapshot. The body is read by another goroutine: until
// it is here the main loop answers heartbeats and votes.
func (n *Node) installSnapshot(from raftwire.ServerID, m *raftwire.InstallSnapshotRequest, rpc raftwire.RPC) {
	resp := &raftwire.InstallSnapshotResponse{RPCHeader: n.header, Term: n.disk.Term}
	if m.Term < n.disk.Term {
		rpc.Respond(resp, nil)
		return
	}
	n.follow(m.Term, from)
	n.tasks.Go(func() {
		err := n.disk.replace(snapshotName(m.LastLogIndex, m.LastLogTerm), rpc.Reader) // fails unless all of it arrives
		n.do(func() {
			if err == nil && m.LastLogIndex > n.commit { // what is applied is not given up for an older state
				n.must(n.disk.useSnapshot(m.LastLogIndex, m.LastLogTerm, 0))
				n.restore()
			}
			resp.Term, resp.Success = n.disk.Term, err == nil
		})
		rpc.Respond(resp, err)
	})
}

// restore makes the newest snapshot the state.
func (n *Node) restore() {
	if n.commit = n.disk.SnapshotIndex; n.commit > 0 {
		file, err := n.disk.openSnapshot()
		n.must(err)
		n.must(n.Machine.Restore(file))
		n.must(file.Close())
	}
}
