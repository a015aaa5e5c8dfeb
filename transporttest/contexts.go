package transporttest

import (
	"context"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// contextCases are about transports that implement raftwire.WithContext.
var contextCases = []testCase{
	{"a call ends with its context, and others go on", 0, contextEndsCalls},
	{"a call whose context has ended sends nothing", 0, contextThatHasEnded},
	{"the context of a pipeline is for its opening only", Pipelines, contextOfPipeline},
}

func (p *pair) requireContexts() raftwire.WithContext {
	sender, ok := p.sender.(raftwire.WithContext)
	if !ok {
		p.Skipf("%T does not implement raftwire.WithContext", p.sender)
	}
	return sender
}

// contextRequests are requests with a context.
func contextRequests(ctx context.Context) []request {
	return []request{
		newRequest("AppendEntriesContext", under(ctx, raftwire.WithContext.AppendEntriesContext)),
		newRequest("RequestVoteContext", under(ctx, raftwire.WithContext.RequestVoteContext)),
		newRequest("RequestPreVoteContext", under(ctx, raftwire.WithContext.RequestPreVoteContext)),
		newRequest("TimeoutNowContext", under(ctx, raftwire.WithContext.TimeoutNowContext)),
		newRequest("InstallSnapshotContext", under(ctx, sendSnapshotContext)),
	}
}

func under[Q, R any](ctx context.Context, send func(raftwire.WithContext, context.Context, raftwire.ServerID, raftwire.ServerAddress, *Q, *R) error) func(raftwire.Transport, raftwire.ServerID, raftwire.ServerAddress, *Q, *R) error {
	return func(from raftwire.Transport, id raftwire.ServerID, to raftwire.ServerAddress, args *Q, resp *R) error {
		return send(from.(raftwire.WithContext), ctx, id, to, args, resp)
	}
}

func sendSnapshotContext(from raftwire.WithContext, ctx context.Context, id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.InstallSnapshotRequest, resp *raftwire.InstallSnapshotResponse) error {
	return from.InstallSnapshotContext(ctx, id, to, args, resp, strings.NewReader(body))
}

func contextEndsCalls(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.requireContexts()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	going := p.start(func() error { return p.ownAnswer(7) })
	kept := p.take()
	var ended []*call
	for _, r := range contextRequests(ctx) {
		ended = append(ended, p.start(func() error { return r.send(p.sender, p.to(), r.args(), r.answer()) }))
		p.take()
	}
	begin := time.Now()
	for _, c := range ended {
		c.requirePending()
	}
	cancel()
	for _, c := range ended {
		p.requireCanceled(c.wait())
	}
	t.requireWithin(promptly, begin)
	going.requirePending()
	echo(kept)
	require.NoError(t, going.wait())
	p.requireUsable()
}

func contextThatHasEnded(t *tester) {
	p := t.pair(Options{Timeout: generous})
	sender := p.requireContexts()
	p.requireUsable()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, r := range contextRequests(ctx) {
		p.requireCanceled(r.send(p.sender, p.to(), r.args(), r.answer()))
		p.requireNoRequest()
	}
	if t.has(Pipelines) {
		_, err := sender.AppendEntriesPipelineContext(ctx, peerID, p.to())
		p.requireCanceled(err)
	}
	p.requireUsable()
}

func contextOfPipeline(t *tester) {
	p := t.pair(Options{Timeout: generous})
	sender := p.requireContexts()
	ctx, cancel := context.WithCancel(t.Context())
	line, err := sender.AppendEntriesPipelineContext(ctx, peerID, p.to())
	require.NoError(t, err)
	cancel()
	t.settle()
	future, err := line.AppendEntries(numbered(1), new(raftwire.AppendEntriesResponse))
	require.NoError(t, err)
	echo(p.take())
	require.NoError(t, t.start(future.Error).wait())
	require.NoError(t, line.Close())
}

func (p *pair) requireCanceled(err error) {
	p.Helper()
	require.ErrorIs(p, err, context.Canceled)
	var op *raftwire.OpError
	require.ErrorAs(p, err, &op)
	require.Equal(p, p.to(), op.Peer)
}
