package prometheus

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
)

// Options choose what [New] and [NewCollector] measure. The zero value measures
// everything.
type Options struct {
	// OmitPeers leaves the label peer empty, but for snapshots under way, and so
	// measures all peers together: that saves series where there are many.
	OmitPeers bool

	// MaxPeers is how many peers at a time have series of their own. Those beyond it
	// are measured together, as peer="other". 0 and less mean 256.
	MaxPeers int
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

// metrics are what hooks fill. Series are kept in slots, since looking one up by its
// labels costs more than observing.
type metrics struct {
	all collectors

	peers        *labels.Peers[peerSeries]
	callDuration *histograms
	dialDuration *histograms

	callSize    *histograms
	callSizes   [len(labels.Kinds)]labels.Slot[histogram]
	callEntries *histogram

	servePhase *histograms
	serveSize  *histograms
	serveError *prometheus.CounterVec
	serves     [len(labels.Kinds)]labels.Slot[serveSeries]

	snapshotDone *prometheus.GaugeVec
	snapshotSize *prometheus.GaugeVec

	opened       *prometheus.CounterVec
	closed       *prometheus.CounterVec
	refusedConns *prometheus.CounterVec
}

func newMetrics(options Options) *metrics {
	m := &metrics{peers: labels.NewPeers[peerSeries](options.OmitPeers, options.MaxPeers)}
	m.all = append(m.all, perPeer{m})
	m.callDuration = seconds("call_duration_seconds",
		"Time from making a request to a peer until its outcome was known.", "kind", "peer", "pipelined", "outcome")
	m.dialDuration = seconds("dial_duration_seconds",
		"Time that an attempt to connect to a peer took.", "peer", "outcome")
	m.callSize = m.amounts("call_request_size_bytes",
		"Bytes on the wire of a request to a peer, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.callEntries = m.amounts("call_entries",
		"Log entries in an AppendEntries to a peer, heartbeats left out.", labels.EntryBuckets).with()
	m.servePhase = added(m, seconds("serve_phase_duration_seconds",
		"Time that a peer's request took to be decoded, to be taken by the Raft core (enqueue), and to be answered (handle).",
		"kind", "phase"))
	m.serveSize = m.amounts("serve_request_size_bytes",
		"Bytes on the wire of a peer's request, the body of a snapshot included.", labels.SizeBuckets, "kind")
	m.serveError = m.counter("serve_errors_total",
		"Requests of peers that were answered with an error, or not at all.", "kind")
	m.snapshotDone = m.gauge("snapshot_done_bytes",
		"Bytes of a snapshot's body that have been sent or received, while it is under way.", "direction", "peer")
	m.snapshotSize = m.gauge("snapshot_size_bytes",
		"Bytes that the body of a snapshot under way has in all.", "direction", "peer")
	m.opened = m.counter("connections_opened_total",
		"Connections dialled (outbound) or accepted (inbound).", "direction")
	m.closed = m.counter("connections_closed_total",
		"Connections closed, by why.", "direction", "reason")
	m.refusedConns = m.counter("connections_refused_total",
		"Inbound connections refused, by why.", "reason")
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
func seconds(name, help string, labelNames ...string) *histograms {
	return newHistograms(describe(name, help, labelNames...), labels.LatencyBuckets, 1e-9)
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

// peerSeries are those that have the label peer. They go when the peer is gone.
type peerSeries struct {
	calls labels.Calls[histogram]
	dials [len(labels.Outcomes)]labels.Slot[histogram]
}

// perPeer shows them.
type perPeer struct{ *metrics }

func (p perPeer) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- p.callDuration.desc
	descriptions <- p.dialDuration.desc
}

func (p perPeer) Collect(metrics chan<- prometheus.Metric) {
	show := func(h *histogram) { metrics <- h.metric() }
	p.peers.Each(func(peer *labels.Peer[peerSeries]) {
		peer.Kept.calls.Each(show)
		for i := range peer.Kept.dials {
			if h := peer.Kept.dials[i].Get(); h != nil {
				show(h)
			}
		}
	})
}

func (m *metrics) callDone(e *raftwire.CallEvent) {
	kind := labels.Kind(e.Kind, e.Heartbeat)
	m.callDurationOf(e, kind).observe(int64(e.Took))
	if e.RequestBytes == 0 {
		return // it was not sent
	}
	size := m.callSizes[kind].Get()
	if size == nil {
		size = m.callSizes[kind].Keep(m.callSize.with(labels.Kinds[kind]))
	}
	size.observe(e.RequestBytes)
	if kind == labels.AppendEntries {
		m.callEntries.observe(int64(e.Entries))
	}
}

func (m *metrics) callDurationOf(e *raftwire.CallEvent, kind int) *histogram {
	peer, outcome := m.peers.Get(e.ID, e.Peer), labels.Outcome(e.Err)
	slot := peer.Kept.calls.Of(kind, e.Pipelined, outcome)
	if h := slot.Get(); h != nil {
		return h
	}
	return slot.Keep(m.callDuration.make(labels.Kinds[kind], peer.Label, strconv.FormatBool(e.Pipelined), labels.Outcomes[outcome]))
}

type serveSeries struct {
	decode, enqueue, handle *histogram
	size                    *histogram
	errors                  prometheus.Counter
}

func (m *metrics) serveDone(e *raftwire.ServeEvent) {
	kind := labels.Kind(e.Kind, e.Heartbeat)
	s := m.serves[kind].Get()
	if s == nil {
		s = m.serves[kind].Keep(m.serveSeries(labels.Kinds[kind]))
	}
	s.decode.observe(int64(e.Decode))
	s.enqueue.observe(int64(e.Enqueue))
	s.handle.observe(int64(e.Handle))
	s.size.observe(e.RequestBytes)
	if e.Err != nil {
		s.errors.Inc()
	}
}

func (m *metrics) serveSeries(kind string) *serveSeries {
	return &serveSeries{
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
	peer, outcome := m.peers.Get(e.ID, e.Peer), labels.Outcome(e.Err)
	h := peer.Kept.dials[outcome].Get()
	if h == nil {
		h = peer.Kept.dials[outcome].Keep(m.dialDuration.make(peer.Label, labels.Outcomes[outcome]))
	}
	h.observe(int64(e.Took))
}

func (m *metrics) connOpened(e raftwire.ConnEvent) {
	m.opened.WithLabelValues(labels.Direction(e.Inbound)).Inc()
	if !e.Inbound {
		m.peers.Opened(e.ID, e.Peer)
	}
}

func (m *metrics) connClosed(e raftwire.ConnEvent) {
	m.closed.WithLabelValues(labels.Direction(e.Inbound), labels.CloseReason(e.Err)).Inc()
	if !e.Inbound {
		m.peers.Closed(e.ID, e.Peer)
	}
}

func (m *metrics) refused(e raftwire.RefusalEvent) {
	m.refusedConns.WithLabelValues(e.Reason).Inc()
}
