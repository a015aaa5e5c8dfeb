package raftwire_test

import (
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

func TestLargeRequest_TakesAsLongAsItMakesProgress(t *testing.T) {
	eachLargeCase(t, func(t *testing.T, x *largeCase) {
		took := elapsed(func() { require.NoError(t, x.send(largeRequest(large))) })
		require.InDelta(t, 8*time.Second, took, float64(100*time.Millisecond))
	})
}

func TestLargeRequest_FailsAfterTenTimeouts(t *testing.T) {
	eachLargeCase(t, func(t *testing.T, x *largeCase) {
		x.net.Link("a", "b").SetBandwidth(large / 32)
		took := elapsed(func() {
			err := x.send(largeRequest(large))
			requireTimeout(t, err)
			require.ErrorContains(t, err, "10 times Timeout")
		})
		require.InDelta(t, 10*testTimeout, took, float64(lookInterval))
	})
}

// This network's buffers hide how much has arrived, so the total bounds the wait for
// the answer.
func TestLargeRequest_FailsWhenTheLinkStalls(t *testing.T) {
	eachLargeCase(t, func(t *testing.T, x *largeCase) {
		time.AfterFunc(3*time.Second, func() { x.net.Partition("a", "b") })
		want, text := 3*time.Second+testTimeout, "no progress"
		if x.buffered {
			want, text = 10*testTimeout, "10 times Timeout"
		}
		took := elapsed(func() {
			err := x.send(largeRequest(large))
			requireTimeout(t, err)
			require.ErrorContains(t, err, text)
		})
		require.InDelta(t, want, took, float64(lookInterval))
	})
}

// A request of up to 1 MiB has Timeout in total, whatever progress it makes.
func TestSmallRequest_FailsAfterTimeout(t *testing.T) {
	eachLargeCase(t, func(t *testing.T, x *largeCase) {
		x.net.Link("a", "b").SetBandwidth(256 << 10)
		took := elapsed(func() { requireTimeout(t, x.send(largeRequest(512<<10))) })
		require.Equal(t, testTimeout, took)
	})
}

// TLS cannot go on after a write that a deadline has ended.
func TestLargeRequest_MakesProgressOverTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		start := func(host string) *raftwire.NetworkTransport {
			c := config()
			c.Stream = overTLS(t, hostLayer(t, net, host), ca)
			trans := raftwire.NewNetworkTransportWithConfig(c)
			t.Cleanup(func() { require.NoError(t, trans.Close()) })
			return trans
		}
		a := start("a")
		serve(t, start("b"), accept)
		net.Link("a", "b").SetBandwidth(large / 8)
		took := elapsed(func() {
			require.NoError(t, a.AppendEntries("b", "b", largeRequest(large), new(raftwire.AppendEntriesResponse)))
		})
		require.InDelta(t, 8*time.Second, took, float64(200*time.Millisecond))
	})
}

// Small requests behind a large one in a pipeline wait for it, and so do their
// senders. Requests on other connections do not wait.
func TestLargeRequest_HoldsUpItsPipelineOnly(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withWindow(4)), listen(t, net, "b")
		serve(t, b, accept)
		b.SetHeartbeatHandler(accept)
		net.Link("a", "b").SetBandwidth(large / 8)
		p := openPipeline(t, a, "b")
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < 10 && err == nil; i++ {
				err = (<-p.Consumer()).Error()
			}
			done <- err
		}()
		go func() {
			_, err := p.AppendEntries(largeRequest(large), new(raftwire.AppendEntriesResponse))
			require.NoError(t, err)
			send(t, p, 9)
		}()
		synctest.Wait()
		for range 5 {
			require.Less(t, elapsed(func() { require.NoError(t, heartbeat(a, "b")) }), testTimeout/2)
			pause(testTimeout)
		}
		require.NoError(t, <-done)
	})
}

// A sender waits for room behind large requests, and a Timeout longer for the
// consumer, but ten Timeouts at most.
func TestLargeRequest_LetsItsPipelinesSendersGo(t *testing.T) {
	for name, c := range map[string]struct {
		bandwidth int64
		requests  int
		takes     time.Duration
	}{
		"one that is answered": {large * 2 / 15, 1, 8*testTimeout + testTimeout/2},
		"one that is too slow": {large / 32, 1, 10 * testTimeout},
		"two in a row":         {large / 6, 2, 10 * testTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withWindow(c.requests+1)), listen(t, net, "b")
				serve(t, b, accept)
				net.SetBuffer(4 * large)
				net.Link("a", "b").SetBandwidth(c.bandwidth)
				p := openPipeline(t, a, "b") // nobody consumes
				for range c.requests {
					_, err := p.AppendEntries(largeRequest(large), new(raftwire.AppendEntriesResponse))
					require.NoError(t, err)
				}
				took := elapsed(func() {
					_, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
					requireTimeout(t, err)
				})
				require.InDelta(t, c.takes, took, float64(lookInterval))
			})
		})
	}
}

// A peer that ends a stalled request halfway is not taken for one of another protocol.
func TestLargeRequest_EndedByThePeerIsNoOtherProtocol(t *testing.T) {
	for kind, send := range map[string]func(t *testing.T, a *raftwire.NetworkTransport) error{
		"AppendEntries": func(_ *testing.T, a *raftwire.NetworkTransport) error {
			return a.AppendEntries("b", "b", largeRequest(large), new(raftwire.AppendEntriesResponse))
		},
		"in a pipeline": func(t *testing.T, a *raftwire.NetworkTransport) error {
			return appendAndConsume(openPipeline(t, a, "b"), largeRequest(large))
		},
		"InstallSnapshot": func(_ *testing.T, a *raftwire.NetworkTransport) error {
			_, err := install(a, large, zeros{})
			return err
		},
	} {
		for name, leave := range map[string]func(net_){"with a goodbye": closeNow, "with a reset": resetNow} {
			t.Run(kind+" "+name, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					a := listen(t, net, "a")
					serveForeign(t, net, "b", func(conn net_) {
						_, _ = io.CopyN(io.Discard, conn, 100_000)
						leave(conn)
					})
					err := send(t, a)
					require.ErrorContains(t, err, "the peer closed the connection without an answer: its log says why: ")
				})
			})
		}
	}
}

// largeRequest returns a request with size bytes of entries.
func largeRequest(size int) *raftwire.AppendEntriesRequest {
	const entry = 64 << 10
	request := appendRequest(1)
	request.Entries = nil
	for i := range size / entry {
		request.Entries = append(request.Entries, &raftwire.Log{Index: uint64(i + 2), Term: 7, Data: make([]byte, entry)})
	}
	return request
}

// large is the size of a request that a link carries in eight timeouts.
const large = 4 << 20

// lookInterval is by how much a stall may be noticed late.
const lookInterval = testTimeout / 4

// largeCase sends a request over a link that carries large bytes in eight timeouts.
type largeCase struct {
	net      *faultnet.Network
	a        *raftwire.NetworkTransport
	buffered bool // a write returns at once, and the wait is for the answer
	send     func(request *raftwire.AppendEntriesRequest) error
}

// eachLargeCase runs a test with a request that is sent alone, and in a pipeline.
func eachLargeCase(t *testing.T, test func(t *testing.T, x *largeCase)) {
	for _, buffered := range []bool{false, true} {
		for _, pipelined := range []bool{false, true} {
			t.Run(fmt.Sprintf("buffered=%v/pipelined=%v", buffered, pipelined), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					x := &largeCase{net: net, a: listen(t, net, "a"), buffered: buffered}
					serve(t, listen(t, net, "b"), accept)
					if buffered {
						net.SetBuffer(2 * large)
					}
					net.Link("a", "b").SetBandwidth(large / 8)
					x.send = func(request *raftwire.AppendEntriesRequest) error {
						return x.a.AppendEntries("b", "b", request, new(raftwire.AppendEntriesResponse))
					}
					if pipelined {
						p := openPipeline(t, x.a, "b")
						x.send = func(request *raftwire.AppendEntriesRequest) error { return appendAndConsume(p, request) }
					}
					test(t, x)
				})
			})
		}
	}
}
