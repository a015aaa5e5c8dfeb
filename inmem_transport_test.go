package raftwire_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func TestNewInmemAddr_IsNew(t *testing.T) {
	addr, trans := raftwire.NewInmemTransport("")
	require.Equal(t, addr, trans.LocalAddr())
	other, _ := raftwire.NewInmemTransport("")
	require.NotEqual(t, addr, other)
	require.NotEqual(t, raftwire.NewInmemAddr(), raftwire.NewInmemAddr())
}

// Sender and receiver share nothing, in either direction.
func TestInmemTransport_SharesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		response := &raftwire.AppendEntriesResponse{RPCHeader: raftwire.RPCHeader{ID: []byte("b")}}
		serve(t, b, func(rpc raftwire.RPC) {
			command := rpc.Command.(*raftwire.AppendEntriesRequest)
			rpc.Respond(response, nil)
			command.Term = 0
			command.Addr[0], command.Leader[0] = 'X', 'X'
			command.Entries[0].Data[0], command.Entries[0].Extensions[0] = 'X', 'X'
			command.Entries[0].Index = 0
		})
		args := appendRequest(1)
		args.Leader = []byte("a")
		args.Entries[0].Extensions = []byte("extensions")
		args.Entries[0].AppendedAt = time.Now()
		before := *args
		entry := *args.Entries[0]
		var resp raftwire.AppendEntriesResponse
		require.NoError(t, a.AppendEntries("b", "b", args, &resp))
		synctest.Wait()
		response.ID[0] = 'X'
		require.Equal(t, before, *args)
		require.Equal(t, entry, *args.Entries[0])
		require.Equal(t, "a", string(args.Leader))
		require.Equal(t, "data", string(args.Entries[0].Data))
		require.Equal(t, "b", string(resp.ID))
	})
}

// A heartbeat does not wait for the consumer if there is a handler.
func TestInmemTransport_HonoursTheHeartbeatHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		b.SetHeartbeatHandler(accept)
		require.NoError(t, heartbeat(a, "b"))
		b.SetHeartbeatHandler(nil)
		require.EqualError(t, heartbeat(a, "b"), "AppendEntries to b: send timed out")
	})
}

// A timeout names the request and the peer, and says how far the request got.
func TestInmemTransport_SaysWhatTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		err := appendOnce(a, "b")
		requireTimeout(t, err)
		require.EqualError(t, err, "AppendEntries to b: send timed out")
		serve(t, b, never)
		require.Equal(t, testTimeout, elapsed(func() { err = appendOnce(a, "b") }))
		requireTimeout(t, err)
		require.EqualError(t, err, "AppendEntries to b: command timed out")
		require.IsType(t, new(raftwire.OpError), err)
	})
}

// A peer that is closed, or was never connected, refuses.
func TestInmemTransport_RefusesWhatANetworkWouldRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		serve(t, b, accept)
		require.ErrorContains(t, appendOnce(a, "nobody"), "failed to connect to peer: nobody")
		require.NoError(t, b.Close())
		require.ErrorContains(t, appendOnce(a, "b"), "failed to connect to peer: b")
		a.Connect("b", b)
		require.Error(t, appendOnce(a, "b"), "Connect must not revive a closed transport")
		_, err := a.AppendEntriesPipeline("b", "b")
		require.ErrorContains(t, err, "failed to connect")
		require.Error(t, appendOnce(b, "a"))
		require.NoError(t, a.Close())
		require.True(t, appendOnce(a, "b") == raftwire.ErrTransportShutdown)
	})
}

// A partition cuts what is in flight.
func TestInmemTransport_DisconnectCutsWhatIsInFlight(t *testing.T) {
	cuts := map[string]func(a, b *raftwire.InmemTransport){
		"Disconnect":        func(a, _ *raftwire.InmemTransport) { a.Disconnect("b") },
		"DisconnectAll":     func(a, _ *raftwire.InmemTransport) { a.DisconnectAll() },
		"Close of the peer": func(_, b *raftwire.InmemTransport) { _ = b.Close() },
		"Close":             func(a, _ *raftwire.InmemTransport) { _ = a.Close() },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := inmemPair(t)
				serve(t, b, func(rpc raftwire.RPC) {
					if rpc.Reader != nil {
						_, _ = rpc.Reader.Read(make([]byte, 1))
					}
				})
				p := openPipeline(t, a, "b")
				futures := send(t, p, 3)
				results := make(chan error, 2)
				go func() { results <- appendOnce(a, "b") }()
				go func() { _, err := install(a, 1<<20, zeros{}); results <- err }()
				synctest.Wait()
				require.LessOrEqual(t, elapsed(func() {
					cut(a, b)
					require.Error(t, <-results)
					require.Error(t, <-results)
				}), prompt)
				requireFailed(t, futures, nil)
				require.Error(t, appendOnce(a, "b"))
			})
		})
	}
}

// Pipelines that were closed leave nothing behind.
func TestInmemTransport_DoesNotGrowWithPipelines(t *testing.T) {
	_, a := raftwire.NewInmemTransportWithTimeout("a", time.Minute) // the race detector is slow
	_, b := raftwire.NewInmemTransportWithTimeout("b", time.Minute)
	a.Connect("b", b)
	goroutines := runtime.NumGoroutine()
	openAndClose := func(count int) {
		for range count {
			p, err := a.AppendEntriesPipeline("b", "b")
			require.NoError(t, err)
			require.NoError(t, p.Close())
			for runtime.NumGoroutine() > goroutines+10 { // the runtime keeps what each needs that runs at once
				runtime.Gosched()
			}
		}
	}
	openAndClose(20_000) // what is kept of the first ones
	before := liveHeap()
	openAndClose(80_000)
	require.LessOrEqual(t, liveHeap(), before+1<<20, "13 bytes for each")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

// A snapshot in memory keeps the promises of one over the network.
func TestInmemSnapshot_IsAsOverANetwork(t *testing.T) {
	for name, c := range map[string]struct {
		size int64
		data io.Reader
		text string
	}{
		"empty":         {0, io.LimitReader(zeros{}, 0), ""},
		"no reader":     {0, nil, ""},
		"whole":         {1 << 20, io.LimitReader(zeros{}, 1<<20), ""},
		"short":         {100, io.LimitReader(zeros{}, 99), "the sender ended the snapshot after 99 of 100 bytes: unexpected EOF"},
		"long":          {100, io.LimitReader(zeros{}, 101), ""},
		"missing":       {100, nil, "nil reader: data must yield the 100 bytes of Size"},
		"negative size": {-1, nil, "Size is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := inmemPair(t)
				serve(t, b, accept)
				resp, err := install(a, c.size, c.data)
				if c.text != "" {
					require.ErrorContains(t, err, c.text)
					return
				}
				require.NoError(t, err)
				require.True(t, resp.Success)
			})
		})
	}
}

func TestInmemSnapshot_FailsIfNobodyReadsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		serve(t, b, never)
		require.Equal(t, 3*testTimeout, elapsed(func() {
			_, err := install(a, 1<<20, zeros{})
			requireTimeout(t, err)
			require.EqualError(t, err, "InstallSnapshot to b: sending the snapshot: no progress, and the peer answered no other request, for 3 Timeouts (3s)")
		}))
	})
}

// Answers in a pipeline show that the peer is alive, as over a network.
func TestInmemSnapshot_WaitsForAPeerThatAnswersAPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		b.SetHeartbeatHandler(accept)
		p := openPipeline(t, a, "b")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for appendAndConsume(p, &raftwire.AppendEntriesRequest{Term: 7, Leader: []byte("a")}) == nil {
				pause(testTimeout * 3 / 7)
			}
		}()
		require.Equal(t, time.Minute, elapsed(func() {
			_, err := install(a, 1<<20, zeros{})
			requireTimeout(t, err)
		}))
		require.NoError(t, p.Close())
		<-ended
	})
}

func TestInmemSnapshot_EndsWithAnEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		body := make(chan io.Reader, 1)
		serve(t, b, func(rpc raftwire.RPC) {
			rpc.Respond(nil, errors.New("not now"))
			body <- rpc.Reader
		})
		require.Zero(t, elapsed(func() {
			_, err := install(a, 1<<40, zeros{})
			require.EqualError(t, err, "not now")
		}))
		_, err := (<-body).Read(make([]byte, 1))
		require.ErrorContains(t, err, "after it was answered")
	})
}

func TestInmemTransport_ConnectsThroughWrappers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		serve(t, b, accept)
		a.Disconnect("b")
		a.Connect("b", wrapper{b})
		require.NoError(t, appendOnce(a, "b"))
		require.PanicsWithValue(t,
			"raftwire: an InmemTransport can be connected to another one only, not to a *raftwire.NetworkTransport",
			func() { a.Connect("b", new(raftwire.NetworkTransport)) })
	})
}

func TestInmemTransport_EncodesPeersAsTheyAre(t *testing.T) {
	_, a := raftwire.NewInmemTransport("a")
	require.Equal(t, raftwire.ServerAddress("x"), a.DecodePeer(a.EncodePeer("id", "x")))
	require.True(t, strings.HasPrefix(string(a.LocalAddr()), "a"))
}

// Once the peer is closed a call fails, although the peer's core still answers.
func TestInmemTransport_IgnoresAnswersAfterThePeersClose(t *testing.T) {
	sends := map[string]func(a *raftwire.InmemTransport) error{
		"AppendEntries":   func(a *raftwire.InmemTransport) error { return appendOnce(a, "b") },
		"InstallSnapshot": func(a *raftwire.InmemTransport) error { return installSnapshot(a, "b", "body") },
		"in a pipeline": func(a *raftwire.InmemTransport) error {
			p, err := a.AppendEntriesPipeline("b", "b")
			if err != nil {
				return err
			}
			defer func() { _ = p.Close() }()
			return appendAndConsume(p, appendRequest(1))
		},
	}
	for name, send := range sends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := inmemPair(t)
				answered := make(chan struct{})
				b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return &lateAnswer{b, answered} })
				require.Error(t, send(a))
				<-answered
			})
		})
	}
}

type wrapper struct{ raftwire.Transport }

func (w wrapper) Unwrap() raftwire.Transport { return w.Transport }

// lateAnswer closes its transport before it answers a request.
type lateAnswer struct {
	trans    *raftwire.InmemTransport
	answered chan struct{}
}

func (d *lateAnswer) Dispatch(command any, _ io.Reader, _ bool) raftwire.PendingAnswer {
	return &lateAnswerTo{d, command}
}

type lateAnswerTo struct {
	*lateAnswer
	command any
}

func (*lateAnswerTo) Ready() bool { return false }

func (p *lateAnswerTo) Await(stop <-chan struct{}) (raftwire.RPCResponse, bool) {
	defer close(p.answered)
	go func() { _ = p.trans.Close() }()
	<-stop
	if _, snapshot := p.command.(*raftwire.InstallSnapshotRequest); snapshot {
		return raftwire.RPCResponse{Response: &raftwire.InstallSnapshotResponse{Success: true}}, true
	}
	return raftwire.RPCResponse{Response: &raftwire.AppendEntriesResponse{Success: true}}, true
}
