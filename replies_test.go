package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// A core gets MaxDispatchAhead requests of a connection before it answers one, then
// one more for each answer.
func TestMaxDispatchAhead_IsReached(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 16} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				const sent = 100
				b := listen(t, net, "b", withDispatchAhead(limit))
				conn := dialRaw(t, net, "a")
				_, err := conn.Write(bytes.Repeat(smallRequest(), sent))
				require.NoError(t, err)
				taken := takeAll(b)
				for answered := range sent {
					require.Len(t, taken, min(limit, sent-answered))
					taken[0].Respond(benchAnswer(firstAnswer), nil)
					taken = append(taken[1:], takeAll(b)...)
				}
				_, err = io.ReadFull(conn, make([]byte, sent*len(answerFrame())))
				require.NoError(t, err)
			})
		})
	}
}

// The wait until the next request may be dispatched is not part of its decoding time.
func TestMaxDispatchAhead_WaitIsNoDecodingTime(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		var seen events
		b := listen(t, net, "b", withDispatchAhead(2), withHooks(seen.hooks()))
		conn := dialRaw(t, net, "a")
		const sent = 5
		_, err := conn.Write(bytes.Repeat(smallRequest(), sent))
		require.NoError(t, err)
		for taken := takeAll(b); len(taken) > 0; taken = append(taken[1:], takeAll(b)...) {
			pause(10 * time.Millisecond)
			taken[0].Respond(benchAnswer(firstAnswer), nil)
		}
		synctest.Wait()
		require.Len(t, seen.served, sent)
		for _, e := range seen.served {
			require.Zero(t, e.Decode)
		}
	})
}

// An answer waits neither for the core to take the next request, nor for the next
// answer, nor for the rest of the next request.
func TestAnswers_GoOutAtOnce(t *testing.T) {
	request := smallRequest()
	for name, c := range map[string]struct {
		next  []byte
		taken int // of the requests, before the first is answered
	}{
		"the next is not taken":    {request, 1},
		"the next is not answered": {request, 2},
		"the next is half here":    {request[:len(request)/2], 1},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b")
				conn := dialRaw(t, net, "a")
				_, err := conn.Write(append(request[:len(request):len(request)], c.next...))
				require.NoError(t, err)
				first := <-b.Consumer()
				for range c.taken - 1 {
					<-b.Consumer()
				}
				synctest.Wait()
				start := time.Now()
				first.Respond(benchAnswer(firstAnswer), nil)
				_, err = io.ReadFull(conn, make([]byte, len(answerFrame())))
				require.NoError(t, err)
				require.Zero(t, time.Since(start))
			})
		})
	}
}

// Answers to a caller that does not read are bounded: those of one write, and as many
// again.
func TestAnswers_ToACallerThatDoesNotReadAreBounded(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		const buffer, gathered, ahead = 4 << 10, 4 << 10, 16 // bytes, bytes, requests
		net.SetBuffer(buffer)
		b := listen(t, net, "b", withDispatchAhead(ahead))
		served := 0
		serve(t, b, func(rpc raftwire.RPC) { served++; accept(rpc) })
		conn := dialRaw(t, net, "a")
		say(t, conn, "\x03\x80")
		answer, err := conn.Read(make([]byte, buffer))
		require.NoError(t, err)
		go askForEver(conn)
		synctest.Wait()
		most := (buffer + 2*gathered) / answer
		t.Logf("%d served, of %d at most", served, most+ahead+3)
		require.LessOrEqual(t, served, most+ahead+3)
		require.NoError(t, conn.Close())
	})
}

// A caller that sends garbage after requests, and reads slowly, gets all answers to
// the requests, also those that are still being written.
func TestAnswers_SurviveGarbageBehindTheirRequests(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		const count, buffer = 30, 200
		net.SetBuffer(buffer)
		b := listen(t, net, "b")
		serve(t, b, accept)
		conn := dialRaw(t, net, "a")
		say(t, conn, strings.Repeat("\x03\x80", count)+"\x03\xc1")
		pause(20 * time.Millisecond)
		answers, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.EqualValues(t, count, countAnswers(t, answers))
	})
}

// A caller may close its sending side after its last request. It still gets answers
// that come soon.
func TestAnswers_ReachAHalfClosedCaller(t *testing.T) {
	const count = 5
	for _, size := range []int{100, 10_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b")
				conn := dialRaw(t, net, "a")
				_, err := conn.Write(bytes.Repeat(requestFrame(benchRequest(workload{entries: 1, size: size})), count))
				require.NoError(t, err)
				require.NoError(t, conn.(*faultnet.Conn).CloseWrite())
				taken := takeAll(b)
				require.Len(t, taken, count)
				pause(20 * time.Millisecond)
				for _, rpc := range taken {
					rpc.Respond(benchAnswer(firstAnswer), nil)
				}
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				require.Len(t, got, count*len(answerFrame()))
			})
		})
	}
}

// A caller that stalls inside a request is not waited for because of pending replies,
// which may never come.
func TestSession_PendingRepliesDoNotKeepAStalledConn(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		conn := dialRaw(t, net, "a")
		request := smallRequest()
		start := time.Now()
		_, err := conn.Write(append(request[:len(request):len(request)], request[:len(request)/2]...))
		require.NoError(t, err)
		<-b.Consumer()
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, testTimeout, time.Since(start))
	})
}

// Hooks see the end of every request whose beginning they saw, although the connection
// ends during a heartbeat handler.
func TestServeDone_FollowsEveryServeBegun(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		var seen events
		b := listen(t, net, "b", withHooks(seen.hooks()))
		entered, leave := make(chan struct{}), make(chan struct{})
		b.SetHeartbeatHandler(func(rpc raftwire.RPC) {
			close(entered)
			<-leave
			rpc.Respond(benchAnswer(firstAnswer), nil)
		})
		conn := dialRaw(t, net, "a")
		_, err := conn.Write(slices.Concat(smallRequest(), requestFrame(benchRequest(workload{})), smallRequest()))
		require.NoError(t, err)
		<-b.Consumer() // and is never answered
		<-entered
		b.CloseStreams()
		synctest.Wait()
		close(leave)
		synctest.Wait()
		require.GreaterOrEqual(t, len(seen.arrived), 2)
		require.Len(t, seen.served, len(seen.arrived))
	})
}

// The allocations of a request are pinned. Four of them are the test's own: the
// response to fill, the answer, and two for the address.
func TestAppendEntries_AllocatesLittle(t *testing.T) {
	a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(benchAnswer(firstAnswer), nil) })
	request := benchRequest(workload{entries: 1, size: 100})
	allocs := leastAllocs(func() {
		if err := a.AppendEntries("b", b.LocalAddr(), request, new(raftwire.AppendEntriesResponse)); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, allocs, 9.0)
}

// An error with an empty text is still an error.
func TestAnswers_ErrorWithoutATextArrives(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(nil, errors.New("")) })
		var remote *raftwire.RemoteError
		require.ErrorAs(t, appendOnce(a, "b"), &remote)
		require.Equal(t, "an error without a text, a *errors.errorString", remote.Text)
	})
}

// An idle connection keeps none of the requests that came on it.
func TestSession_KeepsNoRequestWhileItIsIdle(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		const count = 20
		var requests []weak.Pointer[raftwire.AppendEntriesRequest]
		serve(t, b, func(rpc raftwire.RPC) {
			requests = append(requests, weak.Make(rpc.Command.(*raftwire.AppendEntriesRequest)))
			accept(rpc)
		})
		_, err := dialRaw(t, net, "a").Write(bytes.Repeat(requestFrame(benchRequest(workload{entries: 1, size: 8 << 10})), count))
		require.NoError(t, err)
		synctest.Wait()
		runtime.GC()
		require.Len(t, requests, count)
		for i, request := range requests {
			require.Nil(t, request.Value(), i)
		}
	})
}
