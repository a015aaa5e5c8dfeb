package transporttest

import (
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// identityCases are about transports that Maker.NewAs makes.
var identityCases = []testCase{
	{"nodes of one cluster talk to each other", 0, identitiesThatMatch},
	{"a request from another cluster is refused before the core gets it", 0, anotherCluster},
	{"a request for another node is refused before the core gets it", 0, anotherNode},
	{"a peer that does not say who it is is refused where that is required", 0, identityRequired},
	{"a request whose header names another sender than the Identity is not sent", 0, anotherSender},
	{"a pipeline to another cluster delivers nothing, and says why", Pipelines, pipelineToAnotherCluster},
}

// senderID is the ServerID in the headers of requests.
var senderID = raftwire.ServerID(filled(new(raftwire.TimeoutNowRequest)).ID)

// identified returns a pair with identities. It skips the case if there are none.
func (t *tester) identified(sender, receiver raftwire.Identity) *pair {
	t.Helper()
	if t.maker.NewAs == nil {
		t.Skip("Maker.NewAs is nil")
	}
	t.options = Options{Timeout: generous}
	made := t.closeLater(2, t.maker.NewAs(t.TB, t.options, sender, receiver))
	return &pair{tester: t, sender: made[0], receiver: made[1]}
}

func identitiesThatMatch(t *tester) {
	for _, required := range []bool{false, true} {
		p := t.identified(raftwire.Identity{Cluster: "one", Node: senderID, Require: required},
			raftwire.Identity{Cluster: "one", Node: peerID, Require: required})
		for range 2 { // the second time nobody introduces himself
			for _, r := range t.requests() {
				p.requireEveryField(r)
			}
		}
	}
}

func anotherCluster(t *tester) {
	p := t.identified(raftwire.Identity{Cluster: "one", Node: senderID}, raftwire.Identity{Cluster: "two", Node: peerID})
	p.requireRefused(raftwire.ErrWrongCluster)
}

func anotherNode(t *tester) {
	p := t.identified(raftwire.Identity{Cluster: "one", Node: senderID}, raftwire.Identity{Cluster: "one", Node: "another"})
	p.requireRefused(raftwire.ErrWrongNode)
}

// requireRefused checks that no request gets to the receiver's core, whose heartbeat
// handler is a part of it, and why.
func (p *pair) requireRefused(want error) {
	p.Helper()
	p.receiver.SetHeartbeatHandler(func(raftwire.RPC) { p.Error("the heartbeat handler was called") })
	requests := p.requests()
	heartbeat := requests[0]
	heartbeat.args = func() any {
		return &raftwire.AppendEntriesRequest{RPCHeader: filled(new(raftwire.TimeoutNowRequest)).RPCHeader, Term: 7}
	}
	for _, r := range append(requests, heartbeat) {
		resp := r.answer()
		call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
		p.requireNoRequest()
		err := call.wait()
		require.ErrorIs(p, err, want, r.name)
		require.ErrorContains(p, err, string(p.to()), r.name)
		require.Equal(p, r.none(), resp, r.name)
	}
}

func identityRequired(t *tester) {
	p := t.identified(raftwire.Identity{}, raftwire.Identity{Cluster: "one", Node: peerID, Require: true})
	for _, r := range t.requests() {
		call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), r.none()) })
		p.requireNoRequest()
		require.Error(t, call.wait(), r.name)
	}
	p = t.identified(raftwire.Identity{Cluster: "one", Node: senderID, Require: true}, raftwire.Identity{})
	p.serve(answerWith(nil, nil))
	for _, r := range t.requests() {
		err := p.start(func() error { return r.send(p.sender, p.to(), r.args(), r.none()) }).wait()
		require.ErrorIs(t, err, raftwire.ErrNoIdentity, r.name)
	}
}

func anotherSender(t *tester) {
	p := t.identified(raftwire.Identity{Cluster: "one", Node: "a-typo"}, raftwire.Identity{Cluster: "one", Node: peerID})
	for _, r := range t.requests() {
		call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), r.none()) })
		p.requireNoRequest()
		require.ErrorContains(t, call.wait(), "a-typo", r.name)
	}
}

func pipelineToAnotherCluster(t *tester) {
	p := t.identified(raftwire.Identity{Cluster: "one", Node: senderID}, raftwire.Identity{Cluster: "two", Node: peerID})
	call := p.start(func() error {
		line, err := p.sender.AppendEntriesPipeline(peerID, p.to())
		if err != nil {
			return err
		}
		defer func() { _ = line.Close() }()
		future, err := line.AppendEntries(filled(new(raftwire.AppendEntriesRequest)), new(raftwire.AppendEntriesResponse))
		if err != nil {
			return err
		}
		return future.Error()
	})
	p.requireNoRequest()
	require.ErrorIs(t, call.wait(), raftwire.ErrWrongCluster)
}
