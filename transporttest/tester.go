package transporttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

const (
	// generous is the timeout of transports in cases where nothing times out.
	generous = 10 * time.Second
	// short is the timeout of transports in cases about timeouts.
	short = 500 * time.Millisecond
	// patience is how long a case waits for what should happen at once.
	patience = 30 * time.Second
	// promptly is how long the end of a call may take after Close.
	promptly = 100 * time.Millisecond
	// slack is what a busy machine may add on a real clock.
	slack = 2 * time.Second
	// moment is how long a real clock waits to see that nothing happens.
	moment = 50 * time.Millisecond

	// peerID is the receiver's ServerID. No transport under test looks at it.
	peerID raftwire.ServerID = "receiver"
)

// tester is what a case works with: the test, and the maker of transports.
type tester struct {
	testing.TB
	maker   Maker
	options Options // of the transports that were made last
}

func newTester(t testing.TB, m Maker) *tester { return &tester{TB: t, maker: m} }

// has reports whether the transport is expected to have a feature.
func (t *tester) has(f Feature) bool { return t.maker.Without&f == 0 }

// transports makes n of them, which are closed at the end of the case.
func (t *tester) transports(n int, o Options) []raftwire.Transport {
	t.Helper()
	t.options = o
	return t.closeLater(n, t.maker.New(t.TB, n, o))
}

// slowPair is pair with transports that take so long to connect. It skips the case if
// there are none.
func (t *tester) slowPair(o Options, connecting time.Duration) *pair {
	t.Helper()
	if t.maker.NewSlow == nil {
		t.Skip("Maker.NewSlow is nil")
	}
	t.options = o
	made := t.closeLater(2, t.maker.NewSlow(t.TB, 2, o, connecting))
	return &pair{tester: t, sender: made[0], receiver: made[1]}
}

func (t *tester) closeLater(n int, made []raftwire.Transport) []raftwire.Transport {
	t.Helper()
	require.Len(t, made, n, "Maker.New returned another number of transports")
	for _, transport := range made {
		if c, ok := transport.(raftwire.WithClose); ok {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	return made
}

// pair is a sender and a receiver.
type pair struct {
	*tester
	sender, receiver raftwire.Transport
}

func (t *tester) pair(o Options) *pair {
	t.Helper()
	made := t.transports(2, o)
	return &pair{tester: t, sender: made[0], receiver: made[1]}
}

// to is the receiver's address.
func (p *pair) to() raftwire.ServerAddress { return p.receiver.LocalAddr() }

// serve answers the receiver's requests, one at a time, until the case ends.
func (p *pair) serve(answer func(rpc raftwire.RPC)) {
	p.Helper()
	p.serveOn(p.receiver, answer)
}

func (t *tester) serveOn(transport raftwire.Transport, answer func(rpc raftwire.RPC)) {
	done := t.Context().Done()
	var server sync.WaitGroup
	server.Go(func() {
		for {
			select {
			case rpc, open := <-transport.Consumer():
				if !assert.True(t, open, "the transport's Consumer was closed") {
					return
				}
				answer(rpc)
			case <-done:
				return
			}
		}
	})
	t.Cleanup(server.Wait)
}

// take receives a request that must be on its way.
func (p *pair) take() raftwire.RPC {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	select {
	case rpc, open := <-p.receiver.Consumer():
		require.True(p, open, "the transport's Consumer was closed")
		return rpc
	case <-ctx.Done():
		require.Fail(p, "no request arrived")
		return raftwire.RPC{}
	}
}

// requireNoRequest checks that nothing waits for the receiver.
func (p *pair) requireNoRequest() {
	p.Helper()
	p.settle()
	select {
	case rpc := <-p.receiver.Consumer():
		require.Failf(p, "a request was delivered", "%T", rpc.Command)
	default:
	}
}

// requireUsable checks that the receiver still gets requests and the sender
// their own answers.
func (p *pair) requireUsable() {
	p.Helper()
	for term := uint64(1000); term < 1003; term++ {
		var resp raftwire.AppendEntriesResponse
		call := p.start(func() error {
			return p.sender.AppendEntries(peerID, p.to(), &raftwire.AppendEntriesRequest{Term: term}, &resp)
		})
		rpc := p.take()
		require.IsType(p, &raftwire.AppendEntriesRequest{}, rpc.Command)
		require.Equal(p, term, rpc.Command.(*raftwire.AppendEntriesRequest).Term)
		rpc.Respond(&raftwire.AppendEntriesResponse{LastLog: term}, nil)
		require.NoError(p, call.wait())
		require.Equal(p, term, resp.LastLog)
	}
}

// requireServes answers what arrives from now on, and checks that a call gets its own
// answer. Requests whose callers have given up may still arrive.
func (p *pair) requireServes() {
	p.Helper()
	p.serve(func(rpc raftwire.RPC) {
		if _, append := rpc.Command.(*raftwire.AppendEntriesRequest); append {
			echo(rpc)
			return
		}
		rpc.Respond(nil, errors.New("the caller has given up"))
	})
	err := p.ownAnswer(1)
	for start := time.Now(); p.isLate(err) && time.Since(start) < patience; {
		err = p.ownAnswer(1)
	}
	require.NoError(p, err)
}

// isLate reports whether a call may have failed only because the machine is busy.
func (t *tester) isLate(err error) bool {
	return !t.maker.FakeTime && errors.Is(err, os.ErrDeadlineExceeded)
}

// settle lets everything happen that can happen by itself.
func (t *tester) settle() {
	if t.maker.FakeTime {
		synctest.Wait()
		return
	}
	t.pause(moment)
}

// pause waits on the clock of the case.
func (t *tester) pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// call is something that runs and will return an error.
type call struct {
	t    *tester
	done chan struct{}

	// set before done is closed
	err  error
	took time.Duration
}

// start runs f on a goroutine of its own.
func (t *tester) start(f func() error) *call {
	c := &call{t: t, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		begin := time.Now()
		c.err = f()
		c.took = time.Since(begin)
	}()
	return c
}

// wait returns the call's error, or fails the case if it does not return.
func (c *call) wait() error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		require.Fail(c.t, "a call did not return"+c.t.suspicion())
		return nil
	}
}

// suspicion is why a call may not end, in words, if there is a usual reason.
func (t *tester) suspicion() string {
	if t.options.Timeout == 0 {
		return ""
	}
	return fmt.Sprintf(" (is Options.Timeout of %v applied?)", t.options.Timeout)
}

// requirePending checks that the call waits for something.
func (c *call) requirePending() {
	c.t.Helper()
	c.t.settle()
	select {
	case <-c.done:
		require.Failf(c.t, "a call returned although it had to wait", "error: %v", c.err)
	default:
	}
}

// requireTook checks that the call took its time: exactly on a fake clock.
func (c *call) requireTook(want time.Duration) {
	c.t.Helper()
	if c.t.maker.FakeTime {
		require.Equal(c.t, want, c.took)
		return
	}
	// The transport's clock starts a little after the call's.
	require.GreaterOrEqual(c.t, c.took, want-time.Millisecond)
	require.LessOrEqual(c.t, c.took, want+slack)
}

// requireWithin checks that no more than limit has passed since start.
func (t *tester) requireWithin(limit time.Duration, start time.Time) {
	t.Helper()
	if !t.maker.FakeTime {
		limit += slack
	}
	require.LessOrEqual(t, time.Since(start), limit)
}

// requireTimeout checks that err says that a deadline has passed.
func (t *tester) requireTimeout(err error) {
	t.Helper()
	require.Error(t, err)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "net.Error.Timeout of %v", err)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// requireSame checks identity: a Raft core compares these errors with ==.
func (t *tester) requireSame(want, got error) {
	t.Helper()
	require.True(t, got == want, "want the value %q itself, got: %v", want, got)
}

// requireRemote checks that err is the peer's own error.
func (p *pair) requireRemote(op, text string, err error) {
	p.Helper()
	require.EqualError(p, err, text)
	var remote *raftwire.RemoteError
	require.ErrorAs(p, err, &remote)
	require.Equal(p, &raftwire.RemoteError{Op: op, Peer: p.to(), Text: text}, remote)
}

// closeTransport closes one that has Close.
func (t *tester) closeTransport(transport raftwire.Transport) {
	t.Helper()
	closer, ok := transport.(raftwire.WithClose)
	require.True(t, ok, "%T does not implement raftwire.WithClose", transport)
	require.NoError(t, closer.Close())
}

// answerWith answers every request in the same way, and reads snapshots.
func answerWith(response any, err error) func(raftwire.RPC) {
	return func(rpc raftwire.RPC) {
		if rpc.Reader != nil {
			_, _ = io.Copy(io.Discard, rpc.Reader)
		}
		rpc.Respond(response, err)
	}
}

// succeed answers AppendEntries and heartbeats.
func succeed(rpc raftwire.RPC) {
	rpc.Respond(&raftwire.AppendEntriesResponse{Success: true}, nil)
}

var errUnexpectedCommand = errors.New("unexpected command")
