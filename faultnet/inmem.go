package faultnet

import (
	"fmt"

	"github.com/raftwire/raftwire"
)

// Target is what faults happen to: a [Network], or what [Inmem] returns.
type Target interface {
	// Apply makes a fault happen. It returns an error for one that makes no sense.
	Apply(Fault) error
}

// Inmem makes the faults of a plan happen to a network of transports in memory,
// whose addresses are the plan's hosts. It has Cut, HealLink, Partition, Isolate,
// Heal, Latency, Jitter, Crash and Restart; Apply returns an error for the others,
// which need connections and bytes. So name those to [RandomPlan] that begin a fault:
// Cut, Partition, Isolate, Latency, Jitter, Crash. For a hashicorpraft.InmemNetwork pass
// what its Unwrap returns.
//
// The same plan lets requests through at the same times, with these differences:
//
//   - What is sent over a cut link is lost; a [Network] holds it until the link
//     heals, as TCP sends again.
//   - Latency delays each message, there each byte and handshake.
//   - Restart does nothing: after a crash the program adds a transport again, in
//     the function that it gives to [Plan.Run].
//   - An address that nothing was added at makes Apply panic, and so does a
//     negative time.
func Inmem(n *raftwire.InmemNetwork) Target { return inmem{n} }

type inmem struct{ *raftwire.InmemNetwork }

// Apply implements Target.
func (n inmem) Apply(f Fault) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("faultnet: %w", err)
	}
	hosts := make([]raftwire.ServerAddress, len(f.Hosts))
	for i, host := range f.Hosts {
		hosts[i] = raftwire.ServerAddress(host)
	}
	switch f.Action {
	case Cut:
		n.Link(hosts[0], hosts[1]).Cut()
	case HealLink:
		n.Link(hosts[0], hosts[1]).Heal()
	case Latency:
		n.Link(hosts[0], hosts[1]).SetLatency(f.Time)
	case Jitter:
		n.Link(hosts[0], hosts[1]).SetJitter(f.Time)
	case Partition:
		n.Partition(hosts[0], hosts[1])
	case Isolate:
		n.Isolate(hosts...)
	case Heal:
		n.Heal()
	case Crash:
		n.Crash(hosts[0])
	case Restart:
	default:
		return fmt.Errorf("faultnet: an InmemNetwork has no fault %q: it has messages, no connections and bytes", f.Action)
	}
	return nil
}
