package raftwire

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/errno"
)

// traffic counts what goes to and comes from a peer, or all inbound
// connections.
type traffic struct {
	conn.Counter
	lastSuccess atomic.Int64             // Unix time in ns; 0 for never
	lastDial    atomic.Int64             // likewise
	id          atomic.Pointer[ServerID] // see PeerStats.ID; nil for inbound connections
	preVotes    atomic.Int32             // a preVoteState
}

// setID notes the server that is called at the address. Most calls find its ID
// there already, and write nothing.
func (t *traffic) setID(id ServerID) {
	if known := t.id.Load(); known == nil || *known != id {
		t.storeID(id)
	}
}

// storeID allocates id. Inlined, it would make each call of setID do so.
//
//go:noinline
func (t *traffic) storeID(id ServerID) { t.id.Store(&id) }

func (t *traffic) serverID() ServerID {
	if id := t.id.Load(); id != nil {
		return *id
	}
	return ""
}

// answered notes that a request that was made at start was answered without an
// error. t may be nil.
func (t *traffic) answered(start time.Time) {
	if t != nil {
		t.lastSuccess.Store(start.UnixNano())
	}
}

// lastAnswered returns when the last request was made that was answered, or zero.
func (t *traffic) lastAnswered() time.Time { return timeAt(t.lastSuccess.Load()) }

// timeAt returns a Unix time in ns, and the zero time for 0.
func timeAt(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func (t *traffic) stats(addr ServerAddress) PeerStats {
	return PeerStats{
		ID:          t.serverID(),
		Peer:        addr,
		LastDial:    timeAt(t.lastDial.Load()),
		LastSuccess: t.lastAnswered(),
		BytesIn:     t.In.Load(),
		BytesOut:    t.Out.Load(),
	}
}

// preVoteState is what is known of a peer. One that is too old for pre-votes closes
// the connection. If that came from the pool, it looks as if it had been lost while it
// was idle: the request would be tried again, and the others of the pool closed.
type preVoteState int32

const (
	preVotesUnknown  preVoteState = iota
	preVotesAnswered              // what becomes of the next one is as with other requests
	preVotesRefused               // the next one gets a connection of its own
)

// hasRefused reports whether err, on a connection from the pool, says that the peer
// has refused a pre-vote. It had not closed the connection just before, and has never
// answered a pre-vote.
func (t *traffic) hasRefused(kind rpcKind, err error) bool {
	return kind == rpcRequestPreVote && preVoteState(t.preVotes.Load()) == preVotesUnknown && isEnd(err)
}

// refusesPreVotes reports whether the last pre-vote was refused.
func (t *traffic) refusesPreVotes() bool { return preVoteState(t.preVotes.Load()) == preVotesRefused }

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// learnPreVotes notes how a pre-vote has ended. It returns err, or what it means if
// the peer answers other requests.
func (t *traffic) learnPreVotes(err error) error {
	_, remote := err.(*RemoteError)
	switch {
	case err == nil || remote:
		t.preVotes.Store(int32(preVotesAnswered))
	case isEnd(err) || errno.IsCut(err):
		t.preVotes.Store(int32(preVotesRefused))
		if t.lastSuccess.Load() != 0 {
			return fmt.Errorf("the peer may be too old for pre-votes, which came with hashicorp/raft 1.7: %w", err)
		}
	}
	return err
}

// epoch is a point in time to measure from: the time since then costs half of
// what the time of day costs.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// hostOf returns the host in an address, or "" if it has none.
func hostOf(address ServerAddress) string { return door.HostOf(string(address)) }
