package labels_test

import (
	"fmt"
	"sync/atomic"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
)

// Hooks for a metrics library that has none yet: a counter for each peer, kind and
// outcome. A counter is looked up by its labels once, and then found in its slot.
func ExamplePeers() {
	type counter struct {
		name  string
		value atomic.Int64
	}
	peers := labels.NewPeers[labels.Calls[counter]](false, 0)
	hooks := raftwire.Hooks{CallDone: func(e *raftwire.CallEvent) {
		peer := peers.Get(e.ID, e.Peer)
		kind, outcome := labels.Kind(e.Kind, e.Heartbeat), labels.Outcome(e.Err)
		slot := peer.Kept.Of(kind, e.Pipelined, outcome)
		c := slot.Get()
		if c == nil {
			name := fmt.Sprintf("calls{peer=%s,kind=%s,outcome=%s}", peer.Label, labels.Kinds[kind], labels.Outcomes[outcome])
			c = slot.Keep(&counter{name: name}) // where your library makes it
		}
		c.value.Add(1)
	}}

	// As a transport calls it:
	hooks.CallDone(&raftwire.CallEvent{Kind: "AppendEntries", ID: "node-2"})
	hooks.CallDone(&raftwire.CallEvent{Kind: "AppendEntries", ID: "node-2"})
	peers.Each(func(peer *labels.Peer[labels.Calls[counter]]) {
		peer.Kept.Each(func(c *counter) { fmt.Println(c.name, c.value.Load()) })
	})
	// Output: calls{peer=node-2,kind=AppendEntries,outcome=ok} 2
}

// Stats by address become figures by peer, each time that a scraper asks.
func ExampleTally() {
	tally := labels.NewTally(false, 0)
	stats := func() raftwire.Stats { // a transport's Stats
		return raftwire.Stats{Peers: []raftwire.PeerStats{
			{ID: "node-2", Peer: "10.0.0.2:8300", BytesOut: 1000},
			{ID: "node-2", Peer: "10.0.0.9:8300", Idle: 1, BytesOut: 500}, // where it is now
		}}
	}
	_, peers := tally.Look(stats)
	for _, peer := range peers {
		fmt.Println(peer.Label, "idle:", peer.Idle, "sent:", peer.BytesSent)
	}
	// Output: node-2 idle: 1 sent: 1500
}
