package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

// Both ends tell of a call with the same sizes, which are those on the network.
func TestHooks_TellOfEachCall(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				crossed := make(map[string]int64)
				net.Tap(func(from, _ string, data []byte) { crossed[from] += int64(len(data)) })
				a, b, atA, atB := observed(t, net)
				serve(t, b, acceptAfter(300*time.Millisecond))
				start := time.Now()
				require.NoError(t, call(a, "b"))
				synctest.Wait()

				require.Len(t, atA.calls, 1)
				done := atA.calls[0]
				require.Equal(t, raftwire.CallEvent{
					Kind: kind, ID: "b", Peer: "b", Start: start, Took: 300 * time.Millisecond, Entries: done.Entries,
					RequestBytes: crossed["a"], ResponseBytes: crossed["b"],
				}, done)
				require.Equal(t, kind == "AppendEntries", done.Entries > 0)

				require.Len(t, atB.served, 1)
				served := atB.served[0]
				require.Equal(t, raftwire.ServeEvent{
					Kind: kind, Peer: served.Peer, Host: "a", Entries: done.Entries,
					RequestBytes: crossed["a"], ResponseBytes: crossed["b"], Handle: 300 * time.Millisecond,
				}, served)
				require.True(t, strings.HasPrefix(string(served.Peer), "a:"), served.Peer)
				require.Empty(t, atA.served)
				require.Empty(t, atB.calls)

				done.Took, done.RequestBytes, done.ResponseBytes = 0, 0, 0
				require.Equal(t, []raftwire.CallEvent{done}, atA.begun)
				require.Len(t, atB.arrived, 1)
				served.ResponseBytes, served.Handle, served.RequestBytes = 0, 0, atB.arrived[0].RequestBytes
				require.Equal(t, served, atB.arrived[0])
				require.Positive(t, served.RequestBytes)
			})
		})
	}
}

func TestHooks_KnowAHeartbeat(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net)
		b.SetHeartbeatHandler(acceptAfter(100 * time.Millisecond))
		require.NoError(t, heartbeat(a, "b"))
		synctest.Wait()
		require.True(t, atA.calls[0].Heartbeat)
		require.True(t, atB.served[0].Heartbeat)
		require.Equal(t, 100*time.Millisecond, atB.served[0].Enqueue, "the handler's time")
	})
}

// ServeDone has the duration of each stage of a request at the server.
func TestServeDone_TimesTheStages(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		_, b, _, atB := observed(t, net)
		conn := dialRaw(t, net, "a")
		for i, wait := range []time.Duration{50 * time.Millisecond, 3 * time.Second} {
			pause(wait)
			say(t, conn, "\x03")
			pause(100 * time.Millisecond)
			say(t, conn, "\x80")
			pause(200 * time.Millisecond)
			require.Len(t, atB.arrived, i+1, "it is told of before the core takes it")
			require.Len(t, atB.served, i)
			rpc := <-b.Consumer()
			pause(300 * time.Millisecond)
			accept(rpc)
			synctest.Wait()
			served := atB.served[i]
			require.Equal(t, [4]time.Duration{wait, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond},
				[4]time.Duration{served.Wait, served.Decode, served.Enqueue, served.Handle})
		}
	})
}

// Requests that are read together share their times, but not the wait for the core. If
// a dispatcher tells nothing of waits, the time may be one.
func TestServeDone_TimesEachWaitForTheCore(t *testing.T) {
	const sent, wait = 20, 10 * time.Millisecond
	core := func(b *raftwire.NetworkTransport) {
		for range sent {
			pause(wait)
			accept(<-b.Consumer())
		}
	}
	dispatcher := func(b *raftwire.NetworkTransport) {
		unobserving := struct{ raftwire.Dispatcher }{&recordingDispatcher{takes: wait}}
		b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return unobserving })
	}
	for name, answer := range map[string]func(*raftwire.NetworkTransport){"core": core, "dispatcher": dispatcher} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				_, b, _, atB := observed(t, net)
				go answer(b)
				synctest.Wait()
				_, err := dialRaw(t, net, "a").Write(bytes.Repeat(smallRequest(), sent))
				require.NoError(t, err)
				pause(time.Second)
				synctest.Wait()
				require.Len(t, atB.served, sent)
				for _, e := range atB.served {
					require.Equal(t, wait, e.Enqueue)
				}
			})
		})
	}
}

// An idle connection releases memory, but still knows the request that the core has
// not answered yet.
func TestServeDone_SeesALateAnswerOnAnIdleConnection(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		_, b, _, atB := observed(t, net)
		large := requestFrame(benchRequest(workload{entries: 64, size: 1000}))
		_, err := dialRaw(t, net, "a").Write(append(smallRequest(), large...))
		require.NoError(t, err)
		taken := takeAll(b)
		require.Len(t, taken, 2)
		accept(taken[0])
		pause(3 * time.Second)
		accept(taken[1])
		synctest.Wait()
		require.Len(t, atB.served, 2)
		require.EqualValues(t, len(large), atB.served[1].RequestBytes)
		require.Equal(t, 3*time.Second, atB.served[1].Handle)
	})
}

// Hooks are told of a failed call, with the error that its caller gets.
func TestHooks_TellOfFailure(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net)
		refusal := errors.New("not today")
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(nil, refusal) })
		remote := appendOnce(a, "b")
		unreachable := appendOnce(a, "nobody")
		require.Error(t, unreachable)
		synctest.Wait()
		require.Equal(t, remote, atA.calls[0].Err)
		require.NotZero(t, atA.calls[0].ResponseBytes)
		require.Same(t, refusal, atB.served[0].Err)
		require.Equal(t, unreachable, atA.calls[1].Err)
		require.Zero(t, atA.calls[1].RequestBytes)
		require.Len(t, atA.begun, 2)

		require.NoError(t, atA.dialed[0].Err)
		require.Equal(t, raftwire.ServerAddress("nobody"), atA.dialed[1].Peer)
		require.ErrorIs(t, unreachable, atA.dialed[1].Err)
	})
}

// Whatever ends a pipeline, hooks are told of each request once.
func TestHooks_TellOfEachPipelinedRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net, withWindow(10))
		answered := 0
		serve(t, b, func(rpc raftwire.RPC) {
			if answered++; answered <= 3 {
				accept(rpc)
			}
		})
		p := openPipeline(t, a, "b")
		futures := send(t, p, 8)
		pause(time.Second)
		net.Reset("a", "b")
		for range futures {
			<-p.Consumer()
		}
		require.NoError(t, b.Close()) // which waits for answers that do not come
		synctest.Wait()
		require.Len(t, atA.calls, 8)
		require.Len(t, atA.begun, 8)
		require.Len(t, atB.arrived, len(atB.served))
		for i, done := range atA.calls {
			require.Equal(t, futures[i].Error(), done.Err)
			require.Equal(t, futures[i].Start(), done.Start)
			require.True(t, done.Pipelined)
			require.Equal(t, atA.calls[0].RequestBytes, done.RequestBytes)
			require.Equal(t, i < 3, done.ResponseBytes > 0)
		}
		require.Len(t, atB.served, answered)
		for i, served := range atB.served {
			require.Equal(t, atA.calls[i].RequestBytes, served.RequestBytes)
			require.Equal(t, i < 3, served.Err == nil)
			require.Equal(t, i < 3, served.ResponseBytes > 0)
		}
	})
}

// Each request has the time until its own answer, also if several answers arrive
// together.
func TestHooks_TimeEachPipelinedRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, _ := observed(t, net, withWindow(10))
		delay := 100 * time.Millisecond
		serve(t, b, func(rpc raftwire.RPC) { pause(delay); accept(rpc) })
		p := openPipeline(t, a, "b")
		send(t, p, 3)
		for range 3 {
			<-p.Consumer()
		}
		synctest.Wait()
		for i, done := range atA.calls {
			require.Equal(t, time.Duration(i+1)*delay, done.Took, "they are answered one after the other")
		}
		net.Link("b", "a").Cut()
		send(t, p, 3)
		pause(500 * time.Millisecond)
		net.Link("b", "a").Heal()
		pause(time.Second)
		synctest.Wait()
		require.Len(t, atA.calls, 6, "answers that were held")
		for _, done := range atA.calls[3:] {
			require.Equal(t, 500*time.Millisecond, done.Took)
		}
	})
}

// The next request on a pipeline that was lost while idle fails, and hooks are told of
// it.
func TestHooks_TellOfTheFutureOfALostPipeline(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, _, atA, _ := observed(t, net)
		p := openPipeline(t, a, "b")
		synctest.Wait()
		net.Reset("a", "b")
		synctest.Wait()
		future := send(t, p, 1)[0]
		require.Error(t, future.Error())
		require.Len(t, atA.begun, 1)
		require.Len(t, atA.calls, 1)
		require.Equal(t, future.Error(), atA.calls[0].Err)
	})
}

// Each connection is opened once and closed once, with a reason and its age.
func TestHooks_TellOfEachConnection(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net, withPool(1), withLimits(-1, 5))
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b"))
		openPipeline(t, a, "b")
		require.NoError(t, installSnapshot(a, "b", "body"))
		for range 10 {
			dialRaw(t, net, "stranger")
		}
		pause(time.Minute)
		a.CloseStreams()
		require.NoError(t, appendOnce(a, "b"))
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())

		require.Len(t, atA.opened, 3)
		require.Len(t, atB.opened, 3+10)
		for _, at := range []*events{atA, atB} {
			require.Len(t, at.closed, len(at.opened))
			for _, event := range at.opened {
				require.NoError(t, event.Err)
				require.Zero(t, event.Age)
				require.Equal(t, at == atB, event.Inbound)
				require.Equal(t, at == atB, event.Host != "")
			}
			for _, event := range at.closed {
				require.Error(t, event.Err)
			}
		}
		first := atA.closed[1] // the snapshot's was the first
		require.ErrorContains(t, first.Err, "CloseStreams")
		require.GreaterOrEqual(t, first.Age, time.Minute)
	})
}

// Events of outbound requests and connections name the server by the ID that the
// caller gave. Those of inbound ones have none: a header's is the sender's choice.
func TestHooks_NameServersByID(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net)
		serve(t, b, accept)
		header := raftwire.RPCHeader{ID: []byte("forged")}
		require.NoError(t, a.AppendEntries("n1", "b", &raftwire.AppendEntriesRequest{RPCHeader: header}, new(raftwire.AppendEntriesResponse)))
		require.Equal(t, raftwire.ServerID("n1"), a.Stats().Peers[0].ID)
		p, err := a.AppendEntriesPipeline("n1", "b")
		require.NoError(t, err)
		f := send(t, p, 1)[0]
		require.NoError(t, f.Error())
		synctest.Wait() // the hook is called after that
		body := strings.NewReader("body")
		require.NoError(t, a.InstallSnapshot("n1", "b", &raftwire.InstallSnapshotRequest{RPCHeader: header, Size: 4}, new(raftwire.InstallSnapshotResponse), body))
		require.NoError(t, a.TimeoutNow("n2", "b", new(raftwire.TimeoutNowRequest), new(raftwire.TimeoutNowResponse)))
		require.Equal(t, raftwire.ServerID("n2"), a.Stats().Peers[0].ID, "another server has the address now")
		require.Error(t, a.TimeoutNow("n3", "nobody", new(raftwire.TimeoutNowRequest), new(raftwire.TimeoutNowResponse)))
		require.NoError(t, a.Close())
		synctest.Wait()

		ids := func(at *events) (all [][]raftwire.ServerID) {
			of := func(n int, id func(i int) raftwire.ServerID) {
				named := []raftwire.ServerID{}
				for i := range n {
					named = append(named, id(i))
				}
				all = append(all, slices.Compact(named))
			}
			of(len(at.begun), func(i int) raftwire.ServerID { return at.begun[i].ID })
			of(len(at.calls), func(i int) raftwire.ServerID { return at.calls[i].ID })
			of(len(at.dialed), func(i int) raftwire.ServerID { return at.dialed[i].ID })
			of(len(at.opened), func(i int) raftwire.ServerID { return at.opened[i].ID })
			of(len(at.progress), func(i int) raftwire.ServerID { return at.progress[i].ID })
			return all
		}
		require.Equal(t, [][]raftwire.ServerID{{"n1", "n2", "n3"}, {"n1", "n2", "n3"}, {"n1", "n2", "n3"}, {"n1", "n2"}, {"n1"}}, ids(atA))
		require.Equal(t, [][]raftwire.ServerID{{}, {}, {}, {""}, {""}}, ids(atB))
		require.NotEmpty(t, atA.closed)
		closed := make(map[raftwire.ServerID]int)
		for _, e := range atA.closed {
			closed[e.ID]++
		}
		require.Equal(t, map[raftwire.ServerID]int{"n1": 2, "n2": 1}, closed)
	})
}

func TestHooks_TellOfRefusals(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		_, _, _, atB := observed(t, net, withLimits(-1, 1), withFirstByte(time.Second))
		say(t, dialRaw(t, net, "a"), "GET /")
		dialRaw(t, net, "silent")
		dialRaw(t, net, "many")
		dialRaw(t, net, "many")
		pause(time.Minute)
		synctest.Wait()
		reasons := make(map[string]string)
		for _, refused := range atB.refused {
			require.Error(t, refused.Err)
			reasons[refused.Host] += refused.Reason + " "
		}
		require.Equal(t, map[string]string{
			"a": "Foreign ", "silent": "Silent ", "many": "TooManyConnsOfHost Silent ",
		}, reasons)
	})
}

// Both ends tell of progress at most once a second while a snapshot travels, and once
// more when it is over.
func TestSnapshotProgress_ComesOnceASecond(t *testing.T) {
	const size = 1 << 20
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		net.SetBuffer(1000)
		a, b, atA, atB := observed(t, net)
		serve(t, b, func(rpc raftwire.RPC) { // 16 chunks in 8 seconds
			_, _ = io.CopyBuffer(writerOnly{slowly(500 * time.Millisecond)}, readerOnly{rpc.Reader}, make([]byte, size/16))
			accept(rpc)
		})
		_, err := install(a, size, bytes.NewReader(make([]byte, size)))
		require.NoError(t, err)
		synctest.Wait()
		for _, at := range []*events{atA, atB} {
			require.GreaterOrEqual(t, len(at.progress), 7)
			require.LessOrEqual(t, len(at.progress), 1+9+1)
			requireProgress(t, at.progress, size, size)
			require.Equal(t, at == atB, at.progress[0].Inbound)
		}
	})
}

// All snapshots of a transport together keep to the rate at any time, and all make
// progress.
func TestSnapshotRate_HoldsForAllTogether(t *testing.T) {
	const size, rate = 1 << 20, 100 << 10
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d at once", count), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withSnapshotRate(rate)), listen(t, net, "b")
				for range count {
					serve(t, b, accept)
				}
				start := time.Now()
				ends := make(chan error, count)
				for range count {
					go func() {
						_, err := install(a, size, bytes.NewReader(make([]byte, size)))
						ends <- err
					}()
				}
				pause(5 * time.Second)
				synctest.Wait()
				require.InDelta(t, 5*rate, float64(a.Stats().Peers[0].BytesOut), 0.15*rate)
				for range count {
					require.NoError(t, <-ends)
				}
				require.InDelta(t, float64(count*size)/rate, time.Since(start).Seconds(), 0.2)
			})
		})
	}
}

// Each snapshot gets the least rate that a receiver demands.
func TestSnapshotsAtOnce_EachGetsItsLeastRate(t *testing.T) {
	const size, rate, count = 256 << 10, 16 << 10, 10
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withSnapshotRate(rate)), listen(t, net, "b")
		ends := make(chan error, count)
		for range count {
			serve(t, b, accept)
			go func() {
				_, err := install(a, size, bytes.NewReader(make([]byte, size)))
				ends <- err
			}()
		}
		start := time.Now()
		for range count {
			require.NoError(t, <-ends)
		}
		require.InDelta(t, float64(size)/(2*raftwire.MinSnapshotBytesPerSecond), time.Since(start).Seconds(), 2)
	})
}

// A snapshot that waits for its turn ends at once.
func TestSnapshotRate_WaitEndsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		end func(a, b *raftwire.NetworkTransport, net *faultnet.Network)
		err string
		is  error
	}{
		"with Close": {
			func(a, _ *raftwire.NetworkTransport, _ *faultnet.Network) { _ = a.Close() },
			"transport shutdown", raftwire.ErrTransportShutdown,
		},
		"with CloseStreams": {
			func(a, _ *raftwire.NetworkTransport, _ *faultnet.Network) { a.CloseStreams() },
			"InstallSnapshot to b: connection closed by CloseStreams", nil,
		},
		"with ClosePeer": {
			func(a, _ *raftwire.NetworkTransport, _ *faultnet.Network) { a.ClosePeer("b") },
			"InstallSnapshot to b: " + raftwire.ErrClosePeer.Error(), raftwire.ErrClosePeer,
		},
		"with its connection": {
			func(_, _ *raftwire.NetworkTransport, net *faultnet.Network) { net.Reset("a", "b") },
			"connection reset", errno.Reset,
		},
		"with an early answer": {
			func(_, b *raftwire.NetworkTransport, _ *faultnet.Network) {
				rpc := <-b.Consumer()
				rpc.Respond(nil, errors.New("no"))
			},
			"no", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				seen := new(events)
				a := listen(t, net, "a", withSnapshotRate(2*raftwire.MinSnapshotBytesPerSecond), withHooks(seen.hooks()))
				b := listen(t, net, "b")
				ended := make(chan error)
				go func() { ended <- installSnapshot(a, "b", strings.Repeat("body", 1<<20)) }()
				pause(testTimeout / 4)
				synctest.Wait()
				sent := a.Stats().Peers[0].BytesOut
				start := time.Now()
				go c.end(a, b, net)
				err := <-ended
				require.LessOrEqual(t, time.Since(start), 5*time.Millisecond, "it waited for its turn")
				require.ErrorContains(t, err, c.err)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				}
				require.NotContains(t, err.Error(), "TLS", "a snapshot says nothing of the protocol")
				synctest.Wait()
				require.Len(t, seen.dialed, 1, "it was tried again")
				require.Equal(t, sent, a.Stats().Peers[0].BytesOut)
			})
		})
	}
}

// Both ends tell of the end of a snapshot that fails.
func TestSnapshotProgress_EndsWithTheSnapshot(t *testing.T) {
	const size = 1 << 20
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observed(t, net)
		serve(t, b, func(rpc raftwire.RPC) {
			_, err := io.ReadAll(rpc.Reader)
			rpc.Respond(nil, err)
		})
		_, err := install(a, size, io.MultiReader(bytes.NewReader(make([]byte, size/2)), iotest.ErrReader(io.ErrClosedPipe)))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		synctest.Wait()
		const sent = size/2 - 64<<10 // what was read last is held back
		requireProgress(t, atA.progress, sent, size)
		requireProgress(t, atB.progress, sent, size)
		require.Equal(t, atA.calls[0].RequestBytes, atB.served[0].RequestBytes)
		require.Error(t, atB.served[0].Err)
	})
}

// Every hook may call Stats.
func TestHooks_MayCallStats(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		var a, b *raftwire.NetworkTransport
		look := func() {
			for _, trans := range []*raftwire.NetworkTransport{a, b} {
				if trans != nil {
					trans.Stats()
				}
			}
		}
		hooks := raftwire.Hooks{
			Dialed:           func(raftwire.DialEvent) { look() },
			ConnOpened:       func(raftwire.ConnEvent) { look() },
			ConnClosed:       func(raftwire.ConnEvent) { look() },
			CallDone:         func(*raftwire.CallEvent) { look() },
			ServeDone:        func(*raftwire.ServeEvent) { look() },
			SnapshotProgress: func(raftwire.SnapshotEvent) { look() },
			Refused:          func(raftwire.RefusalEvent) { look() },
		}
		b = listen(t, net, "b", withHooks(hooks), withLimits(2, -1))
		a = listen(t, net, "a", withHooks(hooks))
		serve(t, b, accept)
		for _, call := range calls {
			require.NoError(t, call(a, "b"))
		}
		p := openPipeline(t, a, "b")
		require.NoError(t, appendTo(p))
		dialRaw(t, net, "stranger")
		dialRaw(t, net, "stranger")
		net.Reset("a", "b")
		synctest.Wait()
		send(t, p, 1)
	})
}

func TestStats_CountsWhatIsOpen(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(5)), listen(t, net, "b")
		require.Equal(t, raftwire.Stats{Peers: []raftwire.PeerStats{}, Inbound: []raftwire.HostStats{}}, a.Stats())

		success := time.Now()
		fillPool(t, a, b, 2)
		pause(time.Second)
		p := openPipeline(t, a, "b")
		send(t, p, 1)
		synctest.Wait()
		accept(<-b.Consumer())
		pause(time.Second)
		go func() { _ = appendOnce(a, "b") }()
		send(t, p, 1)
		synctest.Wait() // the second is written, and read, by itself
		send(t, p, 1)
		net.Link("a", "c").Cut()
		go func() { _ = appendOnce(a, "c") }()
		pause(testTimeout / 2)

		stats := a.Stats()
		require.Len(t, stats.Peers, 2)
		peer := stats.Peers[0]
		require.Equal(t, raftwire.PeerStats{
			ID: "b", Peer: "b", Idle: 0, InUse: 2, InFlight: 3,
			Pipelines: []raftwire.PipelineStats{{InFlight: 2, Unconsumed: 1, OldestAge: testTimeout / 2}},
			LastDial:  success.Local(), LastSuccess: success.Add(time.Second).Local(),
			BytesIn: peer.BytesIn, BytesOut: peer.BytesOut,
		}, peer)
		require.Equal(t, raftwire.PeerStats{ID: "b", Peer: "c", LastDial: success.Add(2 * time.Second).Local(), Dialing: 1}, stats.Peers[1])

		inbound := b.Stats()
		require.Empty(t, inbound.Peers)
		require.Equal(t, []raftwire.HostStats{{Host: "a", Conns: 2}}, inbound.Inbound)
		require.Less(t, inbound.InboundBytesIn, peer.BytesOut, "a request that nobody is ready for is not read")
		require.NotZero(t, inbound.InboundBytesIn)
		require.Equal(t, peer.BytesIn, inbound.InboundBytesOut)
		require.NotZero(t, peer.BytesIn)

		say(t, dialRaw(t, net, "stranger"), "GET /")
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Foreign: 1}, b.Stats().Refusals)
		require.NoError(t, a.Close())
		synctest.Wait()
		for _, peer := range a.Stats().Peers {
			require.Equal(t, raftwire.PeerStats{
				ID: peer.ID, Peer: peer.Peer, LastDial: peer.LastDial, LastSuccess: peer.LastSuccess, BytesIn: peer.BytesIn, BytesOut: peer.BytesOut,
			}, peer)
		}
	})
}

// However many addresses come and go, few are kept, and those in use stay.
func TestStats_ForgetsAddressesWithoutConnections(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a", withPool(1))
		serve(t, listen(t, net, "b"), accept)
		require.NoError(t, appendOnce(a, "b"))
		for i := range 3000 {
			require.Error(t, appendOnce(a, raftwire.ServerAddress(fmt.Sprintf("gone-%d", i))))
		}
		peers := a.Stats().Peers
		require.LessOrEqual(t, len(peers), 1024)
		require.Equal(t, raftwire.ServerAddress("b"), peers[0].Peer)
		require.NotZero(t, peers[0].BytesIn)
	})
}

// Four events cost one allocation: the receiver's event.
func TestHooks_AllocateOnceForFourEvents(t *testing.T) {
	var count atomic.Int64
	hooks := raftwire.Hooks{
		CallBegun:  func(*raftwire.CallEvent) { count.Add(1) },
		CallDone:   func(*raftwire.CallEvent) { count.Add(1) },
		ServeBegun: func(*raftwire.ServeEvent) { count.Add(1) },
		ServeDone:  func(*raftwire.ServeEvent) { count.Add(1) },
	}
	unset, set := allocsPerHeartbeat(t, raftwire.Hooks{}), allocsPerHeartbeat(t, hooks)
	require.GreaterOrEqual(t, count.Load(), int64(4*1000))
	require.InDelta(t, unset, set, 1, "for four events")
}

// A dial that Close ends has ErrTransportShutdown as its error.
func TestHooks_TellOfADialThatCloseEnds(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		seen := new(events)
		a := listen(t, net, "a", withHooks(seen.hooks()))
		net.Partition("a", "b")
		result := make(chan error, 1)
		go func() { result <- appendOnce(a, "b") }()
		synctest.Wait()
		require.NoError(t, a.Close())
		require.Equal(t, raftwire.ErrTransportShutdown, <-result)
		require.Len(t, seen.dialed, 1)
		require.Equal(t, raftwire.ErrTransportShutdown, seen.dialed[0].Err)
	})
}

type (
	readerOnly struct{ io.Reader }
	writerOnly struct{ io.Writer }
	slowly     time.Duration
)

func (s slowly) Write(p []byte) (int, error) {
	pause(time.Duration(s) * time.Duration(len(p)) / (64 << 10))
	return len(p), nil
}

// requireProgress checks that events go forward to done of total, and that only the
// last one is marked as done.
func requireProgress(t *testing.T, events []raftwire.SnapshotEvent, done, total int64) {
	t.Helper()
	var last int64
	for i, event := range events {
		require.GreaterOrEqual(t, event.Done, last)
		require.Equal(t, total, event.Total)
		require.Equal(t, i == len(events)-1, event.Over)
		last = event.Done
	}
	require.Equal(t, done, last)
}

func withSnapshotRate(bytesPerSecond int64) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxSnapshotBytesPerSecond = bytesPerSecond }
}

func allocsPerHeartbeat(t *testing.T, hooks raftwire.Hooks) float64 {
	open := func() *raftwire.NetworkTransport {
		c := config(withHooks(hooks))
		c.Logger = hclog.NewNullLogger()
		trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, c)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, trans.Close()) })
		return trans
	}
	a, b := open(), open()
	b.SetHeartbeatHandler(accept)
	return leastAllocs(func() { require.NoError(t, heartbeat(a, b.LocalAddr())) })
}
