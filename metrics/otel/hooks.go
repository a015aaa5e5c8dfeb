package otel

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Options choose what is measured. The zero value measures everything.
type Options struct {
	// OmitPeers leaves the attribute peer empty, but for snapshots under way, and so
	// measures all peers together: that saves series where there are many.
	OmitPeers bool

	// MaxPeers is how many peers at a time are measured apart. Those beyond it are
	// measured together, as peer "other". 0 and less mean 256.
	MaxPeers int

	// Attributes are added to every metric, to tell transports apart.
	Attributes []attribute.KeyValue
}

// scope is the name of what makes the metrics.
const scope = "github.com/raftwire/raftwire"

// New returns hooks that measure what transports report, with a meter of
// provider. Several transports may have the same hooks, and are measured
// together; to tell them apart, give each hooks with other Attributes.
func New(provider metric.MeterProvider, options Options) (raftwire.Hooks, error) {
	if provider == nil {
		return raftwire.Hooks{}, errNoProvider
	}
	options.Attributes = slices.Clone(options.Attributes) // the caller may use its slice again
	m, err := newMeasures(provider.Meter(scope), options)
	if err != nil {
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

var errNoProvider = errors.New("raftwireotel: the MeterProvider is nil: use otel.GetMeterProvider(), or one of your own")

// background is the context of everything: hooks know of no other.
var background = context.Background()

type measures struct {
	options Options

	callDuration metric.Float64Histogram
	callSize     metric.Int64Histogram
	callEntries  metric.Int64Histogram
	peers        *labels.Peers[labels.Calls[callAttributes]]

	servePhase  metric.Float64Histogram
	serveSize   metric.Int64Histogram
	serveErrors metric.Int64Counter
	serves      [len(labels.Kinds)]labels.Slot[serveAttributes]

	snapshots snapshots

	dialDuration metric.Float64Histogram
	opened       metric.Int64Counter
	closed       metric.Int64Counter
	refusedConns metric.Int64Counter
}

func newMeasures(meter metric.Meter, options Options) (*measures, error) {
	m := &measures{options: options, peers: labels.NewPeers[labels.Calls[callAttributes]](options.OmitPeers, options.MaxPeers)}
	i := &instruments{meter: meter}
	m.callDuration = i.seconds("raftwire.call.duration", "Time from making a request to a peer until its outcome was known.")
	m.callSize = i.sizes("raftwire.call.request.size", "Bytes on the wire of a request to a peer, the body of a snapshot included.", "By", labels.SizeBuckets)
	m.callEntries = i.sizes("raftwire.call.entries", "Log entries in an AppendEntries to a peer, heartbeats left out.", "{entry}", labels.EntryBuckets)
	m.servePhase = i.seconds("raftwire.serve.phase.duration", "Time that a peer's request took to be decoded, to be taken by the Raft core (enqueue), and to be answered (handle).")
	m.serveSize = i.sizes("raftwire.serve.request.size", "Bytes on the wire of a peer's request, the body of a snapshot included.", "By", labels.SizeBuckets)
	m.serveErrors = i.counter("raftwire.serve.errors", "Requests of peers that were answered with an error, or not at all.", "{request}")
	m.dialDuration = i.seconds("raftwire.dial.duration", "Time that an attempt to connect to a peer took.")
	m.opened = i.counter("raftwire.connections.opened", "Connections dialled (outbound) or accepted (inbound).", "{connection}")
	m.closed = i.counter("raftwire.connections.closed", "Connections closed, by why.", "{connection}")
	m.refusedConns = i.counter("raftwire.connections.refused", "Inbound connections refused, by why.", "{connection}")
	if err := errors.Join(i.err, m.snapshots.register(meter, options)); err != nil {
		return nil, err
	}
	m.showZeros()
	return m, nil
}

// showZeros makes the series whose first increment may be the one that matters:
// a rate does not see a series come into being.
func (m *measures) showZeros() {
	for _, inbound := range []bool{false, true} {
		m.opened.Add(background, 0, m.with(attribute.String("direction", labels.Direction(inbound))))
	}
	for _, reason := range labels.RefusalReasons() {
		m.refusedConns.Add(background, 0, m.with(attribute.String("reason", reason)))
	}
}

// with returns attributes as they are measured.
func (m *measures) with(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return m.options.with(attributes...)
}

func (o *Options) with(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(attributes, o.Attributes...)...))
}

// instruments makes them, and remembers what went wrong.
type instruments struct {
	meter metric.Meter
	err   error
}

func kept[I any](i *instruments, instrument I, err error) I {
	i.err = errors.Join(i.err, err)
	return instrument
}

func (i *instruments) seconds(name, about string) metric.Float64Histogram {
	h, err := i.meter.Float64Histogram(name, metric.WithDescription(about), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(labels.LatencyBuckets...))
	return kept(i, h, err)
}

func (i *instruments) sizes(name, about, unit string, buckets []float64) metric.Int64Histogram {
	h, err := i.meter.Int64Histogram(name, metric.WithDescription(about), metric.WithUnit(unit), metric.WithExplicitBucketBoundaries(buckets...))
	return kept(i, h, err)
}

func (i *instruments) counter(name, about, unit string) metric.Int64Counter {
	c, err := i.meter.Int64Counter(name, metric.WithDescription(about), metric.WithUnit(unit))
	return kept(i, c, err)
}

// callAttributes are ready to be passed on, so that a call makes none.
type callAttributes struct {
	duration, size []metric.RecordOption
	entries        []metric.RecordOption // nil if there can be none
}

func (m *measures) callDone(e *raftwire.CallEvent) {
	a := m.attributesOf(e)
	m.callDuration.Record(background, e.Took.Seconds(), a.duration...)
	if e.RequestBytes == 0 {
		return // it was not sent
	}
	m.callSize.Record(background, e.RequestBytes, a.size...)
	if a.entries != nil {
		m.callEntries.Record(background, int64(e.Entries), a.entries...)
	}
}

func (m *measures) attributesOf(e *raftwire.CallEvent) *callAttributes {
	kind, outcome := labels.Kind(e.Kind, e.Heartbeat), labels.Outcome(e.Err)
	peer := m.peers.Get(e.ID, e.Peer)
	slot := peer.Kept.Of(kind, e.Pipelined, outcome)
	if a := slot.Get(); a != nil {
		return a
	}
	return slot.Keep(m.callAttributes(kind, peer.Label, e.Pipelined, outcome))
}

func (m *measures) callAttributes(number int, peer string, pipelined bool, outcome int) *callAttributes {
	kind := attribute.String("kind", labels.Kinds[number])
	a := &callAttributes{
		duration: m.record(kind, attribute.String("peer", peer), attribute.Bool("pipelined", pipelined), attribute.String("outcome", labels.Outcomes[outcome])),
		size:     m.record(kind),
	}
	if number == labels.AppendEntries {
		a.entries = m.record()
	}
	return a
}

func (m *measures) record(attributes ...attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{m.with(attributes...)}
}

type serveAttributes struct {
	decode, enqueue, handle, size []metric.RecordOption
	errors                        metric.MeasurementOption
}

func (m *measures) serveDone(e *raftwire.ServeEvent) {
	number := labels.Kind(e.Kind, e.Heartbeat)
	a := m.serves[number].Get()
	if a == nil {
		a = m.serves[number].Keep(m.serveAttributes(labels.Kinds[number]))
	}
	m.servePhase.Record(background, e.Decode.Seconds(), a.decode...)
	m.servePhase.Record(background, e.Enqueue.Seconds(), a.enqueue...)
	m.servePhase.Record(background, e.Handle.Seconds(), a.handle...)
	m.serveSize.Record(background, e.RequestBytes, a.size...)
	if e.Err != nil {
		m.serveErrors.Add(background, 1, a.errors)
	}
}

func (m *measures) serveAttributes(label string) *serveAttributes {
	kind := attribute.String("kind", label)
	phase := func(name string) []metric.RecordOption { return m.record(kind, attribute.String("phase", name)) }
	return &serveAttributes{decode: phase("decode"), enqueue: phase("enqueue"), handle: phase("handle"), size: m.record(kind), errors: m.with(kind)}
}

func (m *measures) dialed(e raftwire.DialEvent) {
	m.dialDuration.Record(background, e.Took.Seconds(),
		m.with(attribute.String("peer", m.peers.Get(e.ID, e.Peer).Label), attribute.String("outcome", labels.Outcomes[labels.Outcome(e.Err)])))
}

func (m *measures) connOpened(e raftwire.ConnEvent) {
	m.opened.Add(background, 1, m.with(attribute.String("direction", labels.Direction(e.Inbound))))
	if !e.Inbound {
		m.peers.Opened(e.ID, e.Peer)
	}
}

func (m *measures) connClosed(e raftwire.ConnEvent) {
	m.closed.Add(background, 1,
		m.with(attribute.String("direction", labels.Direction(e.Inbound)), attribute.String("reason", labels.CloseReason(e.Err))))
	if !e.Inbound {
		m.peers.Closed(e.ID, e.Peer)
	}
}

func (m *measures) refused(e raftwire.RefusalEvent) {
	m.refusedConns.Add(background, 1, m.with(attribute.String("reason", e.Reason)))
}

func (m *measures) snapshotProgress(e raftwire.SnapshotEvent) { m.snapshots.note(e) }

// snapshots are those under way. They are observed, not recorded: what is left
// of a gauge whose snapshot has failed would look like one that is stuck.
type snapshots struct {
	mu       sync.Mutex // protects following
	underWay map[snapshotKey]raftwire.SnapshotEvent
}

type snapshotKey struct{ direction, peer string }

func (s *snapshots) note(e raftwire.SnapshotEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := snapshotKey{labels.Direction(e.Inbound), labels.SnapshotPeer(e)}
	if e.Over {
		delete(s.underWay, key)
	} else {
		s.underWay[key] = e
	}
}

func (s *snapshots) register(meter metric.Meter, options Options) error {
	s.underWay = make(map[snapshotKey]raftwire.SnapshotEvent)
	done, err1 := meter.Int64ObservableGauge("raftwire.snapshot.done", metric.WithUnit("By"),
		metric.WithDescription("Bytes of a snapshot's body that have been sent or received, while it is under way."))
	size, err2 := meter.Int64ObservableGauge("raftwire.snapshot.size", metric.WithUnit("By"),
		metric.WithDescription("Bytes that the body of a snapshot under way has in all."))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key, e := range s.underWay {
			with := options.with(attribute.String("direction", key.direction), attribute.String("peer", key.peer))
			o.ObserveInt64(done, e.Done, with)
			o.ObserveInt64(size, e.Total, with)
		}
		return nil
	}, done, size)
	return err
}
