package prometheus

import (
	"errors"
	"fmt"
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
// metrics with reg. It fails if reg has such metrics already, with the error of
// reg in its own.
//
// Several transports may have the same hooks, and are measured together. To
// tell them apart, give each its own hooks and a registerer with a label:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"group": "7"}, reg)
func New(reg prometheus.Registerer, options Options) (raftwire.Hooks, error) {
	if reg == nil {
		return raftwire.Hooks{}, errors.New("raftwireprom: the registerer is nil: use prometheus.DefaultRegisterer, or a registry of your own")
	}
	m := newMetrics(options)
	if err := reg.Register(m.all); err != nil {
		return raftwire.Hooks{}, explain(err)
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

func explain(err error) error {
	if already := (prometheus.AlreadyRegisteredError{}); errors.As(err, &already) {
		return fmt.Errorf("raftwireprom: this registerer has these metrics already: share the hooks, or wrap it with prometheus.WrapRegistererWith: %w", err)
	}
	return fmt.Errorf("raftwireprom: %w", err)
}

// metrics are the vectors that hooks fill. The busiest of them are kept by key,
// since looking a series up by its labels costs more than observing.
type metrics struct {
	options Options
	all     collectors

	callDuration *histograms
	callSize     *histograms
	callEntries  *histogram
	calls        labels.Cache[raftwire.ServerAddress, *peerCalls]
	failures     labels.Cache[callKey, callSeries]

	servePhase *histograms
	serveSize  *histograms
	serveError *prometheus.CounterVec
	serves     labels.PerKind[serveSeries]

	snapshotDone *prometheus.GaugeVec
	snapshotSize *prometheus.GaugeVec

	dialDuration *histograms
	opened       *prometheus.CounterVec
	closed       *prometheus.CounterVec
	refusedConns *prometheus.CounterVec
}

func newMetrics(options Options) *metrics {
	m := &metrics{options: options}
	m.callDuration = m.seconds("call_duration_seconds",
		"Time from making a request to a peer until its outcome was known.", "kind", "peer", "pipelined", "outcome")
	m.callSize = m.amounts("call_request_size_bytes",
		"Bytes on the wire of a request to a peer, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.callEntries = m.amounts("call_entries",
		"Log entries in an AppendEntries to a peer, heartbeats left out.", labels.EntryBuckets).with()
	m.servePhase = m.seconds("serve_phase_duration_seconds",
		"Time that a peer's request took to be decoded, to be taken by the Raft core (enqueue), and to be answered (handle).",
		"kind", "phase")
	m.serveSize = m.amounts("serve_request_size_bytes",
		"Bytes on the wire of a peer's request, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.serveError = m.counter("serve_errors_total",
		"Requests of peers that were answered with an error, or not at all.", "kind")
	m.snapshotDone = m.gauge("snapshot_done_bytes",
		"Bytes of a snapshot's body that have been sent or received, while it is under way.", "direction", "peer")
	m.snapshotSize = m.gauge("snapshot_size_bytes",
		"Bytes that the body of a snapshot under way has in all.", "direction", "peer")
	m.dialDuration = m.seconds("dial_duration_seconds",
		"Time that an attempt to connect to a peer took.", "peer", "outcome")
	m.opened = m.counter("connections_opened_total",
		"Connections dialled (outbound) or accepted (inbound).", "direction")
	m.closed = m.counter("connections_closed_total",
		"Connections closed, by why.", "direction", "reason")
	m.refusedConns = m.counter("connections_refused_total",
		"Inbound connections refused, by why.", "reason")
	m.calls.Make, m.failures.Make, m.serves.Make = m.peerCalls, m.failedSeries, m.serveSeries
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

// seconds and amounts make histograms, of times in ns and of whole numbers.
func (m *metrics) seconds(name, help string, labelNames ...string) *histograms {
	return added(m, newHistograms(describe(name, help, labelNames...), labels.LatencyBuckets, 1e-9))
}

func (m *metrics) amounts(name, help string, buckets []float64, labelNames ...string) *histograms {
	return added(m, newHistograms(describe(name, help, labelNames...), buckets, 1))
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

// peerCalls are the series of calls to a peer that went well, of which there
// are many: they are found without a hash of all of their labels.
type peerCalls struct{ alone, pipelined labels.PerKind[callSeries] }

func (m *metrics) peerCalls(peer raftwire.ServerAddress) *peerCalls {
	p := new(peerCalls)
	p.alone.Make = func(kind string) callSeries { return m.callSeries(kind, peer, false, labels.Outcome(nil)) }
	p.pipelined.Make = func(kind string) callSeries { return m.callSeries(kind, peer, true, labels.Outcome(nil)) }
	return p
}

// callKey chooses the series of calls that failed.
type callKey struct {
	kind                 string
	heartbeat, pipelined bool
	peer                 raftwire.ServerAddress
	outcome              string
}

func (m *metrics) failedSeries(k callKey) callSeries {
	return m.callSeries(labels.Kind(k.kind, k.heartbeat), k.peer, k.pipelined, k.outcome)
}

type callSeries struct {
	duration *histogram
	size     *histogram
	entries  *histogram // nil if there can be none
}

func (m *metrics) callDone(e *raftwire.CallEvent) {
	s := m.seriesOf(e)
	s.duration.observe(int64(e.Took))
	if e.RequestBytes == 0 {
		return // it was not sent
	}
	s.size.observe(e.RequestBytes)
	if s.entries != nil {
		s.entries.observe(int64(e.Entries))
	}
}

func (m *metrics) seriesOf(e *raftwire.CallEvent) *callSeries {
	switch peer := m.peer(e.Peer); {
	case e.Err != nil:
		s := m.failures.Get(callKey{e.Kind, e.Heartbeat, e.Pipelined, peer, labels.Outcome(e.Err)})
		return &s
	case e.Pipelined:
		return m.calls.Get(peer).pipelined.Get(e.Kind, e.Heartbeat)
	default:
		return m.calls.Get(peer).alone.Get(e.Kind, e.Heartbeat)
	}
}

func (m *metrics) callSeries(kind string, peer raftwire.ServerAddress, pipelined bool, outcome string) callSeries {
	s := callSeries{
		duration: m.callDuration.with(kind, string(peer), strconv.FormatBool(pipelined), outcome),
		size:     m.callSize.with(kind),
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

type serveSeries struct {
	decode, enqueue, handle *histogram
	size                    *histogram
	errors                  prometheus.Counter
}

func (m *metrics) serveDone(e *raftwire.ServeEvent) {
	s := m.serves.Get(e.Kind, e.Heartbeat)
	s.decode.observe(int64(e.Decode))
	s.enqueue.observe(int64(e.Enqueue))
	s.handle.observe(int64(e.Handle))
	s.size.observe(e.RequestBytes)
	if e.Err != nil {
		s.errors.Inc()
	}
}

func (m *metrics) serveSeries(kind string) serveSeries {
	return serveSeries{
		decode:  m.servePhase.with(kind, "decode"),
		enqueue: m.servePhase.with(kind, "enqueue"),
		handle:  m.servePhase.with(kind, "handle"),
		size:    m.serveSize.with(kind),
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
	m.dialDuration.with(string(m.peer(e.Peer)), labels.Outcome(e.Err)).observe(int64(e.Took))
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
