package transporttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// deadlineCases are about receivers that do not take or do not answer.
var deadlineCases = []testCase{
	{"a call that nobody takes ends at its deadline", 0, nobodyTakes},
	{"a call that nobody answers ends at its deadline", 0, nobodyAnswers},
	{"a snapshot that nobody answers ends", 0, nobodyAnswersSnapshot},
	{"a late answer is not taken for that of another call", 0, lateAnswer},
	{"a request whose caller has gone is not delivered", 0, callerGone},
	{"a connection that takes longer than the timeout serves a later call", 0, slowConnection},
	{"a connection that takes its time serves a later call although the first has no time for its answer", 0, slowConnectionAndAnswer},
	{"without a timeout a call waits for as long as it takes", 0, noTimeout},
	{"without a timeout a call ends with Close", Close, noTimeoutEndsWithClose},
}

func nobodyTakes(t *tester) {
	p := t.pair(Options{Timeout: short})
	for _, r := range t.shortRequests() {
		p.requireDeadline(r, func() {})
	}
	p.requireServes()
}

func nobodyAnswers(t *tester) {
	p := t.pair(Options{Timeout: short})
	for _, r := range t.shortRequests() {
		p.requireDeadline(r, func() { p.take() })
	}
	p.requireUsable()
}

// shortRequests returns those that end at the timeout: a snapshot that has
// arrived waits for the follower's restore, which may take longer.
func (t *tester) shortRequests() []request {
	var short []request
	for _, r := range t.requests() {
		if r.name != "InstallSnapshot" {
			short = append(short, r)
		}
	}
	return short
}

// requireDeadline checks a call that times out, while the receiver does something.
func (p *pair) requireDeadline(r request, meanwhile func()) {
	p.Helper()
	resp := r.answer()
	call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
	meanwhile()
	p.requireTimeout(call.wait())
	call.requireTook(short)
	require.Equal(p, r.none(), resp, r.name)
}

func nobodyAnswersSnapshot(t *tester) {
	if !t.maker.FakeTime {
		t.Skip("the limit may be long, and needs a fake clock")
	}
	p := t.pair(Options{Timeout: short})
	args, resp := filled(new(raftwire.InstallSnapshotRequest)), filled(new(raftwire.InstallSnapshotResponse))
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- sendSnapshot(p.sender, peerID, p.to(), args, resp) }()
	p.take()
	t.requireTimeout(<-done)
	require.GreaterOrEqual(t, time.Since(begin), short)
	require.Zero(t, *resp)
	p.requireUsable()
}

func lateAnswer(t *tester) {
	p := t.pair(Options{Timeout: short})
	first := p.start(func() error { return p.ownAnswer(1) })
	late := p.take()
	t.requireTimeout(first.wait())
	second := p.start(func() error { return p.ownAnswer(2) })
	rpc := p.take()
	echo(late)
	t.settle()
	echo(rpc)
	require.NoError(t, second.wait())
	p.requireUsable()
}

func callerGone(t *tester) {
	p := t.pair(Options{Timeout: short})
	for number := 1; number <= 3; number++ {
		call := p.start(func() error { return p.ownAnswer(number) })
		t.requireTimeout(call.wait())
	}
	<-time.NewTimer(short).C // until then it may be delivered
	p.requireNoRequest()
	p.requireUsable()
}

func slowConnection(t *tester) {
	p := t.slowPair(Options{Timeout: short}, short*3/2)
	p.serve(echo)
	first := p.start(func() error { return p.ownAnswer(1) })
	t.requireTimeout(first.wait())
	first.requireTook(short)
	p.requireReached(2)
}

func slowConnectionAndAnswer(t *tester) {
	p := t.slowPair(Options{Timeout: short}, short*3/5)
	p.serve(func(rpc raftwire.RPC) {
		t.pause(short * 3 / 5)
		echo(rpc)
	})
	first := p.start(func() error { return p.ownAnswer(1) })
	t.requireTimeout(first.wait())
	p.requireReached(2)
}

// requireReached checks that one of the next calls succeeds, with its own answer: how
// many it takes may depend on a real clock.
func (p *pair) requireReached(number int) {
	p.Helper()
	tries := 5
	if p.maker.FakeTime {
		tries = 1
	}
	var err error
	for range tries {
		if err = p.start(func() error { return p.ownAnswer(number) }).wait(); err == nil {
			return
		}
		p.requireTimeout(err)
	}
	require.NoError(p, err, "no call is ever answered")
}

func noTimeout(t *tester) {
	if !t.maker.FakeTime {
		t.Skip("needs a fake clock")
	}
	p := t.pair(Options{})
	call := p.start(func() error { return p.ownAnswer(1) })
	rpc := p.take()
	t.pause(24 * time.Hour)
	echo(rpc)
	<-call.done
	require.NoError(t, call.err)
	call.requireTook(24 * time.Hour)
}

func noTimeoutEndsWithClose(t *tester) {
	p := t.pair(Options{})
	call := p.start(func() error { return p.ownAnswer(1) })
	p.take()
	call.requirePending()
	begin := time.Now()
	t.closeTransport(p.sender)
	t.requireSame(raftwire.ErrTransportShutdown, call.wait())
	t.requireWithin(promptly, begin)
}
