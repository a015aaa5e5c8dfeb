package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

// A suite that cannot fail proves nothing. Here each broken transport is a
// sound one behind a wrapper that breaks one promise, and the sentence that
// states the promise must fail, on it and not on the sound one.
func TestEachBrokenTransportFailsTheSentenceThatItBreaks(t *testing.T) {
	for _, b := range brokenTransports {
		t.Run(b.name, func(t *testing.T) {
			c := findCase(t, b.sentence)
			require.Empty(t, complaints(t, c, soundMaker()), "the sound transport fails as well")
			found := complaints(t, c, brokenMaker(b))
			require.NotEmpty(t, found, "the suite did not notice")
			require.Contains(t, strings.Join(found, "\n"), b.complaint)
		})
	}
}

func findCase(t *testing.T, sentence string) testCase {
	t.Helper()
	for _, c := range allCases() {
		if c.sentence == sentence {
			return c
		}
	}
	require.Failf(t, "no such sentence", "%q", sentence)
	return testCase{}
}

// complaints runs a case in a bubble and returns what it found wrong.
func complaints(t *testing.T, c testCase, m Maker) (found []string) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.check(newTester(r, m))
		}()
		<-done
		found = r.found()
	})
	return found
}

// recorder takes the failures of a test in place of the test.
type recorder struct {
	testing.TB

	mu       sync.Mutex // protects following
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

// FailNow ends the goroutine of the case, as that of a test does.
func (r *recorder) FailNow() { runtime.Goexit() }

func (r *recorder) found() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

func soundMaker() Maker {
	return Maker{FakeTime: true, New: newSound, NewSlow: newSlowSound, NewAs: newSoundAs}
}

func newSound(t testing.TB, n int, o Options) []raftwire.Transport { return newSlowSound(t, n, o, 0) }

// slowLayer takes its time to connect.
type slowLayer struct {
	*faultnet.Layer
	connecting time.Duration
}

func (l slowLayer) DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, l.connecting)
	defer cancel()
	<-wait.Done()
	return l.Layer.DialContext(ctx, addr)
}

func newSlowSound(t testing.TB, n int, o Options, connecting time.Duration) []raftwire.Transport {
	return newEachSound(t, o, connecting, make([]raftwire.Identity, n))
}

func newSoundAs(t testing.TB, o Options, identities ...raftwire.Identity) []raftwire.Transport {
	return newEachSound(t, o, 0, identities)
}

func newEachSound(t testing.TB, o Options, connecting time.Duration, identities []raftwire.Identity) []raftwire.Transport {
	network := faultnet.New(1)
	var all []raftwire.Transport
	for i, identity := range identities {
		layer, err := network.Host(fmt.Sprintf("host-%d", i)).Listen()
		require.NoError(t, err)
		sound := raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
			Stream:          slowLayer{layer, connecting},
			MaxPool:         3,
			MaxRPCsInFlight: o.Window,
			Timeout:         o.Timeout,
			Identity:        identity,
			Logger:          hclog.NewNullLogger(),
		})
		t.Cleanup(func() { _ = sound.Close() })
		all = append(all, sound)
	}
	return all
}

func brokenMaker(b broken) Maker {
	each := func(t testing.TB, o Options, connecting time.Duration, identities []raftwire.Identity) []raftwire.Transport {
		if b.options != nil {
			b.options(&o)
		}
		if b.identities != nil {
			b.identities(identities)
		}
		var all []raftwire.Transport
		common := new(shared)
		for _, sound := range newEachSound(t, o, max(1, b.slower)*connecting, identities) {
			all = append(all, b.wrap(&wrapper{
				NetworkTransport: sound.(*raftwire.NetworkTransport),
				end:              t.Context(),
				shared:           common,
			}))
		}
		return all
	}
	return Maker{
		FakeTime: true,
		New: func(t testing.TB, n int, o Options) []raftwire.Transport {
			return each(t, o, 0, make([]raftwire.Identity, n))
		},
		NewSlow: func(t testing.TB, n int, o Options, connecting time.Duration) []raftwire.Transport {
			return each(t, o, connecting, make([]raftwire.Identity, n))
		},
		NewAs: func(t testing.TB, o Options, identities ...raftwire.Identity) []raftwire.Transport {
			return each(t, o, 0, identities)
		},
	}
}

// wrapper is a sound transport, to be embedded by broken ones.
type wrapper struct {
	*raftwire.NetworkTransport
	end context.Context // of the case: a call that hangs ends with it
	*shared
}

// shared is what the transports of a case know of each other.
type shared struct {
	lastSent   atomic.Pointer[raftwire.AppendEntriesRequest]
	lastFailed atomic.Pointer[raftwire.AppendEntriesResponse]
}

// broken is a way to break a transport.
type broken struct {
	name       string
	sentence   string
	options    func(o *Options)
	identities func([]raftwire.Identity) // changes them
	slower     time.Duration             // times NewSlow's connecting
	wrap       func(w *wrapper) raftwire.Transport

	// complaint is what the suite says of it; "" means that any will do.
	complaint string
}

func asIs(w *wrapper) raftwire.Transport { return w }

var brokenTransports = []broken{
	{
		name:     "drops the text of remote errors",
		sentence: "an error of the peer keeps its text and is a RemoteError",
		wrap:     func(w *wrapper) raftwire.Transport { return vague{w} },
	}, {
		name:     "never times out",
		sentence: "a call that nobody answers ends at its deadline",
		wrap:     func(w *wrapper) raftwire.Transport { return patient{w} },
	}, {
		name:      "does not time out",
		sentence:  "a call that nobody answers ends at its deadline",
		options:   func(o *Options) { o.Timeout = 0 },
		wrap:      asIs,
		complaint: "a call did not return (is Options.Timeout of 500ms applied?)",
	}, {
		name:     "times out late",
		sentence: "a call that nobody answers ends at its deadline",
		options:  func(o *Options) { o.Timeout++ },
		wrap:     asIs,
	}, {
		name:     "leaves stale fields in the response",
		sentence: "an answer overwrites the response completely",
		wrap:     func(w *wrapper) raftwire.Transport { return forgetful{w} },
	}, {
		name:     "shares its arguments with the receiver",
		sentence: "what the receiver does to a request does not reach the sender",
		wrap:     newSharing,
	}, {
		name:     "loses a field",
		sentence: "every request and every answer arrives with all its fields",
		wrap:     func(w *wrapper) raftwire.Transport { return lossy{w} },
	}, {
		name:     "writes to the response after the call",
		sentence: "a late answer does not touch the response",
		wrap:     newLateWriter,
	}, {
		name:     "ignores the heartbeat handler",
		sentence: "a heartbeat goes to the handler if there is one",
		wrap:     func(w *wrapper) raftwire.Transport { return deaf{w} },
	}, {
		name:     "closes the Consumer of pipelines",
		sentence: "the Consumer of a pipeline is never closed",
		wrap:     pipelinesOf(func(w *wrapper, line raftwire.AppendPipeline) raftwire.AppendPipeline { return newClosing(line) }),
	}, {
		name:     "delivers futures out of order",
		sentence: "every future settles exactly once and in the order of requests",
		wrap:     pipelinesOf(newSwapping),
	}, {
		name:     "wedges when nobody reads Consumer",
		sentence: "AppendEntries returns within the timeout although nobody reads Consumer",
		wrap:     pipelinesOf(func(w *wrapper, line raftwire.AppendPipeline) raftwire.AppendPipeline { return wedging{line, w} }),
	}, {
		name:     "has a window that is one too large",
		sentence: "with a window of N, N-1 sends return at once and send N is written and waits until an answer was consumed",
		options:  func(o *Options) { o.Window++ },
		wrap:     asIs,
	}, {
		name:     "has a window that is one too small",
		sentence: "a window of 130 holds a hundred answers that nobody has consumed",
		options:  func(o *Options) { o.Window = 100 },
		wrap:     asIs,
	}, {
		name:     "wraps the error for no pipelining",
		sentence: "a window of one, or less than zero, is no pipelining",
		wrap:     func(w *wrapper) raftwire.Transport { return wrapping{w} },
	}, {
		name:     "ends dials too early",
		sentence: "a connection that takes longer than the timeout serves a later call",
		slower:   10,
		wrap:     asIs,
	}, {
		name:     "forgets a connection whose answer is late",
		sentence: "a connection that takes its time serves a later call although the first has no time for its answer",
		wrap:     func(w *wrapper) raftwire.Transport { return forgetting{w} },
	}, {
		name:     "lets no peer go",
		sentence: "ClosePeer ends what is under way to one peer, and nothing else",
		wrap:     func(w *wrapper) raftwire.Transport { return clinging{w} },
	}, {
		name:     "lets all peers go",
		sentence: "ClosePeer settles the futures of pipelines to one peer, and no others",
		wrap:     func(w *wrapper) raftwire.Transport { return sweeping{w} },
	}, {
		name:     "ignores contexts",
		sentence: "a call ends with its context, and others go on",
		wrap:     func(w *wrapper) raftwire.Transport { return unending{w} },
	}, {
		name:     "looks at no context before it sends",
		sentence: "a call whose context has ended sends nothing",
		wrap:     func(w *wrapper) raftwire.Transport { return unending{w} },
	}, {
		name:     "ends pipelines with their context",
		sentence: "the context of a pipeline is for its opening only",
		wrap:     func(w *wrapper) raftwire.Transport { return ending{w} },
	}, {
		name:     "pads short snapshots",
		sentence: "a receiver that waits for the rest of a shorter snapshot fails at once",
		wrap:     func(w *wrapper) raftwire.Transport { return padding{w} },
	}, {
		name:     "refuses long snapshots",
		sentence: "a snapshot may be longer than its size, is answered, and nothing of it is taken for a request",
		wrap:     func(w *wrapper) raftwire.Transport { return refusing{w} },
	}, {
		name:     "does not close",
		sentence: "after Close every call returns ErrTransportShutdown",
		wrap:     func(w *wrapper) raftwire.Transport { return undying{w} },
	}, {
		name:       "says nothing of the receiver",
		sentence:   "nodes of one cluster talk to each other",
		identities: func(all []raftwire.Identity) { all[1] = raftwire.Identity{} },
		wrap:       asIs,
	}, {
		name:       "checks no cluster",
		sentence:   "a request from another cluster is refused before the core gets it",
		identities: func(all []raftwire.Identity) { all[1].Cluster = all[0].Cluster },
		wrap:       asIs,
		complaint:  "a request was delivered",
	}, {
		name:       "checks no node",
		sentence:   "a request for another node is refused before the core gets it",
		identities: func(all []raftwire.Identity) { all[1] = raftwire.Identity{} },
		wrap:       asIs,
		complaint:  "a request was delivered",
	}, {
		name:       "requires nothing",
		sentence:   "a peer that does not say who it is is refused where that is required",
		identities: func(all []raftwire.Identity) { all[1].Require = false },
		wrap:       asIs,
		complaint:  "a request was delivered",
	}, {
		name:       "does not look at headers",
		sentence:   "a request whose header names another sender than the Identity is not sent",
		identities: func(all []raftwire.Identity) { all[0] = raftwire.Identity{} },
		wrap:       asIs,
		complaint:  "a request was delivered",
	}, {
		name:       "checks no pipeline",
		sentence:   "a pipeline to another cluster delivers nothing, and says why",
		identities: func(all []raftwire.Identity) { all[0] = raftwire.Identity{} },
		wrap:       asIs,
		complaint:  "a request was delivered",
	}, {
		name:     "closes Consumer",
		sentence: "after Close nothing is delivered, and Consumer stays open",
		wrap:     newConsumerCloser,
	},
}

// forgetting closes its connections after a timeout.
type forgetting struct{ *wrapper }

func (f forgetting) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	err := f.wrapper.AppendEntries(id, to, args, resp)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		f.CloseStreams()
	}
	return err
}

type clinging struct{ *wrapper }

func (clinging) ClosePeer(raftwire.ServerAddress) {}

type sweeping struct{ *wrapper }

func (s sweeping) ClosePeer(raftwire.ServerAddress) { s.CloseStreams() }

// unending ends calls with their case only.
type unending struct{ *wrapper }

func (u unending) RequestVoteContext(_ context.Context, id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.RequestVoteRequest, resp *raftwire.RequestVoteResponse) error {
	return u.wrapper.RequestVoteContext(u.end, id, to, args, resp)
}

// ending closes pipelines when their context ends.
type ending struct{ *wrapper }

func (e ending) AppendEntriesPipelineContext(ctx context.Context, id raftwire.ServerID, to raftwire.ServerAddress) (raftwire.AppendPipeline, error) {
	line, err := e.wrapper.AppendEntriesPipelineContext(ctx, id, to)
	if err == nil {
		context.AfterFunc(ctx, func() { _ = line.Close() })
	}
	return line, err
}

type vague struct{ *wrapper }

func (v vague) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	err := v.wrapper.AppendEntries(id, to, args, resp)
	if remote := (*raftwire.RemoteError)(nil); errors.As(err, &remote) {
		return &raftwire.RemoteError{Op: remote.Op, Peer: remote.Peer, Text: "remote error"}
	}
	return err
}

type patient struct{ *wrapper }

func (p patient) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	err := p.wrapper.AppendEntries(id, to, args, resp)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		<-p.end.Done()
	}
	return err
}

type forgetful struct{ *wrapper }

func (f forgetful) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	var fresh raftwire.AppendEntriesResponse
	err := f.wrapper.AppendEntries(id, to, args, &fresh)
	if stale := resp.LastLog; fresh.LastLog == 0 {
		fresh.LastLog = stale
	}
	*resp = fresh
	return err
}

// sharing hands the receiver the sender's own request.
type sharing struct {
	*wrapper
	consumer chan raftwire.RPC
}

func newSharing(w *wrapper) raftwire.Transport {
	s := sharing{w, make(chan raftwire.RPC)}
	go forward(w, s.consumer, func(rpc *raftwire.RPC) {
		if _, ok := rpc.Command.(*raftwire.AppendEntriesRequest); ok {
			rpc.Command = w.lastSent.Load()
		}
	})
	return s
}

// forward passes requests on until the case ends.
func forward(w *wrapper, consumer chan<- raftwire.RPC, change func(rpc *raftwire.RPC)) {
	for {
		select {
		case rpc := <-w.Consumer():
			change(&rpc)
			select {
			case consumer <- rpc:
			case <-w.end.Done():
			}
		case <-w.end.Done():
			return
		}
	}
}

func (s sharing) Consumer() <-chan raftwire.RPC { return s.consumer }

func (s sharing) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	s.lastSent.Store(args)
	return s.wrapper.AppendEntries(id, to, args, resp)
}

type lossy struct{ *wrapper }

func (l lossy) RequestVote(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.RequestVoteRequest, resp *raftwire.RequestVoteResponse) error {
	fewer := *args
	fewer.LeadershipTransfer = false
	return l.wrapper.RequestVote(id, to, &fewer, resp)
}

// lateWriter writes a late answer to the response of a call that has ended.
type lateWriter struct {
	*wrapper
	consumer chan raftwire.RPC
}

func newLateWriter(w *wrapper) raftwire.Transport {
	l := lateWriter{w, make(chan raftwire.RPC)}
	go forward(w, l.consumer, l.watchAnswer)
	return l
}

func (l lateWriter) Consumer() <-chan raftwire.RPC { return l.consumer }

func (l lateWriter) AppendEntries(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) error {
	err := l.wrapper.AppendEntries(id, to, args, resp)
	l.lastFailed.Store(resp)
	return err
}

func (l lateWriter) watchAnswer(rpc *raftwire.RPC) {
	answers, sound := make(chan raftwire.RPCResponse), rpc.RespChan
	rpc.RespChan = answers
	go func() {
		select {
		case answer := <-answers:
			sound <- answer
			if resp := l.lastFailed.Load(); resp != nil {
				resp.LastLog = 7
			}
		case <-l.end.Done():
		}
	}()
}

type deaf struct{ *wrapper }

func (deaf) SetHeartbeatHandler(func(raftwire.RPC)) {}

// pipelinesOf breaks the pipelines of an otherwise sound transport.
func pipelinesOf(wrap func(w *wrapper, line raftwire.AppendPipeline) raftwire.AppendPipeline) func(w *wrapper) raftwire.Transport {
	return func(w *wrapper) raftwire.Transport { return pipelining{w, wrap} }
}

type pipelining struct {
	*wrapper
	wrap func(w *wrapper, line raftwire.AppendPipeline) raftwire.AppendPipeline
}

func (p pipelining) AppendEntriesPipeline(id raftwire.ServerID, to raftwire.ServerAddress) (raftwire.AppendPipeline, error) {
	line, err := p.wrapper.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return p.wrap(p.wrapper, line), nil
}

// closing has a Consumer that ends with Close.
type closing struct {
	raftwire.AppendPipeline
	once     sync.Once
	consumer chan raftwire.AppendFuture
}

func newClosing(line raftwire.AppendPipeline) raftwire.AppendPipeline {
	return &closing{AppendPipeline: line, consumer: make(chan raftwire.AppendFuture)}
}

func (c *closing) Consumer() <-chan raftwire.AppendFuture { return c.consumer }

func (c *closing) Close() error {
	c.once.Do(func() { close(c.consumer) })
	return c.AppendPipeline.Close()
}

// swapping delivers the second future before the first.
type swapping struct {
	raftwire.AppendPipeline
	consumer chan raftwire.AppendFuture
}

func newSwapping(w *wrapper, line raftwire.AppendPipeline) raftwire.AppendPipeline {
	s := swapping{line, make(chan raftwire.AppendFuture)}
	go s.run(w.end)
	return s
}

func (s swapping) Consumer() <-chan raftwire.AppendFuture { return s.consumer }

func (s swapping) run(end context.Context) {
	first, second := s.receive(end), s.receive(end)
	s.deliver(end, second)
	s.deliver(end, first)
	for end.Err() == nil {
		s.deliver(end, s.receive(end))
	}
}

func (s swapping) receive(end context.Context) raftwire.AppendFuture {
	select {
	case future := <-s.AppendPipeline.Consumer():
		return future
	case <-end.Done():
		return nil
	}
}

func (s swapping) deliver(end context.Context, future raftwire.AppendFuture) {
	select {
	case s.consumer <- future:
	case <-end.Done():
	}
}

type wedging struct {
	raftwire.AppendPipeline
	w *wrapper
}

func (l wedging) AppendEntries(args *raftwire.AppendEntriesRequest, resp *raftwire.AppendEntriesResponse) (raftwire.AppendFuture, error) {
	future, err := l.AppendPipeline.AppendEntries(args, resp)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		<-l.w.end.Done()
	}
	return future, err
}

type wrapping struct{ *wrapper }

func (w wrapping) AppendEntriesPipeline(id raftwire.ServerID, to raftwire.ServerAddress) (raftwire.AppendPipeline, error) {
	line, err := w.wrapper.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, fmt.Errorf("pipeline to %s: %w", to, err)
	}
	return line, nil
}

type padding struct{ *wrapper }

func (p padding) InstallSnapshot(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.InstallSnapshotRequest, resp *raftwire.InstallSnapshotResponse, data io.Reader) error {
	return p.wrapper.InstallSnapshot(id, to, args, resp, io.LimitReader(io.MultiReader(data, endless{}), args.Size))
}

type refusing struct{ *wrapper }

func (c refusing) InstallSnapshot(id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.InstallSnapshotRequest, resp *raftwire.InstallSnapshotResponse, data io.Reader) error {
	body, err := io.ReadAll(io.LimitReader(data, args.Size+1))
	if err != nil || int64(len(body)) <= args.Size {
		return c.wrapper.InstallSnapshot(id, to, args, resp, io.MultiReader(bytes.NewReader(body), data))
	}
	return errUnexpectedCommand
}

type undying struct{ *wrapper }

func (undying) Close() error { return nil }

// consumerCloser closes its Consumer on Close.
type consumerCloser struct {
	*wrapper
	once     *sync.Once
	consumer chan raftwire.RPC
}

func newConsumerCloser(w *wrapper) raftwire.Transport {
	return consumerCloser{w, new(sync.Once), make(chan raftwire.RPC)}
}

func (c consumerCloser) Consumer() <-chan raftwire.RPC { return c.consumer }

func (c consumerCloser) Close() error {
	c.once.Do(func() { close(c.consumer) })
	return c.wrapper.Close()
}

func TestFeaturesHaveNames(t *testing.T) {
	require.Equal(t, "nothing", Feature(0).String())
	require.Equal(t, "Close", Close.String())
	require.Equal(t, "PreVote Windows", (PreVote | Windows).String())
}

func TestEverySentenceIsThereOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range allCases() {
		require.False(t, seen[c.sentence], c.sentence)
		seen[c.sentence] = true
	}
	require.Greater(t, len(seen), 60)
}
