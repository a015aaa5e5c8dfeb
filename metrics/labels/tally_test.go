package labels

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func look(t *Tally, peers ...raftwire.PeerStats) []PeerFigures {
	_, figures := t.Look(func() raftwire.Stats { return raftwire.Stats{Peers: peers} })
	slices.SortFunc(figures, func(a, b PeerFigures) int { return cmp.Compare(a.Label, b.Label) })
	return figures
}

// A peer that has moved has the figures of its addresses together, and its bytes go
// on when the transport has forgotten the old one.
func TestTally_AddsUpThePeersAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		left := raftwire.PeerStats{ID: "n1", Peer: "old", LastDial: now, LastSuccess: now.Add(-time.Second), BytesIn: 100, BytesOut: 200}
		moved := raftwire.PeerStats{
			ID: "n1", Peer: "new", LastDial: now, LastSuccess: now, BytesIn: 1, BytesOut: 2, Idle: 1, InUse: 2, Dialing: 3, InFlight: 4,
			Pipelines: []raftwire.PipelineStats{{Unconsumed: 5, OldestAge: time.Second}, {Unconsumed: 1, OldestAge: time.Minute}},
		}
		tally := NewTally(false, 0)
		require.Len(t, look(tally, left), 1)
		want := PeerFigures{
			Label: "n1", Idle: 1, InUse: 2, Dialing: 3, InFlight: 4, Pipelines: 2, Unconsumed: 6, Oldest: time.Minute,
			LastSuccess: now, BytesReceived: 101, BytesSent: 202,
		}
		require.Equal(t, []PeerFigures{want}, look(tally, left, moved))
		require.Equal(t, []PeerFigures{want}, look(tally, moved), "the old address was forgotten")
		moved.BytesIn, moved.BytesOut = 11, 12
		want.BytesReceived, want.BytesSent = 111, 212
		require.Equal(t, []PeerFigures{want}, look(tally, moved))
		moved.BytesIn, moved.BytesOut = 7, 7 // forgotten, and met again
		want.BytesReceived, want.BytesSent = 118, 219
		require.Equal(t, []PeerFigures{want}, look(tally, moved))
		require.Equal(t, []PeerFigures{{Label: "n1", LastSuccess: now, BytesReceived: 118, BytesSent: 219}}, look(tally))
	})
}

// A peer is shown as long as it is called, though every dial may fail. It goes an
// hour after that, though the transport may remember its address.
func TestTally_DropsPeersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := NewTally(false, 0)
		idle := raftwire.PeerStats{ID: "idle", Peer: "b", Idle: 1}
		dead := raftwire.PeerStats{ID: "dead", Peer: "c"}
		gone := raftwire.PeerStats{ID: "gone", Peer: "d", LastDial: time.Now(), BytesIn: 1}
		for range 2 * 60 {
			dead.LastDial = time.Now()
			look(tally, idle, dead, gone)
			pass(time.Minute)
		}
		figures := look(tally, idle, dead, gone)
		require.Len(t, figures, 2)
		require.Equal(t, []string{"dead", "idle"}, []string{figures[0].Label, figures[1].Label})
	})
}

func TestTally_IsLimitedAndCanOmitPeers(t *testing.T) {
	var peers []raftwire.PeerStats
	for i := range 1000 {
		peers = append(peers, raftwire.PeerStats{Peer: raftwire.ServerAddress(fmt.Sprint(i)), Idle: 1, BytesIn: 1})
	}
	limited := look(NewTally(false, 20), peers...)
	require.Len(t, limited, 21)
	require.Equal(t, PeerFigures{Label: Other, Idle: 980, BytesReceived: 980}, limited[20])
	require.Equal(t, []PeerFigures{{Idle: 1000, BytesReceived: 1000}}, look(NewTally(true, 20), peers...))
}
