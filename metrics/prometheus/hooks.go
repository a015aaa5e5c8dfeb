package prometheus

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/labels"
)

// Options choose what [New] measures. The zero value measures everything.
type Options struct {
	// OmitPeers leaves the label peer of calls and dials empty, which saves
	// series where there are many peers, or where their addresses change.
	OmitPeers bool
}

// New returns hooks that measure what transports report, and registers their
// metrics with reg. It fails if reg has such metrics already.
//
// Several transports may have the same hooks, and are measured together. To
// tell them apart, give each its own hooks and a registerer with a label:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"group": "7"}, reg)
func New(reg prometheus.Registerer, options Options) (raftwire.Hooks, error) {
	m := newMetrics(options)
	if err := reg.Register(m.all); err != nil {
		return raftwire.Hooks{}, err
	}
	return raftwire.Hooks{
		Dialed:           m.dialed,
		ConnOpened:       m.connOpened,
		ConnClosed:       m.connClosed,
		CallDone:         m.callDone,
		ServeDone:        m.serveDone,
		SnapshotProgress: m.snapshotProgress,
		Refused:          m.refused,
	}, nil
}

// metrics are the vectors that hooks fill. The busiest of them are kept by key,
// since looking a series up by its labels costs more than observing.
type metrics struct {
	options Options
	all     collectors

	callDuration *prometheus.HistogramVec
	callSize     *prometheus.HistogramVec
	callEntries  prometheus.Histogram
	calls        labels.Cache[callKey, callSeries]

	servePhase *prometheus.HistogramVec
	serveSize  *prometheus.HistogramVec
	serveError *prometheus.CounterVec
	serves     labels.Cache[serveKey, serveSeries]

	snapshotDone *prometheus.GaugeVec
	snapshotSize *prometheus.GaugeVec

	dialDuration *prometheus.HistogramVec
	opened       *prometheus.CounterVec
	closed       *prometheus.CounterVec
	refusedConns *prometheus.CounterVec
}

func newMetrics(options Options) *metrics {
	m := &metrics{options: options}
	m.callDuration = m.histogram("call_duration_seconds",
		"Time from making a request to a peer until its outcome was known.", labels.LatencyBuckets, "kind", "peer", "pipelined", "outcome")
	m.callSize = m.histogram("call_request_size_bytes",
		"Bytes on the wire of a request to a peer, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.callEntries = m.histogram("call_entries",
		"Log entries in an AppendEntries to a peer, heartbeats left out.", labels.EntryBuckets).WithLabelValues().(prometheus.Histogram)
	m.servePhase = m.histogram("serve_phase_duration_seconds",
		"Time that a peer's request took to be decoded, to be taken by the Raft core (enqueue), and to be answered (handle).",
		labels.LatencyBuckets, "kind", "phase")
	m.serveSize = m.histogram("serve_request_size_bytes",
		"Bytes on the wire of a peer's request, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.serveError = m.counter("serve_errors_total",
		"Requests of peers that were answered with an error, or not at all.", "kind")
	m.snapshotDone = m.gauge("snapshot_done_bytes",
		"Bytes of a snapshot's body that have been sent or received, while it is under way.", "direction", "peer")
	m.snapshotSize = m.gauge("snapshot_size_bytes",
		"Bytes that the body of a snapshot under way has in all.", "direction", "peer")
	m.dialDuration = m.histogram("dial_duration_seconds",
		"Time that an attempt to connect to a peer took.", labels.LatencyBuckets, "peer", "outcome")
	m.opened = m.counter("connections_opened_total",
		"Connections dialled (outbound) or accepted (inbound).", "direction")
	m.closed = m.counter("connections_closed_total",
		"Connections closed, by why.", "direction", "reason")
	m.refusedConns = m.counter("connections_refused_total",
		"Inbound connections refused, by why.", "reason")
	m.calls.Make, m.serves.Make = m.callSeries, m.serveSeries
	m.showZeros()
	return m
}

// showZeros makes the series whose first increment may be the one that matters:
// a rate does not see a series come into being.
func (m *metrics) showZeros() {
	for _, inbound := range []bool{false, true} {
		m.opened.WithLabelValues(labels.Direction(inbound))
	}
	for _, reason := range labels.RefusalReasons() {
		m.refusedConns.WithLabelValues(reason)
	}
}

const namespace = "raftwire"

func (m *metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}
	return added(m, prometheus.NewHistogramVec(opts, labels))
}

func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return added(m, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

func (m *metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return added(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels))
}

func added[C prometheus.Collector](m *metrics, c C) C {
	m.all = append(m.all, c)
	return c
}

// collectors are registered as one: all of them, or none.
type collectors []prometheus.Collector

func (all collectors) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range all {
		c.Describe(descriptions)
	}
}

func (all collectors) Collect(metrics chan<- prometheus.Metric) {
	for _, c := range all {
		c.Collect(metrics)
	}
}

type callKey struct {
	kind                 string
	heartbeat, pipelined bool
	peer                 raftwire.ServerAddress
	outcome              string
}

type callSeries struct {
	duration prometheus.Observer
	size     prometheus.Observer
	entries  prometheus.Observer // nil if there can be none
}

func (m *metrics) callDone(e raftwire.CallEvent) {
	s := m.calls.Get(callKey{e.Kind, e.Heartbeat, e.Pipelined, m.peer(e.Peer), labels.Outcome(e.Err)})
	s.duration.Observe(e.Took.Seconds())
	if e.RequestBytes == 0 {
		return // it was not sent
	}
	s.size.Observe(float64(e.RequestBytes))
	if s.entries != nil {
		s.entries.Observe(float64(e.Entries))
	}
}

func (m *metrics) callSeries(k callKey) callSeries {
	kind := labels.Kind(k.kind, k.heartbeat)
	s := callSeries{
		duration: m.callDuration.WithLabelValues(kind, string(k.peer), strconv.FormatBool(k.pipelined), k.outcome),
		size:     m.callSize.WithLabelValues(kind),
	}
	if kind == "AppendEntries" {
		s.entries = m.callEntries
	}
	return s
}

func (m *metrics) peer(address raftwire.ServerAddress) raftwire.ServerAddress {
	if m.options.OmitPeers {
		return ""
	}
	return address
}

type serveKey struct {
	kind      string
	heartbeat bool
}

type serveSeries struct {
	decode, enqueue, handle prometheus.Observer
	size                    prometheus.Observer
	errors                  prometheus.Counter
}

func (m *metrics) serveDone(e raftwire.ServeEvent) {
	s := m.serves.Get(serveKey{e.Kind, e.Heartbeat})
	s.decode.Observe(e.Decode.Seconds())
	s.enqueue.Observe(e.Enqueue.Seconds())
	s.handle.Observe(e.Handle.Seconds())
	s.size.Observe(float64(e.RequestBytes))
	if e.Err != nil {
		s.errors.Inc()
	}
}

func (m *metrics) serveSeries(k serveKey) serveSeries {
	kind := labels.Kind(k.kind, k.heartbeat)
	return serveSeries{
		decode:  m.servePhase.WithLabelValues(kind, "decode"),
		enqueue: m.servePhase.WithLabelValues(kind, "enqueue"),
		handle:  m.servePhase.WithLabelValues(kind, "handle"),
		size:    m.serveSize.WithLabelValues(kind),
		errors:  m.serveError.WithLabelValues(kind),
	}
}

// snapshotProgress shows a snapshot for as long as it is under way: what is
// left of one that failed would look like one that is stuck.
func (m *metrics) snapshotProgress(e raftwire.SnapshotEvent) {
	direction, peer := labels.Direction(e.Inbound), labels.SnapshotPeer(e)
	if e.Over {
		m.snapshotDone.DeleteLabelValues(direction, peer)
		m.snapshotSize.DeleteLabelValues(direction, peer)
		return
	}
	m.snapshotDone.WithLabelValues(direction, peer).Set(float64(e.Done))
	m.snapshotSize.WithLabelValues(direction, peer).Set(float64(e.Total))
}

func (m *metrics) dialed(e raftwire.DialEvent) {
	m.dialDuration.WithLabelValues(string(m.peer(e.Peer)), labels.Outcome(e.Err)).Observe(e.Took.Seconds())
}

func (m *metrics) connOpened(e raftwire.ConnEvent) {
	m.opened.WithLabelValues(labels.Direction(e.Inbound)).Inc()
}

func (m *metrics) connClosed(e raftwire.ConnEvent) {
	m.closed.WithLabelValues(labels.Direction(e.Inbound), labels.CloseReason(e.Err)).Inc()
}

func (m *metrics) refused(e raftwire.RefusalEvent) {
	m.refusedConns.WithLabelValues(e.Reason).Inc()
}
