package raftwire_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Storms: a seed draws many things that happen at once. In any order, everything that
// begins ends once and in order, and nobody hangs.

func TestPipeline_SurvivesStorms(t *testing.T) {
	inStorms(t, func(t *testing.T, net *faultnet.Network, s *storm) {
		a, b, atA, atB := observed(t, net, s.options()...)
		var all sync.WaitGroup
		stop := make(chan struct{})
		all.Go(func() { s.core(b, stop, &all) })
		p, err := a.AppendEntriesPipeline("b", b.LocalAddr())
		require.NoError(t, err)
		var returned []raftwire.AppendFuture
		all.Go(func() {
			for i := range uint64(200) {
				args := s.request()
				if len(args.Entries) > 0 {
					args.PrevLogEntry = i + 1
				}
				f, err := p.AppendEntries(args, new(raftwire.AppendEntriesResponse))
				if err != nil {
					return
				}
				if returned = append(returned, f); s.oneIn(10) {
					s.pause(30 * time.Millisecond)
				}
			}
		})
		var consumed []raftwire.AppendFuture
		all.Go(func() {
			for {
				select {
				case f := <-p.Consumer():
					if consumed = append(consumed, f); s.oneIn(20) {
						s.pause(20 * time.Millisecond)
					}
				case <-stop:
					return
				}
			}
		})
		s.pause(testTimeout)
		s.end(a, b)
		pause(20 * testTimeout)
		require.NoError(t, p.Close())
		pause(time.Second)
		_, _ = a.Close(), b.Close()
		close(stop)
		all.Wait()
		synctest.Wait()

		require.LessOrEqual(t, len(consumed), len(returned))
		for i, f := range consumed {
			require.Same(t, returned[i], f, "the consumer gets all futures, in order")
			if f.Error() == nil {
				require.Equal(t, f.Request().PrevLogEntry, f.Response().LastLog)
			}
		}
		require.Len(t, atA.calls, len(atA.begun))
		require.Len(t, atB.served, len(atB.arrived))
		require.Len(t, atB.closed, len(atB.opened))
	})
}

func TestSession_SurvivesStorms(t *testing.T) {
	inStorms(t, func(t *testing.T, net *faultnet.Network, s *storm) {
		var seen events
		b := listen(t, net, "b", append(s.options(), withHooks(seen.hooks()))...)
		var all sync.WaitGroup
		stop := make(chan struct{})
		all.Go(func() { s.core(b, stop, &all) })
		conn := dialRaw(t, net, "a")
		var sent []byte
		for range 30 {
			frame := requestFrame(s.request())
			if s.oneIn(6) {
				frame = snapshotFrame(drawn(s, 0, 1, 3_000, 100_000))
			}
			sent = append(sent, frame...)
		}
		goodbye := drawn(s, func() {}, func() { _ = conn.(*faultnet.Conn).CloseWrite() }, func() { _ = conn.Close() })
		all.Go(func() {
			defer goodbye()
			for piece := range slices.Chunk(sent[:s.below(len(sent))], 1+s.below(20_000)) {
				if _, err := conn.Write(piece); err != nil {
					return
				}
				if s.oneIn(5) {
					s.pause(60 * time.Millisecond)
				}
			}
		})
		all.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		if s.oneIn(2) {
			all.Go(func() {
				for range 20 {
					s.pause(40 * time.Millisecond)
					d := new(recordingDispatcher)
					b.SetDispatcher(drawn(s, nil, func(<-chan struct{}) raftwire.Dispatcher { return d }))
				}
			})
		}
		s.pause(testTimeout)
		s.end(b)
		pause(20 * testTimeout)
		_, _ = b.Close(), conn.Close()
		close(stop)
		all.Wait()
		synctest.Wait()
		require.Len(t, seen.served, len(seen.arrived))
		require.Len(t, seen.closed, len(seen.opened))
	})
}

// storm draws at random what happens. Several goroutines use it.
type storm struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (s *storm) below(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s *storm) oneIn(n int) bool { return s.below(n) == 0 }

func (s *storm) pause(most time.Duration) { pause(time.Duration(s.below(int(most) + 1))) }

// options draws the configuration of a transport.
func (s *storm) options() []option {
	return []option{
		withDispatchAhead(drawn(s, 1, 2, 3, 16)), withWindow(drawn(s, 2, 3, 16, 100)), withTimeout(drawn(s, 0, testTimeout)),
	}
}

// request draws a request: a heartbeat, a small, a large or a very large one.
func (s *storm) request() *raftwire.AppendEntriesRequest {
	size := drawn(s, -1, 100, 100, 100, 100, 5_000, 70_000)
	if size < 0 {
		return benchRequest(workload{})
	}
	return benchRequest(workload{entries: 1, size: size})
}

// core answers requests until stop is closed: late, twice or never, some at once and
// some in the background.
func (s *storm) core(from raftwire.Transport, stop <-chan struct{}, all *sync.WaitGroup) {
	slow := time.Duration(drawn(s, 0, 1, 30, 200)) * time.Millisecond
	some := drawn(s, 1, 1, 50)
	answer := func(rpc raftwire.RPC) {
		if some > 1 && s.oneIn(some) {
			return
		}
		s.pause(slow)
		if accept(rpc); s.oneIn(10) {
			accept(rpc)
		}
	}
	if s.oneIn(2) {
		from.SetHeartbeatHandler(answer)
	}
	for {
		select {
		case rpc := <-from.Consumer():
			if s.oneIn(2) {
				all.Go(func() { answer(rpc) })
				continue
			}
			if rpc.Reader != nil && s.oneIn(2) { // and is answered meanwhile
				all.Go(func() { _, _ = io.CopyN(io.Discard, rpc.Reader, int64(s.below(100_000))) })
				s.pause(slow)
				rpc.Respond(new(raftwire.InstallSnapshotResponse), nil)
				continue
			}
			answer(rpc)
		case <-stop:
			return
		}
	}
}

// end ends something that is under way, or nothing.
func (s *storm) end(ends ...*raftwire.NetworkTransport) {
	trans := drawn(s, ends...)
	switch s.below(3) {
	case 0:
		trans.CloseStreams()
	case 1:
		_ = trans.Close()
	}
}

func drawn[T any](s *storm, from ...T) T { return from[s.below(len(from))] }

// inStorms runs f with many seeds.
func inStorms(t *testing.T, f func(t *testing.T, net *faultnet.Network, s *storm)) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				s := &storm{random: rand.New(rand.NewPCG(seed, 0))}
				if s.oneIn(2) {
					net.SetBuffer(1 << (8 + s.below(8)))
				}
				if s.oneIn(2) {
					net.Slice(1 + s.below(300))
				}
				f(t, net, s)
			})
		})
	}
}

// snapshotFrame is an InstallSnapshot's bytes on the wire.
func snapshotFrame(size int) []byte {
	header := appendMsgpack([]byte{2}, &raftwire.InstallSnapshotRequest{Term: 7, Size: int64(size)})
	return append(header, bytes.Repeat([]byte{7}, size)...)
}
