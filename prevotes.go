package raftwire

import (
	"errors"
	"fmt"
	"io"

	"github.com/raftwire/raftwire/internal/errno"
)

// Pre-votes and peers that are too old for them. Such a peer closes the connection,
// which on one from the pool looks as if it had been lost while it was idle: the
// request would be tried again on a new one, and the others of the pool closed.

// preVoteState is what is known of a peer.
type preVoteState int32

const (
	preVotesUnknown  preVoteState = iota
	preVotesAnswered              // what becomes of the next one is as with other requests
	preVotesRefused               // the next one gets a connection of its own
)

func (p *peerConns) preVoteState() preVoteState { return preVoteState(p.preVotes.Load()) }

// refusesPreVotes reports whether the last pre-vote to an address was refused.
func (p *pool) refusesPreVotes(addr ServerAddress) bool {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peer := p.peers[addr]
	return peer != nil && peer.preVoteState() == preVotesRefused
}

// hasRefused reports whether err, on a connection from the pool, says that the peer
// has refused a pre-vote. It had not closed the connection just before, and has never
// answered a pre-vote.
func (p *peerConns) hasRefused(kind rpcKind, err error) bool {
	return kind == rpcRequestPreVote && p.preVoteState() == preVotesUnknown && isEnd(err)
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// learnPreVotes notes how a pre-vote has ended. It returns err, or what it means if
// the peer answers other requests.
func (p *peerConns) learnPreVotes(err error) error {
	_, remote := err.(*RemoteError)
	switch {
	case err == nil || remote:
		p.preVotes.Store(int32(preVotesAnswered))
	case isEnd(err) || errno.IsCut(err):
		p.preVotes.Store(int32(preVotesRefused))
		if p.traffic.lastSuccess.Load() != 0 {
			return fmt.Errorf("the peer may be too old for pre-votes, which came with hashicorp/raft 1.7: %w", err)
		}
	}
	return err
}
