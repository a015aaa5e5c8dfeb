package main

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// In these tests node "a" is real, and the test plays "b" and "c" by hand.

func TestNode_VotesOnceInATermAlsoAfterARestart(t *testing.T) {
	play(t, func(p *players) {
		require.Equal(t, answer{4, true}, p.requestVote("b", 4, 0, 0))
		require.Equal(t, answer{4, false}, p.requestVote("c", 4, 0, 0))
		p.restart()
		require.Equal(t, answer{4, false}, p.requestVote("c", 4, 0, 0))
		require.Equal(t, answer{4, true}, p.requestVote("b", 4, 0, 0), "the answer may have been lost")
		require.Equal(t, answer{4, false}, p.requestVote("c", 3, 0, 0))
		require.Equal(t, answer{5, true}, p.requestVote("c", 5, 0, 0))
	})
}

func TestNode_VotesForNobodyWhoseLogIsBehind(t *testing.T) {
	play(t, func(p *players) {
		p.append("b", 2, 0, 0, entryOf(1, 1), entryOf(2, 2))
		require.Equal(t, answer{3, false}, p.requestVote("c", 3, 1, 2), "shorter")
		require.Equal(t, answer{4, false}, p.requestVote("c", 4, 9, 1), "longer, of an older term")
		require.Equal(t, answer{5, true}, p.requestVote("c", 5, 2, 2))
	})
}

func TestNode_APreVoteChangesNothing(t *testing.T) {
	play(t, func(p *players) {
		p.append("b", 2, 0, 0)
		require.Equal(t, answer{2, false}, p.requestPreVote("c", 9), "there is a leader")
		time.Sleep(electionTime) // sleep-ok: fake time
		before := p.state()
		require.Equal(t, answer{2, true}, p.requestPreVote("c", 9))
		require.Equal(t, answer{2, true}, p.requestPreVote("b", 9), "it is no vote")
		require.Equal(t, before, p.state())
	})
}

func TestNode_AnswersWhileASnapshotArrives(t *testing.T) {
	play(t, func(p *players) {
		body, sender := io.Pipe()
		request := &raftwire.InstallSnapshotRequest{RPCHeader: header("b"), Term: 2, LastLogIndex: 7, LastLogTerm: 1, Size: 4}
		installed := make(chan bool)
		go func() {
			var resp raftwire.InstallSnapshotResponse
			err := p.peers["b"].InstallSnapshot("a", "a", request, &resp, body)
			installed <- err == nil && resp.Success
		}()
		_, err := sender.Write([]byte("[\"x"))
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, p.append("b", 2, 0, 0).Success)
		require.False(t, p.append("b", 2, 7, 1).Success, "it is not there yet")
		_, err = sender.Write([]byte("\"]"))
		require.NoError(t, err)
		require.NoError(t, sender.Close())
		require.True(t, <-installed)
		require.True(t, p.append("b", 2, 7, 1).Success)
		p.restart()
		require.True(t, p.append("b", 2, 7, 1).Success)
	})
}

func TestNode_TakesOverWhenItsLeaderAsks(t *testing.T) {
	play(t, func(p *players) {
		p.append("b", 2, 0, 0)
		asked := p.serve("c")
		require.NoError(t, p.peers["c"].TimeoutNow("a", "a", &raftwire.TimeoutNowRequest{RPCHeader: header("c")}, &raftwire.TimeoutNowResponse{}))
		require.NoError(t, p.peers["b"].TimeoutNow("a", "a", &raftwire.TimeoutNowRequest{RPCHeader: header("b")}, &raftwire.TimeoutNowResponse{}))
		vote := (<-asked).(*raftwire.RequestVoteRequest) // not a pre-vote, and not at the wish of "c"
		require.Equal(t, uint64(3), vote.Term)
		require.True(t, vote.LeadershipTransfer)
	})
}

// Figure 8 of the Raft paper: an entry of an earlier term may be replaced although a majority
// has it.
func TestNode_DoesNotCommitEntriesOfEarlierTermsByCounting(t *testing.T) {
	var old []*raftwire.Log // so many that the leader's own entry is in a request of its own
	for i := range maxEntries {
		old = append(old, entryOf(i+1, 1))
	}
	for stored, committed := range map[uint64]uint64{maxEntries: 0, maxEntries + 1: maxEntries + 1} {
		play(t, func(p *players) {
			p.append("b", 2, 0, 0, old...)
			p.lead("c", stored)
			require.Equal(t, committed, p.state().commit)
		})
	}
}

func TestNode_StopsLeadingWithoutAMajority(t *testing.T) {
	play(t, func(p *players) {
		p.lead("c", 100)
		_, err := p.a.Propose([]byte("before"))
		require.NoError(t, err)
		p.network.Isolate("a")
		cut := time.Now()
		defer time.AfterFunc(10*electionTime, p.a.cancel).Stop() // else a failure is a hang
		_, err = p.a.Propose([]byte("after"))
		require.ErrorIs(t, err, ErrLeadershipLost)
		require.LessOrEqual(t, time.Since(cut), 2*electionTime)
		_, err = p.a.Propose([]byte("later"))
		require.ErrorIs(t, err, ErrNotLeader)
	})
}

func TestNode_RefusesServersThatItDoesNotKnow(t *testing.T) {
	play(t, func(p *players) {
		err := p.peers["b"].RequestVote("a", "a", &raftwire.RequestVoteRequest{RPCHeader: header("x"), Term: 9}, &raftwire.RequestVoteResponse{})
		var remote *raftwire.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Zero(t, p.state().term)
	})
}

func TestNode_LeadsAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, transport := raftwire.NewInmemTransport("a")
		n, err := Start(Config{"a", nil, dir, transport, store{}, electionTime, 10})
		require.NoError(t, err)
		_, err = n.Propose([]byte("set k v"))
		require.ErrorIs(t, err, ErrNotLeader)
		time.Sleep(2 * electionTime) // sleep-ok: fake time
		for range 30 {
			_, err = n.Propose([]byte("set k v"))
			require.NoError(t, err)
		}
		result, err := n.Propose([]byte("get k"))
		require.NoError(t, err)
		require.Equal(t, "v", string(result))
		require.NoError(t, n.Stop())
		_, err = n.Propose([]byte("get k"))
		require.Error(t, err)
	})
}

// players are node "a", and two transports that the test speaks with.
type players struct {
	t       *testing.T
	network *raftwire.InmemNetwork
	dir     string
	a       *Node
	peers   map[raftwire.ServerID]*raftwire.InmemTransport
	done    chan struct{}
}

func play(t *testing.T, test func(p *players)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &players{t: t, network: raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{}), dir: dir, done: make(chan struct{})}
		p.peers = map[raftwire.ServerID]*raftwire.InmemTransport{"b": p.network.Add("b"), "c": p.network.Add("c")}
		p.start()
		test(p)
		close(p.done)
		require.NoError(t, p.a.Stop())
		require.NoError(t, p.network.Close())
	})
}

func (p *players) start() {
	peers := map[raftwire.ServerID]raftwire.ServerAddress{"b": "b", "c": "c"}
	machine := &listMachine{judge: newJudge(), restores: new(atomic.Int64)}
	var err error
	p.a, err = Start(Config{"a", peers, p.dir, p.network.Add("a"), machine, electionTime, 100})
	require.NoError(p.t, err)
}

func (p *players) restart() {
	require.NoError(p.t, p.a.Stop())
	p.start()
}

// state is what of a node must not change by itself.
type state struct {
	term, commit uint64
	vote, leader raftwire.ServerID
}

func (p *players) state() (s state) {
	p.a.do(func() { s = state{p.a.disk.Term, p.a.commit, p.a.disk.Vote, p.a.leader} })
	return s
}

type answer struct {
	term    uint64
	granted bool
}

func header(from raftwire.ServerID) raftwire.RPCHeader { return raftwire.RPCHeader{ID: []byte(from)} }

func (p *players) requestVote(from raftwire.ServerID, term, lastIndex, lastTerm uint64) answer {
	var resp raftwire.RequestVoteResponse
	request := &raftwire.RequestVoteRequest{RPCHeader: header(from), Term: term, LastLogIndex: lastIndex, LastLogTerm: lastTerm}
	require.NoError(p.t, p.peers[from].RequestVote("a", "a", request, &resp))
	return answer{resp.Term, resp.Granted}
}

func (p *players) requestPreVote(from raftwire.ServerID, term uint64) answer {
	var resp raftwire.RequestPreVoteResponse
	require.NoError(p.t, p.peers[from].RequestPreVote("a", "a", &raftwire.RequestPreVoteRequest{RPCHeader: header(from), Term: term}, &resp))
	return answer{resp.Term, resp.Granted}
}

func (p *players) append(from raftwire.ServerID, term, previous, previousTerm uint64, entries ...*raftwire.Log) (resp raftwire.AppendEntriesResponse) {
	request := &raftwire.AppendEntriesRequest{RPCHeader: header(from), Term: term, PrevLogEntry: previous, PrevLogTerm: previousTerm, Entries: entries}
	require.NoError(p.t, p.peers[from].AppendEntries("a", "a", request, &resp))
	return resp
}

// serve answers the requests to a peer without a success, and returns them.
func (p *players) serve(id raftwire.ServerID) <-chan any {
	requests := make(chan any, 100)
	go func() {
		for {
			select {
			case rpc := <-p.peers[id].Consumer():
				requests <- rpc.Command
				rpc.Respond(nil, io.ErrClosedPipe)
			case <-p.done:
				return
			}
		}
	}()
	return requests
}

// lead makes the node a leader with a follower that wants the log from the start, and stores
// no entries after stored.
func (p *players) lead(follower raftwire.ServerID, stored uint64) {
	go func() {
		have := uint64(0)
		for {
			select {
			case rpc := <-p.peers[follower].Consumer():
				switch m := rpc.Command.(type) {
				case *raftwire.RequestPreVoteRequest:
					rpc.Respond(&raftwire.RequestPreVoteResponse{Term: m.Term - 1, Granted: true}, nil)
				case *raftwire.RequestVoteRequest:
					rpc.Respond(&raftwire.RequestVoteResponse{Term: m.Term, Granted: true}, nil)
				case *raftwire.AppendEntriesRequest:
					takes := m.PrevLogEntry <= have && lastOf(m) <= stored
					if takes {
						have = lastOf(m)
					}
					rpc.Respond(&raftwire.AppendEntriesResponse{Term: m.Term, LastLog: have, Success: takes}, nil)
				}
			case <-p.done:
				return
			}
		}
	}()
	time.Sleep(4 * electionTime) // sleep-ok: fake time
	require.Equal(p.t, raftwire.ServerID("a"), p.state().leader)
}
