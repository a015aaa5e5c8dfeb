package raftwire

import (
	"cmp"
	"slices"
	"time"
)

// Stats is what a transport has open and under way, for metrics and for
// debugging. Its parts are looked at one after the other, so they need not fit
// together to the last request.
type Stats struct {
	// Peers are the addresses that were dialled, in order. At most about a thousand
	// that have no connection now are remembered.
	Peers []PeerStats
	// Inbound are the hosts that inbound connections come from, in order.
	Inbound []HostStats
	// InboundBytesIn and InboundBytesOut were read from and written to all
	// inbound connections so far.
	InboundBytesIn, InboundBytesOut uint64
	// Refusals counts what was refused.
	Refusals Refusals
	// CertificateExpires and CAExpires are when the own certificate and its CA
	// expire: what Expires of the [StreamLayer] returns, or zero if it has no such
	// method. Those of package layers have one.
	CertificateExpires, CAExpires time.Time
}

// PeerStats is about the connections to an address that was dialled.
type PeerStats struct {
	// ID is the server that this node called last at the address: the id of that
	// call.
	ID ServerID
	// Peer is the address.
	Peer ServerAddress
	// LastDial is when the last attempt to connect began.
	LastDial time.Time
	// Idle is how many connections wait in the pool.
	Idle int
	// InUse is how many connections carry a call, a snapshot or a pipeline.
	InUse int
	// Dialing is how many are being made, also for calls that have given up.
	Dialing int
	// InFlight is how many requests have been sent, or are being sent, and not
	// been answered: calls, snapshots, and those in pipelines.
	InFlight int
	// Pipelines are those that are open, in no order.
	Pipelines []PipelineStats
	// LastSuccess is when the last request was made that the peer answered without
	// an error; zero if there was none.
	LastSuccess time.Time
	// BytesIn and BytesOut were read from and written to the address so far.
	BytesIn, BytesOut uint64
}

// PipelineStats is about a pipeline.
type PipelineStats struct {
	// InFlight is how many requests have not been answered.
	InFlight int
	// Unconsumed is how many futures have settled and were not yet consumed.
	Unconsumed int
	// OldestAge is how long ago the oldest request in flight was made; 0 if
	// there is none.
	OldestAge time.Duration
}

// HostStats is about the inbound connections from a host.
type HostStats struct {
	// Host is the part of their remote addresses before the port, or the network of
	// 64 bits of an IPv6 address; "" if the addresses have no port.
	Host string
	// Conns is how many there are.
	Conns int
}

// hostStats returns how many connections come from each host, in order.
func hostStats(conns map[string]int) []HostStats {
	hosts := []HostStats{}
	for host, conns := range conns {
		hosts = append(hosts, HostStats{host, conns})
	}
	slices.SortFunc(hosts, func(a, b HostStats) int { return cmp.Compare(a.Host, b.Host) })
	return hosts
}

// addPipelines counts what is in flight to a peer. A connection that is in use and no
// pipeline's carries one request.
func (s *PeerStats) addPipelines(pipelines []*pipeline) {
	s.InFlight = s.InUse
	for _, p := range pipelines {
		if of, open := p.stats(); open {
			s.Pipelines = append(s.Pipelines, of)
			s.InFlight += of.InFlight - 1
		}
	}
}
