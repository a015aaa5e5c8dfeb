// Package prometheus gives the events and figures of raftwire's transports to
// Prometheus, through client_golang:
//
//	config.Hooks, err = raftwireprom.New(prometheus.DefaultRegisterer, raftwireprom.Options{})
//	...
//	transport, err := raftwire.NewTCPTransportWithConfig("10.0.0.1:8300", nil, config)
//	...
//	err = prometheus.Register(raftwireprom.NewCollector(transport, raftwireprom.Options{}))
//
// (raftwireprom is this package, imported under a name that differs from
// client_golang's.) dashboard.json, beside this file, shows the metrics in
// Grafana. rules.yml has alert rules for Prometheus: a peer that is unreachable,
// connections that are refused, a snapshot that is stalled, a certificate that expires. Copy it and set its
// thresholds. Both select by the labels cluster, job and instance; a program without
// cluster needs no change.
//
// # Metrics
//
// What this node asks of its peers, from [New]:
//
//	raftwire_call_duration_seconds              histogram  kind, peer, pipelined, outcome
//	raftwire_call_request_size_bytes            histogram  kind
//	raftwire_call_entries                       histogram  log entries in an AppendEntries
//
// What peers ask of it:
//
//	raftwire_serve_phase_duration_seconds       histogram  kind, phase
//	raftwire_serve_request_size_bytes           histogram  kind
//	raftwire_serve_errors_total                 counter    kind
//
// Snapshots, while one is under way; the series go when it is over:
//
//	raftwire_snapshot_done_bytes                gauge      direction, peer
//	raftwire_snapshot_size_bytes                gauge      direction, peer
//
// Connections:
//
//	raftwire_dial_duration_seconds              histogram  peer, outcome
//	raftwire_connections_opened_total           counter    direction
//	raftwire_connections_closed_total           counter    direction, reason
//	raftwire_connections_refused_total          counter    reason
//
// What is open and under way, looked at when it is scraped, from [NewCollector]:
//
//	raftwire_peer_connections                   gauge      peer, state
//	raftwire_peer_requests_in_flight            gauge      peer
//	raftwire_peer_pipelines                     gauge      peer
//	raftwire_peer_pipeline_unconsumed           gauge      peer
//	raftwire_peer_pipeline_oldest_seconds       gauge      peer
//	raftwire_peer_last_success_timestamp_seconds gauge     peer
//	raftwire_peer_received_bytes_total          counter    peer
//	raftwire_peer_sent_bytes_total              counter    peer
//	raftwire_inbound_connections                gauge
//	raftwire_inbound_hosts                      gauge
//	raftwire_inbound_received_bytes_total       counter
//	raftwire_inbound_sent_bytes_total           counter
//	raftwire_tls_certificate_expiry_timestamp_seconds gauge  this node's own, only with TLS
//	raftwire_tls_ca_expiry_timestamp_seconds    gauge  of the CA that has signed it
//
// # Labels
//
//	kind       AppendEntries, Heartbeat, InstallSnapshot, RequestPreVote, RequestVote, TimeoutNow
//	outcome    ok, refused (by the peer's answer), timeout, shutdown (of this transport), failed
//	phase      decode, enqueue (until the Raft core takes it), handle (until it has answered)
//	direction  inbound, outbound
//	reason     of a closed connection: peer, cut, timeout, shutdown, local (the pool is full, for
//	           example); of a refused one: a field of raftwire.Refusals
//	state      idle, in_use, dialing
//	peer       the ServerID that this node's Raft core calls a peer by, or its address if the ID
//	           is empty; of an inbound snapshot, the host
//
// Label values come from this node's configuration and code. Of what strangers send
// only the host of a snapshot that comes in becomes one, while it comes in; the IDs in
// their requests never do.
//
// # Peers that come and go
//
// A peer's series are dropped when nothing has happened to it for an hour and no
// connection to it is open; they begin anew if it comes back. At most
// Options.MaxPeers peers at a time, 256 by default, have series of their own. The
// others are measured together, as peer="other". Set Options.OmitPeers to measure all
// peers together.
//
// # Cost
//
// Two hooks run for a request, CallDone where it is made and ServeDone where it
// is served. Each takes some 30 ns, allocates nothing and waits for nothing; to
// look at the clock for what they tell costs more. With requests of one small
// entry all of it takes 1 to 5 % of the requests per second, and 4 to 7 % with
// 130 in flight:
//
//	go run ./raftbench -rivals raftwire,raftwire+hooks,raftwire+prometheus -workloads 1x128
package prometheus
