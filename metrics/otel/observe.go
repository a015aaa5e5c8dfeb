package otel

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// StatsSource is what [Observe] looks at; transports are sources.
type StatsSource interface {
	Stats() raftwire.Stats
}

var _ StatsSource = (*raftwire.NetworkTransport)(nil)

// Observe calls source.Stats whenever metrics are collected, until the
// registration is unregistered, which may be after the transport was closed.
// Several transports need different Attributes in options.
func Observe(provider metric.MeterProvider, source StatsSource, options Options) (metric.Registration, error) {
	if provider == nil {
		return nil, errNoProvider
	}
	meter := provider.Meter(scope)
	o, err := newObserved(meter)
	if err != nil {
		return nil, err
	}
	options.Attributes = slices.Clone(options.Attributes)
	tally := labels.NewTally(options.OmitPeers, options.MaxPeers)
	return meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		s, peers := tally.Look(source.Stats)
		v := view{o, to, &options}
		for i := range peers {
			v.peer(&peers[i])
		}
		v.inbound(&s)
		v.expiry(o.certificateExpiry, s.CertificateExpires)
		v.expiry(o.caExpiry, s.CAExpires)
		return nil
	}, o.all...)
}

// observed are the instruments.
type observed struct {
	all []metric.Observable

	conns, inFlight, pipelines, unconsumed metric.Int64ObservableGauge
	oldest, success                        metric.Float64ObservableGauge
	received, sent                         metric.Int64ObservableCounter

	inboundConns, inboundHosts   metric.Int64ObservableGauge
	inboundReceived, inboundSent metric.Int64ObservableCounter

	certificateExpiry, caExpiry metric.Float64ObservableGauge
}

func newObserved(meter metric.Meter) (*observed, error) {
	o := new(observed)
	var errs []error
	gauge := func(name, unit, about string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(about))
		o.all, errs = append(o.all, g), append(errs, err)
		return g
	}
	seconds := func(name, about string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(about))
		o.all, errs = append(o.all, g), append(errs, err)
		return g
	}
	bytes := func(name, about string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit("By"), metric.WithDescription(about))
		o.all, errs = append(o.all, c), append(errs, err)
		return c
	}
	o.conns = gauge("raftwire.peer.connections", "{connection}", "Open connections to a peer, and those being made.")
	o.inFlight = gauge("raftwire.peer.requests.in_flight", "{request}", "Requests to a peer that have not been answered.")
	o.pipelines = gauge("raftwire.peer.pipelines", "{pipeline}", "Open pipelines to a peer.")
	o.unconsumed = gauge("raftwire.peer.pipeline.unconsumed", "{request}", "Answered requests on pipelines to a peer that the Raft core has not looked at yet.")
	o.oldest = seconds("raftwire.peer.pipeline.oldest", "Age of the oldest unanswered request on the pipelines to a peer; 0 without one.")
	o.success = seconds("raftwire.peer.last_success.timestamp", "When the last request was made that a peer answered without an error, in Unix time.")
	o.received = bytes("raftwire.peer.received", "Bytes received on the connections that were dialled to a peer.")
	o.sent = bytes("raftwire.peer.sent", "Bytes sent on the connections that were dialled to a peer.")
	o.inboundConns = gauge("raftwire.inbound.connections", "{connection}", "Open inbound connections.")
	o.inboundHosts = gauge("raftwire.inbound.hosts", "{host}", "Hosts that have inbound connections open.")
	o.inboundReceived = bytes("raftwire.inbound.received", "Bytes received on inbound connections.")
	o.inboundSent = bytes("raftwire.inbound.sent", "Bytes sent on inbound connections.")
	o.certificateExpiry = seconds("raftwire.tls.certificate.expiry.timestamp", "When this node's own TLS certificate expires, in Unix time.")
	o.caExpiry = seconds("raftwire.tls.ca.expiry.timestamp", "When the CA of this node's own TLS certificate expires, in Unix time.")
	return o, errors.Join(errs...)
}

// view is one look at the figures.
type view struct {
	*observed
	to      metric.Observer
	options *Options
}

func (v view) peer(p *labels.PeerFigures) {
	peer := attribute.String("peer", p.Label)
	with := v.options.with(peer)
	for state, count := range map[string]int{"idle": p.Idle, "in_use": p.InUse, "dialing": p.Dialing} {
		v.to.ObserveInt64(v.conns, int64(count), v.options.with(peer, attribute.String("state", state)))
	}
	v.to.ObserveInt64(v.inFlight, int64(p.InFlight), with)
	v.to.ObserveInt64(v.pipelines, int64(p.Pipelines), with)
	v.to.ObserveInt64(v.unconsumed, int64(p.Unconsumed), with)
	v.to.ObserveFloat64(v.oldest, p.Oldest.Seconds(), with)
	if !p.LastSuccess.IsZero() {
		v.to.ObserveFloat64(v.success, float64(p.LastSuccess.UnixNano())/float64(time.Second), with)
	}
	v.to.ObserveInt64(v.received, int64(p.BytesReceived), with)
	v.to.ObserveInt64(v.sent, int64(p.BytesSent), with)
}

func (v view) inbound(s *raftwire.Stats) {
	with := v.options.with()
	v.to.ObserveInt64(v.inboundConns, int64(labels.InboundConns(s)), with)
	v.to.ObserveInt64(v.inboundHosts, int64(len(s.Inbound)), with)
	v.to.ObserveInt64(v.inboundReceived, int64(s.InboundBytesIn), with)
	v.to.ObserveInt64(v.inboundSent, int64(s.InboundBytesOut), with)
}

// expiry shows nothing without TLS.
func (v view) expiry(gauge metric.Float64Observable, at time.Time) {
	if !at.IsZero() {
		v.to.ObserveFloat64(gauge, float64(at.Unix()), v.options.with())
	}
}
