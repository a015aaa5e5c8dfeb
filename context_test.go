package raftwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

type contextCaller interface {
	caller
	raftwire.WithContext
}

type contextCall func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error

// contextCalls are calls, and the opening of a pipeline, with a context.
var contextCalls = map[string]contextCall{
	"AppendEntries": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return trans.AppendEntriesContext(ctx, "b", target, appendRequest(1), new(raftwire.AppendEntriesResponse))
	},
	"RequestVote": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return trans.RequestVoteContext(ctx, "b", target, &raftwire.RequestVoteRequest{Term: 7}, new(raftwire.RequestVoteResponse))
	},
	"RequestPreVote": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return trans.RequestPreVoteContext(ctx, "b", target, &raftwire.RequestPreVoteRequest{Term: 7}, new(raftwire.RequestPreVoteResponse))
	},
	"TimeoutNow": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return trans.TimeoutNowContext(ctx, "b", target, &raftwire.TimeoutNowRequest{}, new(raftwire.TimeoutNowResponse))
	},
	"InstallSnapshot": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return installContext(ctx, trans, target, 4, bytes.NewReader([]byte("body")))
	},
	"AppendEntriesPipeline": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		p, err := trans.AppendEntriesPipelineContext(ctx, "b", target)
		if err == nil {
			err = p.Close()
		}
		return err
	},
}

func installContext(ctx context.Context, trans contextCaller, target raftwire.ServerAddress, size int64, data io.Reader) error {
	args := &raftwire.InstallSnapshotRequest{Term: 7, Size: size}
	return trans.InstallSnapshotContext(ctx, "b", target, args, new(raftwire.InstallSnapshotResponse), data)
}

// contextEnds are the ways in which a context ends after d, with its error.
var contextEnds = map[string]struct {
	after func(t *testing.T, d time.Duration) context.Context
	err   error
}{
	"cancelled": {func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		time.AfterFunc(d, cancel)
		return ctx
	}, context.Canceled},
	"deadline": {func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}, context.DeadlineExceeded},
}

func requireEnded(t *testing.T, want, err error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	requireOpError(t, err)
	var op *raftwire.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, want == context.DeadlineExceeded, op.Timeout())
}

// requireEndsWithContext makes a call whose context ends after 300 ms, and checks that
// the call ends at that moment.
func requireEndsWithContext(t *testing.T, trans contextCaller, call contextCall) {
	t.Helper()
	const after = 300 * time.Millisecond
	for name, end := range contextEnds {
		var err error
		took := elapsed(func() { err = call(end.after(t, after), trans, "b") })
		requireEnded(t, end.err, err)
		require.Equal(t, after, took, name)
	}
}

// silentPeer accepts connections at "b", and neither reads nor writes.
func silentPeer(t *testing.T, network *faultnet.Network) {
	layer := hostLayer(t, network, "b")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := layer.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
		}
	}()
	t.Cleanup(func() { _ = layer.Close(); <-ended })
}

// networkPhases are where a call over the network may wait, each with a transport that
// does for ever. Some cannot make a pipeline wait: nothing is exchanged to open one.
var networkPhases = map[string]struct {
	start    func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport
	dialled  bool // the connection stands, and must be closed with the call
	requests bool // only requests wait
}{
	"address": {start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		release := make(chan struct{})
		a := listen(t, network, "a", withTimeout(time.Minute), withProvider(providerFunc(func(raftwire.ServerID) (raftwire.ServerAddress, error) {
			<-release
			return "b", nil
		})))
		t.Cleanup(func() { close(release) })
		return a
	}},
	"dial": {start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		hung := newDialer(t, network, "a")
		hung.Hangs.Store(true)
		return transport(t, withStream(hung), withTimeout(time.Minute))
	}},
	"dial that cannot be ended": {start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		stuck := &stuckDial{release: make(chan struct{}), dial: func() (net_, error) { return nil, errors.New("refused") }}
		t.Cleanup(func() { close(stuck.release) })
		return transport(t, withStream(dialLayer{hostLayer(t, network, "a"), stuck.Dial}), withTimeout(time.Minute))
	}},
	"handshake": {start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		silentPeer(t, network)
		return transport(t, withStream(overTLS(t, hostLayer(t, network, "a"), testca.New())), withTimeout(time.Minute))
	}},
	"write": {dialled: true, requests: true, start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		network.SetBuffer(1)
		silentPeer(t, network)
		return listen(t, network, "a", withTimeout(time.Minute))
	}},
	"answer": {dialled: true, requests: true, start: func(t *testing.T, network *faultnet.Network) *raftwire.NetworkTransport {
		serve(t, listen(t, network, "b"), never)
		return listen(t, network, "a", withTimeout(time.Minute))
	}},
}

func TestContext_EndsACallOverTheNetworkInEveryPhase(t *testing.T) {
	for phase, p := range networkPhases {
		for kind, call := range contextCalls {
			if p.requests && kind == "AppendEntriesPipeline" {
				continue
			}
			t.Run(fmt.Sprint(phase, ", ", kind), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
					a := p.start(t, network)
					requireEndsWithContext(t, a, call)
					if synctest.Wait(); p.dialled {
						require.Zero(t, a.Stats().Peers[0].Idle, "the connection may be used again")
						require.Zero(t, a.Stats().Peers[0].InUse, "the connection was left open")
					}
				})
			})
		}
	}
}

// In memory a call waits on its way there, for the core to take it, for the answer, and
// on the way back. Opening a pipeline needs no core.
func TestContext_EndsACallInMemoryInEveryPhase(t *testing.T) {
	for phase, prepare := range map[string]func(t *testing.T, x *raftwire.InmemNetwork, b *raftwire.InmemTransport){
		"there": func(_ *testing.T, x *raftwire.InmemNetwork, _ *raftwire.InmemTransport) {
			x.Link("a", "b").SetLatency(time.Hour)
		},
		"black hole": func(_ *testing.T, x *raftwire.InmemNetwork, _ *raftwire.InmemTransport) { x.Partition("a", "b") },
		"core":       func(*testing.T, *raftwire.InmemNetwork, *raftwire.InmemTransport) {},
		"answer":     func(t *testing.T, _ *raftwire.InmemNetwork, b *raftwire.InmemTransport) { serve(t, b, never) },
		"back": func(t *testing.T, x *raftwire.InmemNetwork, b *raftwire.InmemTransport) {
			x.Link("b", "a").SetLatency(time.Hour)
			serve(t, b, accept)
		},
	} {
		for kind, call := range contextCalls {
			if kind == "AppendEntriesPipeline" && (phase == "core" || phase == "answer") {
				continue
			}
			t.Run(fmt.Sprint(phase, ", ", kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: time.Minute})
					a, b := x.Add("a"), x.Add("b")
					t.Cleanup(func() { require.NoError(t, x.Close()) })
					prepare(t, x, b)
					requireEndsWithContext(t, a, call)
				})
			})
		}
	}
}

// A connection whose Close blocks does not keep the call.
func TestContext_EndsACallWhoseConnectionDoesNotClose(t *testing.T) {
	large := appendRequest(1)
	large.Entries[0].Data = make([]byte, 2<<20)
	for kind, call := range map[string]contextCall{
		"small": contextCalls["AppendEntries"],
		"large": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
			return trans.AppendEntriesContext(ctx, "b", target, large, new(raftwire.AppendEntriesResponse))
		},
		"snapshot": contextCalls["InstallSnapshot"],
		"body": func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
			return installContext(ctx, trans, target, 1<<40, zeros{})
		},
	} {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				release := make(chan struct{})
				serve(t, listen(t, network, "b"), never)
				a := listenWrapped(t, network, "a", func(conn net_) net_ { return slowConn{conn, release} }, withTimeout(time.Minute))
				requireEndsWithContext(t, a, call)
				close(release)
				synctest.Wait()
				require.Zero(t, a.Stats().Peers[0].InUse)
			})
		})
	}
}

// A large request waits in another way than a small one.
func TestContext_EndsALargeRequest(t *testing.T) {
	for _, phase := range []string{"write", "answer"} {
		t.Run(phase, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				a := networkPhases[phase].start(t, network)
				requireEndsWithContext(t, a, func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
					args := appendRequest(1)
					args.Entries[0].Data = make([]byte, 2<<20)
					return trans.AppendEntriesContext(ctx, "b", target, args, new(raftwire.AppendEntriesResponse))
				})
			})
		})
	}
}

func TestContext_EndsASnapshot(t *testing.T) {
	endless := func(ctx context.Context, trans contextCaller, target raftwire.ServerAddress) error {
		return installContext(ctx, trans, target, 1<<40, zeros{})
	}
	t.Run("that the peer does not read", func(t *testing.T) {
		onContextTransports(t, never, func(t *testing.T, a contextCaller) { requireEndsWithContext(t, a, endless) })
	})
	t.Run("that the peer restores", func(t *testing.T) {
		drain := func(rpc raftwire.RPC) { go func() { _, _ = io.Copy(io.Discard, rpc.Reader) }() }
		onContextTransports(t, drain, func(t *testing.T, a contextCaller) {
			requireEndsWithContext(t, a, contextCalls["InstallSnapshot"])
		})
	})
	t.Run("that waits for its rate", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
			drain := func(rpc raftwire.RPC) { go func() { _, _ = io.Copy(io.Discard, rpc.Reader) }() }
			serve(t, listen(t, network, "b"), drain)
			requireEndsWithContext(t, listen(t, network, "a", withSnapshotRate(1<<20)), endless)
		})
	})
}

// A Read of the caller's reader is not left, but nothing is waited for after it. Its error
// does not hide that of the context, which may have been its reason.
func TestContext_SnapshotEndsWhenItsReaderReturns(t *testing.T) {
	for name, failure := range map[string]error{"with bytes": nil, "with an error": errors.New("closed")} {
		t.Run(name, func(t *testing.T) {
			onContextTransports(t, accept, func(t *testing.T, a contextCaller) {
				slow := readFunc(func(p []byte) (int, error) { pause(time.Second); return 1, failure })
				ctx := contextEnds["cancelled"].after(t, 300*time.Millisecond)
				require.Equal(t, time.Second, elapsed(func() {
					requireEnded(t, context.Canceled, installContext(ctx, a, "b", 1<<20, slow))
				}))
			})
		})
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// onContextTransports runs test with a transport over the network, and one in memory,
// whose peer "b" answers.
func onContextTransports(t *testing.T, answer func(raftwire.RPC), test func(t *testing.T, a contextCaller)) {
	t.Helper()
	onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
		serve(t, b, answer)
		test(t, a.(contextCaller))
	})
}

func TestContext_EarlierThanTimeoutOrLater(t *testing.T) {
	for kind, call := range contextCalls {
		if kind == "InstallSnapshot" || kind == "AppendEntriesPipeline" { // which last longer
			continue
		}
		t.Run(kind, func(t *testing.T) {
			onContextTransports(t, never, func(t *testing.T, a contextCaller) {
				var err error
				end := contextEnds["deadline"]
				require.Equal(t, testTimeout/2, elapsed(func() { err = call(end.after(t, testTimeout/2), a, "b") }))
				requireEnded(t, context.DeadlineExceeded, err)
				requireTimeout(t, err)
				require.Equal(t, testTimeout, elapsed(func() { err = call(end.after(t, 2*testTimeout), a, "b") }))
				requireTimeout(t, err)
				require.NotErrorIs(t, err, context.DeadlineExceeded)
			})
		})
	}
}

func TestContext_ThatHasEndedSendsNothing(t *testing.T) {
	onContextTransports(t, func(raftwire.RPC) { t.Error("a request has arrived") }, func(t *testing.T, a contextCaller) {
		for kind, call := range contextCalls {
			for _, end := range contextEnds {
				ctx := end.after(t, 1)
				pass(1)
				require.Zero(t, elapsed(func() { requireEnded(t, end.err, call(ctx, a, "b")) }), kind)
			}
		}
		pass(time.Second)
	})
}

// A call whose context has ended asks no provider, dials nobody, and leaves what is idle
// in the pool.
func TestContext_ThatHasEndedLeavesThePool(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		provider := &directory{addr: "b"}
		a, b := listen(t, network, "a", withProvider(provider)), listen(t, network, "b")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, call := range contextCalls {
			requireEnded(t, context.Canceled, call(ctx, a, "b"))
		}
		require.Zero(t, provider.times())
		require.Empty(t, a.Stats().Peers)
		fillPool(t, a, b, 3)
		for _, call := range contextCalls {
			requireEnded(t, context.Canceled, call(ctx, a, "b"))
		}
		synctest.Wait()
		require.Equal(t, 3, a.Stats().Peers[0].Idle)
	})
}

// Only the call is ended, and only its connection is closed.
func TestContext_LeavesOtherCallsAlone(t *testing.T) {
	onBothTransports(t, func(t *testing.T, trans, b raftwire.Transport) {
		a := trans.(contextCaller)
		ctx, cancel := context.WithCancel(t.Context())
		ended, others := make(chan error, 1), make(chan error, 2)
		go func() { ended <- contextCalls["AppendEntries"](ctx, a, "b") }()
		<-b.Consumer()
		for range cap(others) {
			go func() { others <- contextCalls["RequestVote"](t.Context(), a, "b") }()
		}
		future := send(t, openPipeline(t, a, "b"), 1)[0]
		taken := takeAll(b)
		require.Len(t, taken, 3)
		cancel()
		requireEnded(t, context.Canceled, <-ended)
		synctest.Wait()
		require.Empty(t, others)
		for _, rpc := range taken {
			accept(rpc)
		}
		for range cap(others) {
			require.NoError(t, <-others)
		}
		require.NoError(t, future.Error())
		if n, network := trans.(*raftwire.NetworkTransport); network {
			require.Equal(t, 2, n.Stats().Peers[0].Idle)
		}
	})
}

// A call that was cancelled on an idle connection is not tried again on another one, and
// the other idle connections stay.
func TestContext_CancelledCallIsNotTriedAgain(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		a, b := listen(t, network, "a"), listen(t, network, "b")
		fillPool(t, a, b, 3)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- contextCalls["AppendEntries"](ctx, a, "b") }()
		<-b.Consumer()
		cancel()
		requireEnded(t, context.Canceled, <-ended)
		require.Empty(t, takeAll(b))
		require.Equal(t, 2, a.Stats().Peers[0].Idle)
		require.Zero(t, a.Stats().Peers[0].InUse)
	})
}

// The dial of a call that was cancelled goes on, and the next call uses what it brings.
func TestContext_CancelledCallLeavesItsDialToTheNext(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newDialer(t, network, "a")
		slow.Takes = 500 * time.Millisecond
		a := transport(t, withStream(slow))
		serve(t, listen(t, network, "b"), accept)
		ctx := contextEnds["cancelled"].after(t, 300*time.Millisecond)
		requireEnded(t, context.Canceled, contextCalls["AppendEntries"](ctx, a, "b"))
		require.Equal(t, 200*time.Millisecond, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }))
		require.EqualValues(t, 1, slow.Begun.Load())
	})
}

// A call that was cancelled says nothing about its peer's address, one that had too little
// time does: then the provider is asked again.
func TestContext_CancelledCallDoesNotDoubtTheAddress(t *testing.T) {
	for name, asked := range map[string]int{"cancelled": 1, "deadline": 2} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				hung := newDialer(t, network, "a")
				hung.Hangs.Store(true)
				provider := &directory{addr: "b"}
				a := transport(t, withStream(hung), withProvider(provider))
				for range 2 {
					ctx := contextEnds[name].after(t, 300*time.Millisecond)
					requireEnded(t, contextEnds[name].err, contextCalls["AppendEntries"](ctx, a, "b"))
				}
				require.Equal(t, asked, provider.times())
			})
		})
	}
}

// The connection of a call that had to be dialled is not kept for a late answer.
func TestContext_ConnectionOfACancelledCallIsNotKept(t *testing.T) {
	for name := range contextEnds {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				slow := newDialer(t, network, "a")
				slow.Takes = testTimeout / 2
				a := transport(t, withStream(slow))
				serve(t, listen(t, network, "b"), acceptAfter(testTimeout/3))
				ctx := contextEnds[name].after(t, slow.Takes+1)
				requireEnded(t, contextEnds[name].err, contextCalls["AppendEntries"](ctx, a, "b"))
				synctest.Wait()
				require.Zero(t, a.Stats().Peers[0].InUse)
				pass(testTimeout)
				require.Zero(t, a.Stats().Peers[0].Idle)
			})
		})
	}
}

func TestContext_GovernsOnlyTheOpeningOfAPipeline(t *testing.T) {
	onContextTransports(t, accept, func(t *testing.T, a contextCaller) {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := a.AppendEntriesPipelineContext(ctx, "b", "b")
		require.NoError(t, err)
		require.NoError(t, appendTo(p))
		cancel()
		synctest.Wait()
		require.NoError(t, appendTo(p))
		require.NoError(t, p.Close())
	})
}

// The context of a call that has ended is of no consequence for its connection.
func TestContext_EndsNothingAfterTheCall(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		a := listen(t, network, "a")
		serve(t, listen(t, network, "b"), accept)
		ctx, cancel := context.WithCancel(t.Context())
		for kind, call := range contextCalls {
			require.NoError(t, call(ctx, a, "b"), kind)
		}
		require.NoError(t, contextCalls["AppendEntries"](ctx, a, "b")) // leaves a connection, as not all do
		idle := a.Stats().Peers[0].Idle
		require.NotZero(t, idle)
		cancel()
		synctest.Wait()
		require.Equal(t, idle, a.Stats().Peers[0].Idle)
	})
}

func TestContext_ErrorMatchesTheCause(t *testing.T) {
	why := errors.New("a newer term")
	onContextTransports(t, never, func(t *testing.T, a contextCaller) {
		for _, after := range []time.Duration{0, time.Millisecond} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(after, func() { cancel(why) })
			err := contextCalls["AppendEntries"](ctx, a, "b")
			requireEnded(t, context.Canceled, err)
			require.ErrorIs(t, err, why)
		}
	})
}

// After Close the error is that of Close, also where a context has ended.
func TestContext_CloseCountsMore(t *testing.T) {
	onBothTransports(t, func(t *testing.T, trans, _ raftwire.Transport) {
		a := trans.(contextCaller)
		require.NoError(t, trans.(raftwire.WithClose).Close())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for kind, call := range contextCalls {
			require.True(t, call(t.Context(), a, "b") == raftwire.ErrTransportShutdown, kind)
			require.True(t, call(ended, a, "b") == raftwire.ErrTransportShutdown, kind)
		}
	})
}

// An answer that has arrived counts. The connection is not used again, also where the
// context ends at the very moment of the answer.
func TestContext_AnswerThatHasArrivedCounts(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			a := listenWrapped(t, network, "a", func(conn net_) net_ { return afterRead{conn, cancel} })
			b := listen(t, network, "b")
			serve(t, b, accept)
			require.NoError(t, contextCalls["AppendEntries"](ctx, a, "b"))
			require.Zero(t, a.Stats().Peers[0].Idle)
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		}
	})
}

// afterRead calls read when something was read.
type afterRead struct {
	net_
	read func()
}

func (c afterRead) Read(p []byte) (int, error) {
	n, err := c.net_.Read(p)
	if n > 0 {
		c.read()
	}
	return n, err
}
