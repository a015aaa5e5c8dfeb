package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/raftwire/raftwire"
)

// ErrNotLeader is returned if another node leads, or none. Nothing was done.
var ErrNotLeader = errors.New("this node does not lead")

// ErrLeadershipLost is returned if it is unknown whether the command will be carried out.
var ErrLeadershipLost = errors.New("this node has lost its leadership meanwhile")

// maxEntries is how many entries one request has. Tests change it.
var maxEntries uint64 = 64

// follower is what a leader knows of another server.
type follower struct {
	id      raftwire.ServerID
	address raftwire.ServerAddress
	wake    chan struct{} // has room for one: there is something to send

	// Owned by the main loop.
	next    uint64    // the entry to send next
	match   uint64    // its log is the leader's up to here
	contact time.Time // when the latest request that it has answered was sent
	sending bool      // a snapshot is on its way
}

// Propose replicates a command, which must not be changed afterwards, and returns its result
// when a majority has the command on disk. It blocks until then, or until the node leads no
// longer: at the latest after twice the election timeout without a majority.
func (n *Node) Propose(command []byte) ([]byte, error) {
	var leader raftwire.ServerID
	var done chan []byte
	n.do(func() {
		if leader = n.leader; n.lead != nil {
			done = make(chan []byte, 1)
			n.waiting[n.disk.last().Index+1] = done
			n.appendOwn(raftwire.LogCommand, command)
		}
	})
	if done == nil {
		return nil, fmt.Errorf("%w: the leader is %q", ErrNotLeader, leader)
	}
	if result, ok := <-done; ok {
		return result, nil
	}
	return nil, ErrLeadershipLost
}

// appendOwn adds an entry of this leader. Many at once would share one write to the disk in
// a Raft that is meant to be fast.
func (n *Node) appendOwn(kind raftwire.LogType, data []byte) {
	n.must(n.disk.append(&raftwire.Log{Index: n.disk.last().Index + 1, Term: n.disk.Term, Type: kind, Data: data}))
	for _, f := range n.followers {
		select {
		case f.wake <- struct{}{}:
		default: // it is awake
		}
	}
	n.commitReplicated() // if this is the only server
}

// commitReplicated commits what a majority has. Entries of earlier terms do not count: they
// are committed with one of this term that follows them (section 5.4.2 of the Raft paper).
func (n *Node) commitReplicated() {
	matches := []uint64{n.disk.last().Index}
	for _, f := range n.followers {
		matches = append(matches, f.match)
	}
	slices.Sort(matches)
	index := matches[len(matches)-n.quorum()]
	if index > n.commit && n.disk.entry(index).Term == n.disk.Term {
		n.commitTo(index)
	}
}

// startLeading makes the node the leader of its term.
func (n *Node) startLeading() {
	n.round, n.leader = nil, n.ID
	n.lead, n.resign = context.WithCancel(n.ctx)
	n.timer.Reset(n.ElectionTimeout)
	ctx := n.lead
	for id, address := range n.Peers {
		f := &follower{id: id, address: address, wake: make(chan struct{}, 1), next: n.disk.last().Index + 1, contact: time.Now()}
		n.followers = append(n.followers, f)
		n.tasks.Go(func() { n.replicate(ctx, f) })
	}
	n.appendOwn(raftwire.LogNoop, nil) // with it, entries of earlier terms can be committed
}

// stopLeading ends the leadership, if there is one.
func (n *Node) stopLeading() {
	if n.lead == nil {
		return
	}
	n.resign()
	n.lead, n.followers = nil, nil
	for _, done := range n.waiting {
		close(done)
	}
	clear(n.waiting)
	n.timer.Reset(n.patience())
}

// What follows runs on goroutines of its own, until ctx is done: the node leads no longer.

// replicate keeps the log of a follower like the leader's. A pipeline that has failed is
// replaced after a while.
func (n *Node) replicate(ctx context.Context, f *follower) {
	for ctx.Err() == nil {
		if pipeline, err := n.Transport.AppendEntriesPipeline(f.id, f.address); err == nil {
			n.stream(ctx, f, pipeline)
		}
		n.wait(ctx, nil)
	}
}

// stream sends entries and heartbeats without waiting for the answers to earlier ones.
func (n *Node) stream(ctx context.Context, f *follower, pipeline raftwire.AppendPipeline) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.tasks.Go(func() { n.receive(ctx, cancel, f, pipeline) })
	for m := n.nextRequest(ctx, f); m != nil; m = n.nextRequest(ctx, f) {
		// m and the response are the pipeline's until the future has settled, so both are new.
		// The call waits while the window is full.
		if _, err := pipeline.AppendEntries(m, new(raftwire.AppendEntriesResponse)); err != nil {
			return
		}
		if uint64(len(m.Entries)) < maxEntries { // else there may be more
			n.wait(ctx, f.wake)
		}
	}
}

// receive takes the answers, until one is no success: what was sent after that is void.
func (n *Node) receive(ctx context.Context, cancel func(), f *follower, pipeline raftwire.AppendPipeline) {
	defer pipeline.Close() // also ends an AppendEntries that waits
	defer cancel()
	for success := true; success; {
		select {
		case future := <-pipeline.Consumer(): // never closed
			n.do(func() { success = n.answered(ctx, f, future) })
		case <-ctx.Done():
			return
		}
	}
}

// answered takes an answer on the main loop, and reports whether it is a success.
func (n *Node) answered(ctx context.Context, f *follower, future raftwire.AppendFuture) bool {
	m, resp := future.Request(), future.Response()
	switch {
	case ctx.Err() != nil || future.Error() != nil:
	case resp.Term > n.disk.Term:
		n.follow(resp.Term, "")
	case !resp.Success:
		f.contact, f.next = future.Start(), resp.LastLog+1
	default:
		f.contact, f.match = future.Start(), max(f.match, lastOf(m))
		n.commitReplicated()
		return true
	}
	return false
}

// nextRequest returns what to send to a follower, or nil if ctx is done. While a snapshot is
// on its way that is a heartbeat that any log matches.
func (n *Node) nextRequest(ctx context.Context, f *follower) (m *raftwire.AppendEntriesRequest) {
	n.do(func() {
		if ctx.Err() != nil {
			return
		}
		m = &raftwire.AppendEntriesRequest{RPCHeader: n.header, Term: n.disk.Term}
		if f.next > n.disk.first() {
			end := min(f.next+maxEntries, n.disk.last().Index+1)
			m.PrevLogEntry, m.PrevLogTerm = f.next-1, n.disk.entry(f.next-1).Term
			m.Entries, m.LeaderCommitIndex = n.disk.slice(f.next, end), n.commit
			f.next = end
		} else if !f.sending {
			n.sendSnapshot(f)
		}
	})
	return m
}

// sendSnapshot begins to send the newest snapshot.
func (n *Node) sendSnapshot(f *follower) {
	body, err := n.disk.openSnapshot()
	n.must(err)
	info, err := body.Stat()
	n.must(err)
	m := raftwire.InstallSnapshotRequest{RPCHeader: n.header, Term: n.disk.Term, Size: info.Size()}
	m.LastLogIndex, m.LastLogTerm = n.disk.SnapshotIndex, n.disk.SnapshotTerm
	f.sending = true
	n.tasks.Go(func() {
		var resp raftwire.InstallSnapshotResponse
		err := n.Transport.InstallSnapshot(f.id, f.address, &m, &resp, body)
		_ = body.Close()
		n.do(func() {
			f.sending = false
			if err == nil && resp.Success {
				f.match = max(f.match, m.LastLogIndex)
				f.next = f.match + 1
			}
		})
	})
}

// lastOf returns the index up to which a follower that accepts m has the leader's log.
func lastOf(m *raftwire.AppendEntriesRequest) uint64 { return m.PrevLogEntry + uint64(len(m.Entries)) }

// wait returns when there is something to send, or a heartbeat is due, or ctx is done.
func (n *Node) wait(ctx context.Context, wake <-chan struct{}) {
	select {
	case <-wake:
	case <-time.After(n.ElectionTimeout / 10):
	case <-ctx.Done():
	}
}
