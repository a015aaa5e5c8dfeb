// Package otel gives the events and figures of raftwire's transports to
// OpenTelemetry. It needs no more than the metric API: which SDK takes them, and
// where they go, the program decides.
//
//	config.Hooks, err = raftwireotel.New(provider, raftwireotel.Options{})
//	...
//	transport, err := raftwire.NewTCPTransportWithConfig("10.0.0.1:8300", nil, config)
//	...
//	watch, err := raftwireotel.Observe(provider, transport, raftwireotel.Options{})
//
// (raftwireotel is this package, imported under a name that differs from
// OpenTelemetry's.)
//
// # Metrics
//
// What this node asks of its peers, from [New]:
//
//	raftwire.call.duration               histogram  s             kind, peer, pipelined, outcome
//	raftwire.call.request.size           histogram  By            kind
//	raftwire.call.entries                histogram  {entry}       log entries in an AppendEntries
//
// What peers ask of it:
//
//	raftwire.serve.phase.duration        histogram  s             kind, phase
//	raftwire.serve.request.size          histogram  By            kind
//	raftwire.serve.errors                counter    {request}     kind
//
// Snapshots, while one is under way:
//
//	raftwire.snapshot.done               gauge      By            direction, peer
//	raftwire.snapshot.size               gauge      By            direction, peer
//
// Connections:
//
//	raftwire.dial.duration               histogram  s             peer, outcome
//	raftwire.connections.opened          counter    {connection}  direction
//	raftwire.connections.closed          counter    {connection}  direction, reason
//	raftwire.connections.refused         counter    {connection}  reason
//
// What is open and under way, looked at when it is collected, from [Observe]:
//
//	raftwire.peer.connections            gauge      {connection}  peer, state
//	raftwire.peer.requests.in_flight     gauge      {request}     peer
//	raftwire.peer.pipelines              gauge      {pipeline}    peer
//	raftwire.peer.pipeline.unconsumed    gauge      {request}     peer
//	raftwire.peer.pipeline.oldest        gauge      s             peer
//	raftwire.peer.last_success.timestamp gauge      s             peer
//	raftwire.peer.received               counter    By            peer
//	raftwire.peer.sent                   counter    By            peer
//	raftwire.inbound.connections         gauge      {connection}
//	raftwire.inbound.hosts               gauge      {host}
//	raftwire.inbound.received            counter    By
//	raftwire.inbound.sent                counter    By
//	raftwire.tls.certificate.expiry.timestamp gauge s             this node's own, only with TLS
//	raftwire.tls.ca.expiry.timestamp     gauge      s             of the CA that has signed it
//
// The attributes have the values that the doc of the module metrics/prometheus
// explains. Through an exporter to Prometheus the metrics get the names and
// labels of that module, and its dashboard shows them.
//
// # Peers that come and go
//
// At most Options.MaxPeers peers at a time have a value of peer of their own; the
// others share "other". A peer is forgotten when nothing has happened to it for an
// hour and no connection to it is open. What [Observe] shows of it ends then. What
// [New] has recorded of it cannot be taken back through OpenTelemetry's API: a reader
// with delta temporality forgets it with the next collection; one with cumulative
// temporality, such as the exporter to Prometheus, shows it until the process ends,
// up to the cardinality limit of the SDK (2,000 sets of attributes for an instrument;
// those beyond it are together under otel.metric.overflow). Where IDs keep changing,
// set Options.OmitPeers.
//
// # Cost
//
// Two hooks run for a request, CallDone where it is made and ServeDone where it
// is served. They allocate nothing, but each makes three or four records, for
// which OpenTelemetry's SDK takes some 0.6 µs: that is much for a transport that
// carries a hundred thousand small requests a second, and nothing for others.
package otel
