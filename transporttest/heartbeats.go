package transporttest

import (
	"bytes"
	"io"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// heartbeatCases are about SetHeartbeatHandler.
var heartbeatCases = []testCase{
	{"a heartbeat goes to the handler if there is one", HeartbeatHandler, handlerTakesHeartbeats},
	{"a heartbeat goes to Consumer if there is no handler", 0, consumerTakesHeartbeats},
	{"the handler is used while the consumer is blocked", HeartbeatHandler, handlerIsIndependent},
	{"the handler is used while the consumer installs a snapshot", HeartbeatHandler, handlerDuringSnapshot},
	{"nothing but a heartbeat goes to the handler", HeartbeatHandler, handlerTakesNothingElse},
	{"a heartbeat that the handler does not answer ends at its deadline", HeartbeatHandler, handlerDoesNotAnswer},
	{"the handler may answer later and from another goroutine", HeartbeatHandler, handlerAnswersLater},
}

func (p *pair) beat(args *raftwire.AppendEntriesRequest) *call {
	return p.start(func() error {
		return p.sender.AppendEntries(peerID, p.to(), args, new(raftwire.AppendEntriesResponse))
	})
}

func handlerTakesHeartbeats(t *tester) {
	p := t.pair(Options{Timeout: generous})
	beats := make(chan *raftwire.AppendEntriesRequest, 100)
	p.receiver.SetHeartbeatHandler(func(rpc raftwire.RPC) {
		beats <- rpc.Command.(*raftwire.AppendEntriesRequest)
		succeed(rpc)
	})
	variants := heartbeats()
	for _, args := range variants {
		require.NoError(t, p.beat(args).wait())
		require.Equal(t, args, <-beats)
	}
	p.requireNoRequest()
}

// heartbeats returns the forms that a heartbeat may have.
func heartbeats() []*raftwire.AppendEntriesRequest {
	byLeader := &raftwire.AppendEntriesRequest{Term: 2, Leader: []byte("leader")}
	byBoth := heartbeat()
	byBoth.Leader, byBoth.ID, byBoth.ProtocolVersion = []byte("leader"), []byte("id"), 3
	return []*raftwire.AppendEntriesRequest{heartbeat(), byLeader, byBoth}
}

func consumerTakesHeartbeats(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.requireConsumed(heartbeat())
	p.receiver.SetHeartbeatHandler(succeed)
	p.receiver.SetHeartbeatHandler(nil)
	p.requireConsumed(heartbeat())
}

func (p *pair) requireConsumed(args *raftwire.AppendEntriesRequest) {
	p.Helper()
	call := p.beat(args)
	rpc := p.take()
	require.Equal(p, args, rpc.Command)
	succeed(rpc)
	require.NoError(p, call.wait())
}

func handlerIsIndependent(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.receiver.SetHeartbeatHandler(succeed)
	untaken := p.beat(numbered(1))
	unanswered := p.beat(numbered(2))
	rpc := p.take()
	for range 10 {
		require.NoError(t, p.beat(heartbeat()).wait())
	}
	succeed(rpc)
	succeed(p.take())
	require.NoError(t, untaken.wait())
	require.NoError(t, unanswered.wait())
}

func handlerDuringSnapshot(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.receiver.SetHeartbeatHandler(succeed)
	s := p.install(1<<20, bytes.NewReader(pattern(1<<20)))
	rpc := p.take()
	require.NoError(t, p.beat(heartbeat()).wait())
	_, err := io.Copy(io.Discard, rpc.Reader)
	require.NoError(t, err)
	require.NoError(t, p.beat(heartbeat()).wait())
	installed(rpc)
	s.requireInstalled()
}

func handlerTakesNothingElse(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.receiver.SetHeartbeatHandler(func(rpc raftwire.RPC) {
		rpc.Respond(nil, errUnexpectedCommand)
	})
	changes := []func(args *raftwire.AppendEntriesRequest){
		func(args *raftwire.AppendEntriesRequest) { args.Term = 0 },
		func(args *raftwire.AppendEntriesRequest) { args.Addr = nil },
		func(args *raftwire.AppendEntriesRequest) { args.PrevLogEntry = 1 },
		func(args *raftwire.AppendEntriesRequest) { args.PrevLogTerm = 1 },
		func(args *raftwire.AppendEntriesRequest) { args.LeaderCommitIndex = 1 },
		func(args *raftwire.AppendEntriesRequest) { args.Entries = []*raftwire.Log{{Index: 1}} },
	}
	for _, change := range changes {
		args := heartbeat()
		change(args)
		p.requireConsumed(args)
	}
	for _, r := range t.requests() {
		p.requireEveryField(r)
	}
}

func handlerDoesNotAnswer(t *tester) {
	p := t.pair(Options{Timeout: short})
	p.receiver.SetHeartbeatHandler(func(raftwire.RPC) {})
	call := p.beat(heartbeat())
	t.requireTimeout(call.wait())
	call.requireTook(short)
	p.requireUsable()
}

func handlerAnswersLater(t *tester) {
	p := t.pair(Options{Timeout: generous})
	beats := make(chan raftwire.RPC, 1)
	p.receiver.SetHeartbeatHandler(func(rpc raftwire.RPC) { beats <- rpc })
	call := p.beat(heartbeat())
	rpc := <-beats
	call.requirePending()
	succeed(rpc)
	require.NoError(t, call.wait())
}
