package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Whatever ends the pipeline, every future settles within 100 ms of it.
func TestPipeline_SettlesEveryFuture(t *testing.T) {
	const window = 50
	ends := map[string]struct {
		end    func(a, b *raftwire.NetworkTransport, p raftwire.AppendPipeline, net *faultnet.Network)
		target error
	}{
		"the pipeline is closed": {func(_, _ *raftwire.NetworkTransport, p raftwire.AppendPipeline, _ *faultnet.Network) {
			_ = p.Close()
		}, raftwire.ErrPipelineShutdown},
		"the transport is closed": {func(a, _ *raftwire.NetworkTransport, _ raftwire.AppendPipeline, _ *faultnet.Network) {
			_ = a.Close()
		}, raftwire.ErrTransportShutdown},
		"its streams are closed": {func(a, _ *raftwire.NetworkTransport, _ raftwire.AppendPipeline, _ *faultnet.Network) {
			a.CloseStreams()
		}, nil},
		"the peer closes": {func(_, b *raftwire.NetworkTransport, _ raftwire.AppendPipeline, _ *faultnet.Network) {
			_ = b.Close()
		}, nil},
		"the connection is reset": {func(_, _ *raftwire.NetworkTransport, _ raftwire.AppendPipeline, net *faultnet.Network) {
			net.Reset("a", "b")
		}, nil},
		"the peer's host crashes": {func(_, _ *raftwire.NetworkTransport, _ raftwire.AppendPipeline, net *faultnet.Network) {
			net.Host("b").Crash()
		}, nil},
	}
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withWindow(window)), listen(t, net, "b")
				p := openPipeline(t, a, "b")
				serve(t, b, never)
				futures := send(t, p, window-1)
				synctest.Wait()
				c.end(a, b, p, net)
				timer := time.NewTimer(prompt)
				defer timer.Stop()
				<-timer.C
				requireFailed(t, futures, c.target)
			})
		})
	}
}

// The consumer gets each future once, in request order, with the answer to its own
// request.
func TestPipeline_DeliversFuturesInOrder(t *testing.T) {
	for _, window := range []int{2, 3, 16, 130} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withWindow(window)), listen(t, net, "b")
				serve(t, b, accept)
				p := openPipeline(t, a, "b")
				const count = 1000
				consumed := make(chan error, 1)
				go func() { consumed <- consumeInOrder(p, count) }()
				send(t, p, count)
				require.NoError(t, <-consumed)
			})
		})
	}
}

// A core's reader of futures stops at the first refusal, while its sender goes on. The
// sender's call must return.
func TestPipeline_SendReturnsThoughNobodyConsumes(t *testing.T) {
	for _, window := range []int{2, 3, 10, 130} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withWindow(window)), listen(t, net, "b")
				serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(&raftwire.AppendEntriesResponse{}, nil) })
				p := openPipeline(t, a, "b")
				go func() { <-p.Consumer() }() // one, and never again

				sent := 0
				err := error(nil)
				for ; err == nil; sent++ {
					took := elapsed(func() {
						_, err = p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
					})
					require.LessOrEqual(t, took, testTimeout)
					require.LessOrEqual(t, sent, window+1, "the window does not hold")
				}
				requireTimeout(t, err)
			})
		})
	}
}

// The timeout of the oldest request ends the wait.
func TestPipeline_SendReturnsThoughNobodyAnswers(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(4)), listen(t, net, "b")
		serve(t, b, never)
		p := openPipeline(t, a, "b")
		futures := send(t, p, 3)
		took := elapsed(func() {
			_, err := p.AppendEntries(appendRequest(4), new(raftwire.AppendEntriesResponse))
			requireTimeout(t, err)
		})
		require.Equal(t, testTimeout, took)
		requireFailed(t, futures, nil)
	})
}

// A send that returns an error has no future, and the consumer gets none.
func TestPipeline_AFailedSendHasNoFuture(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(3)), listen(t, net, "b")
		serve(t, b, never)
		p := openPipeline(t, a, "b")
		futures := send(t, p, 2)
		_, err := p.AppendEntries(appendRequest(3), new(raftwire.AppendEntriesResponse))
		requireTimeout(t, err)
		for _, f := range futures {
			require.Same(t, f, <-p.Consumer())
		}
		synctest.Wait()
		select {
		case f := <-p.Consumer():
			t.Errorf("a future that nobody has: %+v", f)
		default:
		}
	})
}

// All requests in flight fail one timeout after the peer's last answer.
func TestPipeline_FailsWhenThePeerStopsAnswering(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(10)), listen(t, net, "b")
		p := openPipeline(t, a, "b")
		futures := send(t, p, 3)
		timer := time.NewTimer(testTimeout / 2)
		<-timer.C
		accept(<-b.Consumer())
		require.NoError(t, futures[0].Error())
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, futures[1].Error()) }))
		requireFailed(t, futures[1:], nil)
	})
}

// The reader of answers does not wait for the consumer.
func TestPipeline_SettlesFuturesThoughNobodyConsumes(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(130)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		futures := send(t, p, 100)
		for _, f := range futures {
			require.NoError(t, f.Error())
		}
		for i := range futures { // and they are kept for the consumer
			require.Same(t, futures[i], <-p.Consumer())
		}
	})
}

// A core reads the channel without a check for its end.
func TestPipeline_ConsumerIsNeverClosed(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		listen(t, net, "b")
		p := openPipeline(t, a, "b")
		require.NoError(t, p.Close())
		require.NoError(t, a.Close())
		synctest.Wait()
		select {
		case f, open := <-p.Consumer():
			t.Fatalf("got %v, open: %v", f, open)
		default:
		}
	})
}

// With a window of N, N-1 sends return at once, and the Nth waits until one answer is
// consumed.
func TestPipeline_KeepsItsWindow(t *testing.T) {
	for configured, window := range map[int]int{0: 2, 2: 2, 3: 3, 10: 10} {
		t.Run(fmt.Sprint(configured), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withWindow(configured)), listen(t, net, "b")
				p := openPipeline(t, a, "b")
				start := time.Now()
				send(t, p, window-1)
				require.Zero(t, time.Since(start))

				last := make(chan error, 1)
				go func() {
					_, err := p.AppendEntries(appendRequest(99), new(raftwire.AppendEntriesResponse))
					last <- err
				}()
				synctest.Wait()
				require.Empty(t, last, "the last send did not wait")
				accept(<-b.Consumer())
				synctest.Wait()
				require.Empty(t, last, "an answer alone made room: it was not consumed")
				<-p.Consumer()
				synctest.Wait()
				require.Len(t, last, 1, "a consumed answer made no room")
				require.NoError(t, <-last)
				for range window - 1 { // the last one was written before it waited
					accept(<-b.Consumer())
				}
				synctest.Wait()

				// All are answered, and window-1 wait to be consumed: they count.
				go func() {
					_, err := p.AppendEntries(appendRequest(100), new(raftwire.AppendEntriesResponse))
					last <- err
				}()
				accept(<-b.Consumer())
				synctest.Wait()
				require.Empty(t, last, "answers that are not consumed do not count")
				<-p.Consumer()
				require.NoError(t, <-last)
			})
		})
	}
}

// A window of one means no pipeline.
func TestPipeline_CanBeTurnedOff(t *testing.T) {
	for _, window := range []int{1, -1} {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			_, err := listen(t, net, "a", withWindow(window)).AppendEntriesPipeline("b", "b")
			require.True(t, err == raftwire.ErrPipelineReplicationNotSupported, "got %v", err)
		})
	}
}

func TestPipeline_StaysOpenWhileIdle(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		for range 3 {
			send(t, p, 1)
			require.NoError(t, (<-p.Consumer()).Error())
			timer := time.NewTimer(time.Hour)
			<-timer.C
		}
	})
}

// If the link is lost while nothing is in flight, the next future fails.
func TestPipeline_ALostIdleLinkFailsTheNextFuture(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		net.Reset("a", "b")
		synctest.Wait()
		futures := send(t, p, 1)
		requireFailed(t, futures, nil)
		require.Same(t, futures[0], <-p.Consumer())
		_, err := p.AppendEntries(appendRequest(2), new(raftwire.AppendEntriesResponse))
		var op *raftwire.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, raftwire.ServerAddress("b"), op.Peer)
	})
}

// A remote error fails one future and leaves its response zero, since a core looks
// only at the response.
func TestPipeline_ARemoteErrorFailsOneFuture(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(4)), listen(t, net, "b")
		serve(t, b, func(rpc raftwire.RPC) {
			if rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry == 0 {
				rpc.Respond(&raftwire.AppendEntriesResponse{Term: 9, Success: true}, errors.New("refused"))
				return
			}
			accept(rpc)
		})
		p := openPipeline(t, a, "b")
		futures := send(t, p, 2)
		var remote *raftwire.RemoteError
		require.ErrorAs(t, futures[0].Error(), &remote)
		require.Equal(t, &raftwire.RemoteError{Op: "AppendEntries", Peer: "b", Text: "refused"}, remote)
		require.Zero(t, *futures[0].Response())
		require.NoError(t, futures[1].Error())
	})
}

// A core does not send concurrently, but every promise holds if it does.
func TestPipeline_ServesConcurrentSenders(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(5)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		const senders, each = 8, 100
		errs := make(chan error, senders)
		for range senders {
			go func() {
				for i := range each {
					if _, err := p.AppendEntries(appendRequest(uint64(i)), new(raftwire.AppendEntriesResponse)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range senders * each {
			f := <-p.Consumer()
			require.NoError(t, f.Error())
			require.Equal(t, f.Request().PrevLogEntry, f.Response().LastLog)
		}
		for range senders {
			require.NoError(t, <-errs)
		}
	})
}

// A slow core loses none of the requests that arrive meanwhile, whole or in pieces.
func TestSession_KeepsRequestsWhileTheCoreIsBusy(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(10)), listen(t, net, "b")
		serve(t, b, acceptAfter(200*time.Millisecond))
		p := openPipeline(t, a, "b")
		start := time.Now()
		for i := range 4 {
			send(t, p, 1)
			pause(time.Duration(i+1) * 70 * time.Millisecond)
		}
		for i := range 4 {
			require.NoError(t, (<-p.Consumer()).Error(), "request %d", i)
		}
		require.Equal(t, 4*200*time.Millisecond, time.Since(start))
	})
}

func TestSession_ReadsPiecesWhileTheCoreIsBusy(t *testing.T) {
	for _, size := range []int{10, 100_000} { // the larger is read straight to where it belongs
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				sent := &raftwire.AppendEntriesRequest{Term: 1, Entries: []*raftwire.Log{{Data: bytes.Repeat([]byte("xyz"), size)}}}
				var got []any
				serve(t, listen(t, net, "b", withTimeout(time.Minute)), func(rpc raftwire.RPC) {
					got = append(got, rpc.Command)
					acceptAfter(200 * time.Millisecond)(rpc)
				})
				conn, request := dialRaw(t, net, "a"), string(requestFrame(sent))
				third := len(request) / 3
				for _, piece := range []string{request + request[:third], request[third : 2*third], request[2*third:]} {
					say(t, conn, piece)
					pause(70 * time.Millisecond)
				}
				pause(time.Second)
				synctest.Wait()
				require.Equal(t, []any{sent, sent}, got)
			})
		})
	}
}

// A request that waits for the core for longer than Timeout is withdrawn if its caller
// has gone. Others stay, and nothing is lost that their callers sent meanwhile.
func TestSession_WithdrawsARequestWhoseCallerHasGone(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		gone, stays := dialRaw(t, net, "gone"), dialRaw(t, net, "stays")
		say(t, gone, "\x03\x80")
		say(t, stays, "\x03\x80\x03")
		require.NoError(t, gone.Close())
		pause(testTimeout / 2)
		require.Len(t, b.Stats().Inbound, 2)
		pause(testTimeout)
		require.Equal(t, []raftwire.HostStats{{Host: "stays", Conns: 1}}, b.Stats().Inbound)
		say(t, stays, "\x80")
		serve(t, b, accept)
		require.EqualValues(t, 2, countAnswers(t, readFor(t, stays, testTimeout/2)))
	})
}

// A connection whose buffers have gone meanwhile is not ended by the look for them.
func TestSession_OutlastsASlowWriteBetweenRequests(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listenWrapped(t, net, "b", slowWrites(700*time.Millisecond))
		texts := make(chan string, 2)
		texts <- "short"
		texts <- strings.Repeat("long", 500) // grows the buffer that is written last
		serve(t, b, func(rpc raftwire.RPC) {
			pause(10 * time.Millisecond)
			rpc.Respond(nil, errors.New(<-texts))
		})
		conn := dialRaw(t, net, "a")
		say(t, conn, "\x03\x80\x03\x80")
		pause(2 * time.Second)
		require.Len(t, b.Stats().Inbound, 1)
	})
}

// A sender that finds the connection free writes what is queued, but not what others
// send afterwards.
func TestPipeline_ASenderWritesForOthersOnce(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listenWrapped(t, net, "a", slowWrites(testTimeout/100), withWindow(64)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, b.LocalAddr())
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-p.Consumer():
				case <-stop:
					return
				}
			}
		}()
		start := time.Now()
		first := make(chan time.Duration)
		go func() {
			_, err := p.AppendEntries(appendRequest(0), new(raftwire.AppendEntriesResponse))
			if err != nil {
				t.Error(err)
			}
			first <- time.Since(start)
		}()
		synctest.Wait()
		go func() {
			for time.Since(start) < 10*testTimeout {
				send(t, p, 1)
			}
			first <- 0
		}()
		require.LessOrEqual(t, <-first, testTimeout)
		<-first
	})
}

// If a send fails, its caller has no future and the consumer gets none. Otherwise a
// caller that counts futures would be wrong.
func TestPipeline_DeliversOnlyReturnedFutures(t *testing.T) {
	const runs, senders = 50, 2 // the order in which goroutines run is left to chance
	for range runs {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			a, b := listenWrapped(t, net, "a", slowWrites(testTimeout/100), withWindow(senders)), listen(t, net, "b")
			var mu sync.Mutex
			returned, delivered := make(map[*raftwire.AppendEntriesRequest]bool), make(map[*raftwire.AppendEntriesRequest]bool)
			note := func(in map[*raftwire.AppendEntriesRequest]bool, args *raftwire.AppendEntriesRequest) {
				mu.Lock()
				defer mu.Unlock()
				in[args] = true
			}
			p, err := a.AppendEntriesPipelineTo("b", b.LocalAddr(), func(f raftwire.AppendFuture, stop <-chan struct{}) bool {
				if stop == nil {
					return false
				}
				note(delivered, f.Request())
				pause(time.Millisecond)
				return true
			})
			require.NoError(t, err)
			for i := range senders { // nobody answers: the pipeline ends
				go func() {
					args := appendRequest(uint64(i))
					if _, err := p.AppendEntries(args, new(raftwire.AppendEntriesResponse)); err == nil {
						note(returned, args)
					}
				}()
				pause(time.Millisecond)
			}
			pause(10 * testTimeout)
			require.NoError(t, p.Close())
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, returned, delivered)
		})
	}
}

// Senders that queue behind one that waits for room do not stop fake time. None waits
// longer than the timeout.
func TestPipeline_QueuedSendersGiveUpInTime(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(2), withTimeout(time.Second)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		start := time.Now()
		errs := make(chan error)
		const senders = 5
		for range senders {
			go func() {
				var err error
				for err == nil { // nobody consumes
					_, err = p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
				}
				errs <- err
			}()
		}
		for range senders {
			require.ErrorIs(t, <-errs, os.ErrDeadlineExceeded)
		}
		require.LessOrEqual(t, time.Since(start), time.Second)
	})
}

// A queued sender waits no longer than the timeout, although each sender before it is
// served in time.
func TestPipeline_SendersOnASlowLinkGiveUpInTime(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(100), withTimeout(200*time.Millisecond)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		go func() {
			for {
				select {
				case <-p.Consumer():
				case <-t.Context().Done():
					return
				}
			}
		}()
		net.Link("a", "b").SetBandwidth(2 << 20) // a request takes 150 ms
		took := make(chan time.Duration)
		const senders = 10
		for range senders {
			go func() {
				args := appendRequest(1)
				args.Entries[0].Data = make([]byte, 300<<10)
				start := time.Now()
				_, _ = p.AppendEntries(args, new(raftwire.AppendEntriesResponse))
				took <- time.Since(start)
			}()
		}
		for range senders {
			require.LessOrEqual(t, <-took, 200*time.Millisecond)
		}
	})
}

// Requests sent before Close are answered before the connection ends. Close does not
// wait for that, and it takes no longer than a request may.
func TestPipeline_CloseLetsAnswersArrive(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(raftwire.RPC)
		open   time.Duration
		left   int // the peer's end waits for its core
	}{
		"that come":        {acceptAfter(200 * time.Millisecond), 200 * time.Millisecond, 0},
		"that do not come": {never, testTimeout, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				serve(t, b, c.answer)
				p := openPipeline(t, a, "b")
				f, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
				require.NoError(t, err)
				require.Zero(t, elapsed(func() { require.NoError(t, p.Close()) }))
				require.Equal(t, raftwire.ErrPipelineShutdown, f.Error())
				pause(c.open - time.Millisecond)
				require.Equal(t, 2, net.OpenConns())
				pause(2 * time.Millisecond)
				require.Equal(t, c.left, net.OpenConns())
			})
		})
	}
}

// Close waits for a write that makes progress, but not for one that has stalled.
func TestPipeline_CloseDoesNotWaitForAStalledWrite(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(10), withTimeout(time.Minute)), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		net.Link("a", "b").Cut()
		for range 5 {
			args := appendRequest(1)
			args.Entries[0].Data = make([]byte, 1<<20)
			go p.AppendEntries(args, new(raftwire.AppendEntriesResponse))
		}
		synctest.Wait()
		require.Equal(t, 100*time.Millisecond, elapsed(func() { require.NoError(t, p.Close()) }))
		net.Heal()
	})
}

// slowWrites delays each write by d.
func slowWrites(d time.Duration) func(net_) net_ {
	rough := new(atomic.Pointer[roughness])
	rough.Store(&roughness{write: func(c *roughConn, p []byte) (int, error) {
		pause(d)
		return c.Conn.Write(p)
	}})
	return func(conn net_) net_ { return &roughConn{conn, rough} }
}

// readFor returns what arrives within a time.
func readFor(t *testing.T, conn net_, limit time.Duration) []byte {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(limit)))
	all, _ := io.ReadAll(conn)
	return all
}
