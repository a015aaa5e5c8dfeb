package transporttest

import (
	"io"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// closeCases are about Close of a transport.
var closeCases = []testCase{
	{"a transport may be closed again, and by several goroutines", Close, closeAgain},
	{"after Close every call returns ErrTransportShutdown", Close, callsAfterClose},
	{"Close ends calls that nobody takes with ErrTransportShutdown", Close, closeEndsUntaken},
	{"Close ends calls that nobody answers with ErrTransportShutdown", Close, closeEndsUnanswered},
	{"Close ends a snapshot under way", Close, closeEndsSnapshot},
	{"Close of the receiver ends calls to it with an error", Close, closeOfReceiver},
	{"Close of the receiver fails its Read of a snapshot", Close, closeFailsBody},
	{"after Close nothing is delivered, and Consumer stays open", Close, nothingDelivered},
	{"after Close the handler gets no heartbeats", Close | HeartbeatHandler, noHeartbeats},
	{"an answer after Close is harmless", Close, answerAfterClose},
	{"ClosePeer ends what is under way to one peer, and nothing else", 0, closePeer},
	{"ClosePeer settles the futures of pipelines to one peer, and no others", Pipelines, closePeerSettlesPipelines},
	{"Close settles the futures of all pipelines", Close | Pipelines, closeSettlesPipelines},
	{"Close ends an AppendEntries that waits for a place in a pipeline", Close | Pipelines | Windows, closeEndsPipelinedAppend},
}

func closeAgain(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.requireUsable()
	var closers sync.WaitGroup
	for range 10 {
		closers.Go(func() { assert.NoError(t, p.sender.(raftwire.WithClose).Close()) })
	}
	closers.Wait()
	t.closeTransport(p.sender)
}

func callsAfterClose(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.requireUsable()
	to := p.to()
	t.closeTransport(p.sender)
	for _, r := range t.requests() {
		resp := r.answer()
		call := p.start(func() error { return r.send(p.sender, to, r.args(), resp) })
		t.requireSame(raftwire.ErrTransportShutdown, call.wait())
		require.Equal(t, r.none(), resp, r.name)
	}
	if t.has(Pipelines) {
		line, err := p.sender.AppendEntriesPipeline(peerID, to)
		t.requireSame(raftwire.ErrTransportShutdown, err)
		require.Nil(t, line)
	}
}

// inFlight is a call of each kind, with the response that it will fill.
type inFlight struct {
	request
	*call
	resp any
}

// sendAll starts a call of each kind, and does something for each.
func (p *pair) sendAll(meanwhile func()) []inFlight {
	var calls []inFlight
	for _, r := range p.requests() {
		resp := r.answer()
		call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
		calls = append(calls, inFlight{r, call, resp})
		meanwhile()
	}
	return calls
}

func closeEndsUntaken(t *tester) {
	t.pair(Options{Timeout: generous}).requireCloseEnds(func(p *pair) func() { return func() {} })
}

func closeEndsUnanswered(t *tester) {
	t.pair(Options{Timeout: generous}).requireCloseEnds(func(p *pair) func() { return func() { p.take() } })
}

func (p *pair) requireCloseEnds(meanwhile func(*pair) func()) {
	p.Helper()
	calls := p.sendAll(meanwhile(p))
	p.settle()
	begin := time.Now()
	p.closeTransport(p.sender)
	for _, c := range calls {
		p.requireSame(raftwire.ErrTransportShutdown, c.wait())
		require.Equal(p, c.none(), c.resp, c.name)
	}
	p.requireWithin(promptly, begin)
}

func closeEndsSnapshot(t *tester) {
	p := t.pair(Options{Timeout: generous})
	s := p.install(1<<40, endless{})
	p.take()
	s.requirePending()
	begin := time.Now()
	t.closeTransport(p.sender)
	t.requireSame(raftwire.ErrTransportShutdown, s.requireFailed())
	t.requireWithin(promptly, begin)
}

func closeOfReceiver(t *tester) {
	p := t.pair(Options{Timeout: generous})
	untaken := p.sendAll(func() { p.settle() })
	p.settle()
	begin := time.Now()
	t.closeTransport(p.receiver)
	for _, c := range untaken {
		require.Error(t, c.wait(), c.name)
		require.Equal(t, c.none(), c.resp, c.name)
	}
	t.requireWithin(promptly, begin)
}

func closeFailsBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	data, feed := io.Pipe()
	defer func() { _ = feed.CloseWithError(errDisk) }()
	p.install(100, data)
	rpc := p.take()
	read := p.start(func() error { _, err := io.Copy(io.Discard, rpc.Reader); return err })
	read.requirePending()
	begin := time.Now()
	t.closeTransport(p.receiver)
	require.Error(t, read.wait())
	t.requireWithin(promptly, begin)
}

func nothingDelivered(t *tester) {
	p := t.pair(Options{Timeout: generous})
	calls := p.sendAll(func() {})
	p.settle()
	t.closeTransport(p.receiver)
	p.requireClosedToRequests()
	for _, c := range calls {
		require.Error(t, c.wait(), c.name)
	}
	late := p.start(func() error { return p.ownAnswer(1) })
	p.requireClosedToRequests()
	require.Error(t, late.wait())
}

// requireClosedToRequests looks at Consumer again and again: a transport that
// chooses at random between delivering and ending is caught sooner or later.
func (p *pair) requireClosedToRequests() {
	p.Helper()
	p.settle()
	for range 100 {
		select {
		case rpc, open := <-p.receiver.Consumer():
			require.True(p, open, "the transport's Consumer was closed")
			require.Failf(p, "a request was delivered", "%T", rpc.Command)
		default:
		}
	}
}

func noHeartbeats(t *tester) {
	p := t.pair(Options{Timeout: generous})
	var beats sync.WaitGroup
	p.receiver.SetHeartbeatHandler(succeed)
	for range 5 {
		require.NoError(t, p.beat(heartbeat()).wait())
	}
	t.closeTransport(p.receiver)
	p.receiver.SetHeartbeatHandler(func(rpc raftwire.RPC) {
		assert.Fail(t, "a heartbeat was delivered")
		succeed(rpc)
	})
	for range 20 {
		beats.Go(func() {
			assert.Error(t, p.sender.AppendEntries(peerID, p.to(), heartbeat(), new(raftwire.AppendEntriesResponse)))
		})
	}
	beats.Wait()
}

func answerAfterClose(t *tester) {
	p := t.pair(Options{Timeout: generous})
	var taken []raftwire.RPC
	calls := p.sendAll(func() { taken = append(taken, p.take()) })
	t.closeTransport(p.receiver)
	for _, rpc := range taken {
		answer := p.start(func() error { rpc.Respond(nil, nil); return nil })
		require.NoError(t, answer.wait())
	}
	for _, c := range calls {
		require.Error(t, c.wait(), c.name)
	}
}

func closeSettlesPipelines(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 10})
	var futures []raftwire.AppendFuture
	pipelines := []*pipe{p.pipeline(), p.pipeline(), p.pipeline()}
	for _, pipeline := range pipelines {
		futures = append(futures, pipeline.sendNumbered(1, 9)...)
	}
	begin := time.Now()
	t.closeTransport(p.sender)
	for _, future := range futures {
		t.requireFailed(future)
	}
	t.requireWithin(promptly, begin)
	for _, pipeline := range pipelines {
		require.Error(t, pipeline.begin(numbered(10)).wait())
		require.NoError(t, pipeline.line.Close())
	}
}

func closeEndsPipelinedAppend(t *tester) {
	p := t.pair(Options{Timeout: generous, Window: 2}).pipeline()
	p.send(numbered(1))
	waiting := p.begin(numbered(2))
	waiting.requirePending()
	begin := time.Now()
	t.closeTransport(p.sender)
	if waiting.wait() == nil {
		t.requireFailed(waiting.future)
	}
	t.requireWithin(promptly, begin)
}

// closer is what can let one peer go.
func (p *pair) closer() raftwire.WithClosePeer {
	closer, ok := p.sender.(raftwire.WithClosePeer)
	if !ok {
		p.Skipf("%T does not implement raftwire.WithClosePeer", p.sender)
	}
	return closer
}

// peers returns a sender with two receivers.
func (t *tester) peers(o Options) (one, other *pair) {
	made := t.transports(3, o)
	return &pair{tester: t, sender: made[0], receiver: made[1]}, &pair{tester: t, sender: made[0], receiver: made[2]}
}

func closePeer(t *tester) {
	one, other := t.peers(Options{Timeout: generous})
	closer := one.closer()
	back := &pair{tester: t, sender: one.receiver, receiver: one.sender}
	inbound := back.start(func() error { return back.ownAnswer(7) })
	received := back.take()
	var kept []raftwire.RPC
	ended := one.sendAll(func() { one.take() })
	going := other.sendAll(func() { kept = append(kept, other.take()) })
	s := one.install(1<<40, endless{})
	one.take()
	s.requirePending()
	begin := time.Now()
	closer.ClosePeer(one.to())
	for _, c := range ended {
		one.requireClosePeer(c.wait())
		require.Equal(t, c.none(), c.resp, c.name)
	}
	one.requireClosePeer(s.requireFailed())
	t.requireWithin(promptly, begin)
	one.requireNoRequest()
	echo(received)
	require.NoError(t, inbound.wait())
	for i, c := range going {
		c.requirePending()
		answerWith(nil, nil)(kept[i])
		require.NoError(t, c.wait(), c.name)
	}
	one.requireUsable()
	other.requireUsable()
}

func closePeerSettlesPipelines(t *tester) {
	one, other := t.peers(Options{Timeout: generous, Window: 10})
	closer := one.closer()
	ended, going := one.pipeline(), other.pipeline()
	futures := ended.sendNumbered(1, 9)
	kept := going.sendNumbered(1, 1)
	begin := time.Now()
	closer.ClosePeer(one.to())
	for _, future := range futures {
		one.requireClosePeer(t.start(future.Error).wait())
	}
	t.requireWithin(promptly, begin)
	echo(other.take())
	require.NoError(t, t.start(kept[0].Error).wait())
	require.NoError(t, ended.line.Close())
}

func (p *pair) requireClosePeer(err error) {
	p.Helper()
	require.ErrorIs(p, err, raftwire.ErrClosePeer)
	var op *raftwire.OpError
	require.ErrorAs(p, err, &op)
	require.Equal(p, p.to(), op.Peer)
}
