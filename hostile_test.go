package raftwire_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// What crowds of connections cost, in memory and on fake time. Heap is what is live
// after a collection, and includes the network in memory; go test -v shows figures.

// An idle inbound connection costs one goroutine and at most 8 KiB, whatever it was
// used for.
func TestIdleConns_CostLittle(t *testing.T) {
	const count = 10_000
	for name, begin := range map[string]func(t *testing.T, conn net_){
		"that never spoke": func(*testing.T, net_) {},
		"that asked once":  func(t *testing.T, conn net_) { introduce(t, conn) },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", unlimited)
				serve(t, b, accept)
				synctest.Wait()
				goroutines := runtime.NumGoroutine()
				var conns []net_
				each := heapOfEach(count, func() {
					conns = crowd(t, net, count, func(conn net_) { begin(t, conn) })
					pause(time.Minute)
				})
				t.Logf("%d bytes of heap for each of %d", each, count)
				require.LessOrEqual(t, each, 8<<10)
				require.InDelta(t, count, runtime.NumGoroutine()-goroutines, strayGoroutines)
				disperse(conns)
				require.InDelta(t, goroutines, runtime.NumGoroutine(), strayGoroutines)
			})
		})
	}
}

// An idle connection costs as little after many requests at once, or after a large
// answer.
func TestIdleConns_ReleaseTheirBuffers(t *testing.T) {
	const count = 200
	for name, c := range map[string]struct {
		answer   func(raftwire.RPC)
		requests int
	}{
		"many requests":  {accept, 300},
		"a large answer": {func(rpc raftwire.RPC) { rpc.Respond(nil, errors.New(strings.Repeat("x", 300<<10))) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				serve(t, listen(t, net, "b", unlimited), c.answer)
				var conns []net_
				each := heapOfEach(count, func() {
					conns = crowd(t, net, count, func(conn net_) {
						say(t, conn, strings.Repeat("\x03\x80", c.requests))
						_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
						_, err := io.Copy(io.Discard, conn)
						require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					})
					pause(time.Minute)
				})
				t.Logf("%d bytes of heap for each", each)
				const network = 3 << 10 // is what that has of its own buffers
				require.LessOrEqual(t, each, 8<<10+network)
				disperse(conns)
			})
		})
	}
}

// Connections that have closed leave nothing behind.
func TestClosedConns_LeaveNothing(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		serve(t, b, accept)
		round := func(rounds int) {
			for range rounds {
				disperse(crowd(t, net, 100, func(conn net_) { introduce(t, conn) }))
			}
		}
		round(10)
		grown := heapOfEach(1, func() { round(200) })
		t.Logf("%d bytes of heap after 20,000", grown)
		require.Less(t, grown, 256<<10)
	})
}

// Whatever it declares, an unfinished request holds at most twice the bytes that have
// arrived, and 64 KiB.
func TestHalfSentRequests_CostWhatHasArrived(t *testing.T) {
	const count = 20
	for _, rest := range []int{0, 300_000} {
		for i, shape := range headerShapes {
			t.Run(fmt.Sprintf("shape %d with %d bytes more", i, rest), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					b := listen(t, net, "b")
					request := "\x00" + shape + strings.Repeat("\x01", rest)
					var conns []net_
					each := heapOfEach(count, func() {
						conns = crowd(t, net, count, func(conn net_) { _, _ = io.WriteString(conn, request) })
					})
					require.LessOrEqual(t, each, 2*len(request)+64<<10)
					pause(testTimeout)
					synctest.Wait()
					for _, conn := range conns {
						require.False(t, isOpen(conn))
					}
					require.NotZero(t, b.Refusals())
					disperse(conns)
				})
			})
		}
	}
}

func TestHalfSentRequests_CostLittle(t *testing.T) {
	const count = 10_000
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", unlimited)
		var conns []net_
		each := heapOfEach(count, func() {
			conns = crowd(t, net, count, func(conn net_) { say(t, conn, "\x00\x81\xa7Entries\x91\x81\xa4Data\xdb\xff\xff\xff\xff") })
		})
		t.Logf("%d bytes of heap for each of %d", each, count)
		require.LessOrEqual(t, each, 64<<10)
		pause(testTimeout)
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Stalled: count}, b.Refusals())
		disperse(conns)
	})
}

// Connections that send requests and never read an answer cost bounded memory,
// whatever the answers are. They end within the timeout.
func TestConns_ThatNeverReadCostBoundedMemory(t *testing.T) {
	for size, limit := range map[int]struct{ count, heap int }{
		10_000:  {1000, 512 << 10},
		1 << 20: {50, 4 << 20},
	} {
		t.Run(fmt.Sprintf("answers of %d bytes", size), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				net.SetBuffer(4 << 10)
				b := listen(t, net, "b", unlimited)
				answer := &raftwire.TimeoutNowResponse{RPCHeader: raftwire.RPCHeader{Addr: make([]byte, size)}}
				serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(answer, nil) })
				var conns []net_
				each := heapOfEach(limit.count, func() {
					conns = crowd(t, net, limit.count, func(conn net_) { go askForEver(conn) })
				})
				t.Logf("%d bytes of heap for each of %d", each, limit.count)
				require.LessOrEqual(t, each, limit.heap)
				pause(testTimeout)
				synctest.Wait()
				require.Equal(t, raftwire.Refusals{Stalled: uint64(limit.count)}, b.Refusals())
				disperse(conns)
			})
		})
	}
}

// An answer that does not end costs its sender the connection before it costs much
// memory.
func TestCall_RefusesAnEndlessAnswer(t *testing.T) {
	const most = 64 << 20
	for name, beginning := range map[string]string{
		"a text":          "\xdb\x7f\xff\xff\xff",
		"a field":         "\xa0\x81\xa5Peers\xdb\x7f\xff\xff\xff",
		"unknown fields":  "\xa0\xdf\xff\xff\xff\xff",
		"an unknown list": "\xa0\x81\xa1x\xdd\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				layer := hostLayer(t, net, "b")
				defer func() { require.NoError(t, layer.Close()) }()
				go func() {
					conn, _ := layer.Accept()
					_, _ = io.WriteString(conn, beginning)
					_, _ = io.CopyN(conn, repeated("\xa1x"), most)
					_, _ = conn.Read(make([]byte, 100))
					_ = conn.Close()
				}()
				a := listen(t, net, "a")
				var resp raftwire.RequestVoteResponse
				err := a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 7}, &resp)
				require.ErrorContains(t, err, "over the limit of an answer, which is 16777216")
				synctest.Wait()
			})
		})
	}
}

// Close ends 10,000 inbound connections in every state they can be in.
func TestClose_EndsTenThousandInboundConns(t *testing.T) {
	const each = 2500
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		before := runtime.NumGoroutine()
		b := listen(t, net, "b", unlimited)
		b.SetHeartbeatHandler(accept)
		var conns []net_
		for _, beginning := range []string{"", "\x00", "\x00\x81\xa7Entries\x91\x81\xa4Data\xdb\xff\xff\xff\xff", "\x03\x80"} {
			conns = append(conns, crowd(t, net, each, func(conn net_) { say(t, conn, beginning) })...)
		}
		require.InDelta(t, 4*each, runtime.NumGoroutine()-before, strayGoroutines)
		require.LessOrEqual(t, elapsed(func() { require.NoError(t, b.Close()) }), prompt)
		require.Equal(t, len(conns), net.OpenConns(), "only the other ends are open")
		require.LessOrEqual(t, runtime.NumGoroutine(), before+strayGoroutines)
		disperse(conns)
	})
}

// crowd opens count connections to b, and begins each in the given way.
func crowd(t *testing.T, net *faultnet.Network, count int, begin func(conn net_)) []net_ {
	t.Helper()
	conns := make([]net_, count)
	for i := range conns {
		conn, err := net.Host("crowd").Dial(t.Context(), "b")
		require.NoError(t, err)
		begin(conn)
		conns[i] = conn
	}
	synctest.Wait()
	return conns
}

func disperse(conns []net_) {
	for _, conn := range conns {
		_ = conn.Close()
	}
	synctest.Wait()
}

// headerShapes are requests that declare as much as they can, in every place that has
// a length.
var headerShapes = []string{
	"\xdf\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xde\xff\xff", "\xdc\xff\xff",
	"\x81\xdb\xff\xff\xff\xff", "\x81\xc6\xff\xff\xff\xff",
	"\x81\xa4Addr\xdb\xff\xff\xff\xff", "\x81\xa4Addr\xc6\x7f\xff\xff\xff",
	"\x81\xa3Xyz\xdb\xff\xff\xff\xff", "\x81\xa3Xyz\xdd\xff\xff\xff\xff", "\x81\xa3Xyz\xdf\xff\xff\xff\xff",
	"\x81\xa3Xyz\xc9\xff\xff\xff\xff\x01",
	"\x81\xa7Entries\xdd\xff\xff\xff\xff", "\x81\xa7Entries\xdd\x00\x10\x00\x00", "\x81\xa7Entries\xdc\xff\xff",
	"\x81\xa7Entries\x91\xdf\xff\xff\xff\xff", "\x81\xa7Entries\x91\x81\xa4Data\xdb\xff\xff\xff\xff",
	"\x81\xa7Entries\xdd\xff\xff\xff\xff\x81\xa4Data\xdb\xff\xff\xff\xff",
}

// repeated yields the same text for ever.
type repeated string

func (r repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}
