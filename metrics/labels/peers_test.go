package labels

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func TestPeers_AreNamedByIDElseByAddress(t *testing.T) {
	p := NewPeers[int](false, 0)
	require.Same(t, p.Get("n1", "10.0.0.1:1"), p.Get("n1", "10.0.0.2:1"))
	require.Equal(t, "n1", p.Get("n1", "10.0.0.3:1").Label)
	require.Equal(t, "10.0.0.4:1", p.Get("", "10.0.0.4:1").Label)
	require.Equal(t, []string{"10.0.0.4:1", "n1"}, known(p))
	require.Equal(t, "n\uFFFD", p.Get("n\xff", "").Label, "a metrics library would refuse it")
	require.Same(t, p.Get("n\xff", ""), p.Get("n\xff", ""))
}

func TestPeers_AreOneIfOmitted(t *testing.T) {
	p := NewPeers[int](true, 0)
	require.Same(t, p.Get("n1", "a"), p.Get("n2", "b"))
	require.Equal(t, []string{""}, known(p))
}

// A peer that is gone is dropped an hour later. One that is still used, or that a
// connection is open to, is kept.
func TestPeers_AreDroppedWhenGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPeers[int](false, 0)
		p.Get("gone", "")
		p.Opened("connected", "")
		p.Opened("closed", "")
		p.Closed("closed", "")
		p.Opened("n\xff", "")
		p.Closed("n\xff", "")
		for range 59 {
			p.Get("busy", "")
			require.Equal(t, []string{"busy", "closed", "connected", "gone", "n\uFFFD"}, known(p))
			pass(time.Minute)
		}
		p.Get("busy", "")
		pass(time.Minute)
		require.Equal(t, []string{"busy", "connected"}, known(p))
		p.Closed("connected", "")
		p.Closed("unknown", "")
		require.Equal(t, []string{"busy", "connected"}, known(p))
		pass(KeepFor)
		require.Equal(t, []string{"connected"}, known(p), "its connection was open at the last look")
		pass(KeepFor)
		require.Empty(t, known(p))
		require.Zero(t, p.Get("gone", "").Kept)
	})
}

// Those beyond the limit are measured together until there is room.
func TestPeers_AreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPeers[int](false, 20)
		for i := range 100_000 {
			p.Get(raftwire.ServerID(fmt.Sprint("n", i)), "")
		}
		require.Len(t, known(p), 20+1)
		require.Equal(t, "n19", p.Get("n19", "").Label)
		require.Equal(t, Other, p.Get("n20", "").Label)
		p.Opened("n20", "")
		p.Closed("n20", "")
		pass(KeepFor)
		pass(KeepFor)
		require.Equal(t, "n20", p.Get("n20", "").Label, "the others have gone")
	})
	require.Equal(t, "n99", NewPeers[int](false, 0).Get("n99", "").Label)
}

// However many are known, a hook finds its peer without a copy or an allocation.
func TestPeers_AreFoundWithoutAllocation(t *testing.T) {
	p := NewPeers[int](false, 10_000)
	ids := make([]raftwire.ServerID, 10_000)
	for i := range ids {
		ids[i] = raftwire.ServerID(fmt.Sprint("n", i))
	}
	made := testing.AllocsPerRun(1, func() {
		for _, id := range ids {
			p.Get(id, "")
		}
	})
	require.Less(t, made, 100_000.0)
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Get(ids[0], ""); p.Get(ids[9999], "") }))
}

func TestPeers_AreMadeOnce(t *testing.T) {
	p := NewPeers[atomic.Int64](false, 50)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 50 {
				p.Get(raftwire.ServerID(fmt.Sprint(i)), "").Kept.Add(1)
			}
		})
	}
	all.Wait()
	n := 0
	p.Each(func(one *Peer[atomic.Int64]) {
		n++
		require.EqualValues(t, 8, one.Kept.Load(), one.Label)
	})
	require.Equal(t, 50, n)
}

func TestSlot_KeepsTheFirst(t *testing.T) {
	var calls Calls[int]
	one, two := 1, 2
	slot := calls.Of(5, true, 4)
	require.Nil(t, slot.Get())
	require.Same(t, &one, slot.Keep(&one))
	require.Same(t, &one, slot.Keep(&two))
	calls.Of(0, false, 0).Keep(&two)
	sum := 0
	calls.Each(func(v *int) { sum += *v })
	require.Equal(t, 3, sum)
}

// known returns the labels of those that are kept, in order.
func known[V any](p *Peers[V]) (names []string) {
	p.Each(func(one *Peer[V]) { names = append(names, one.Label) })
	slices.Sort(names)
	return names
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.NewTimer(d).C }
