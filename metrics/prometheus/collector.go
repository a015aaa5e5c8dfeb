package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
)

// StatsSource is what [NewCollector] looks at; transports are sources.
type StatsSource interface {
	Stats() raftwire.Stats
}

var _ StatsSource = (*raftwire.NetworkTransport)(nil)

// NewCollector returns a collector that calls source.Stats for each scrape. A
// registry takes one; for several transports, register each with a label of its
// own, see [New]. The collector may go on when the transport is closed.
func NewCollector(source StatsSource, options Options) prometheus.Collector {
	return &collector{source, labels.NewTally(options.OmitPeers, options.MaxPeers)}
}

type collector struct {
	source StatsSource
	tally  *labels.Tally
}

var (
	peerConns      = describe("peer_connections", "Open connections to a peer, and those being made.", "peer", "state")
	peerInFlight   = describe("peer_requests_in_flight", "Requests to a peer that have not been answered.", "peer")
	peerPipelines  = describe("peer_pipelines", "Open pipelines to a peer.", "peer")
	peerUnconsumed = describe("peer_pipeline_unconsumed", "Answered requests on pipelines to a peer that the Raft core has not looked at yet.", "peer")
	peerOldest     = describe("peer_pipeline_oldest_seconds", "Age of the oldest unanswered request on the pipelines to a peer; 0 without one.", "peer")
	peerSuccess    = describe("peer_last_success_timestamp_seconds", "When the last request was made that a peer answered without an error.", "peer")
	peerReceived   = describe("peer_received_bytes_total", "Bytes received on the connections that were dialled to a peer.", "peer")
	peerSent       = describe("peer_sent_bytes_total", "Bytes sent on the connections that were dialled to a peer.", "peer")

	inboundConns    = describe("inbound_connections", "Open inbound connections.")
	inboundHosts    = describe("inbound_hosts", "Hosts that have inbound connections open.")
	inboundReceived = describe("inbound_received_bytes_total", "Bytes received on inbound connections.")
	inboundSent     = describe("inbound_sent_bytes_total", "Bytes sent on inbound connections.")

	certificateExpiry = describe("tls_certificate_expiry_timestamp_seconds", "When this node's own TLS certificate expires.")
	caExpiry          = describe("tls_ca_expiry_timestamp_seconds", "When the CA of this node's own TLS certificate expires.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		peerConns, peerInFlight, peerPipelines, peerUnconsumed, peerOldest, peerSuccess, peerReceived, peerSent,
		inboundConns, inboundHosts, inboundReceived, inboundSent,
		certificateExpiry, caExpiry,
	} {
		descriptions <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	s, peers := c.tally.Look(c.source.Stats)
	out := output(metrics)
	for i := range peers {
		out.peer(&peers[i])
	}
	out.inbound(&s)
	out.expiry(certificateExpiry, s.CertificateExpires)
	out.expiry(caExpiry, s.CAExpires)
}

// output takes the figures of a scrape.
type output chan<- prometheus.Metric

func (out output) peer(p *labels.PeerFigures) {
	out.gauge(peerConns, float64(p.Idle), p.Label, "idle")
	out.gauge(peerConns, float64(p.InUse), p.Label, "in_use")
	out.gauge(peerConns, float64(p.Dialing), p.Label, "dialing")
	out.gauge(peerInFlight, float64(p.InFlight), p.Label)
	out.gauge(peerPipelines, float64(p.Pipelines), p.Label)
	out.gauge(peerUnconsumed, float64(p.Unconsumed), p.Label)
	out.gauge(peerOldest, p.Oldest.Seconds(), p.Label)
	if !p.LastSuccess.IsZero() {
		out.gauge(peerSuccess, float64(p.LastSuccess.UnixNano())/1e9, p.Label)
	}
	out.counter(peerReceived, p.BytesReceived, p.Label)
	out.counter(peerSent, p.BytesSent, p.Label)
}

func (out output) inbound(s *raftwire.Stats) {
	out.gauge(inboundConns, float64(labels.InboundConns(s)))
	out.gauge(inboundHosts, float64(len(s.Inbound)))
	out.counter(inboundReceived, s.InboundBytesIn)
	out.counter(inboundSent, s.InboundBytesOut)
}

// expiry shows nothing without TLS.
func (out output) expiry(d *prometheus.Desc, at time.Time) {
	if !at.IsZero() {
		out.gauge(d, float64(at.Unix()))
	}
}

func (out output) gauge(d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (out output) counter(d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}
