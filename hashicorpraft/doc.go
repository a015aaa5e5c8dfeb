// Package hashicorpraft gives the transports of raftwire the types of
// hashicorp/raft, so that a program built on hashicorp/raft changes its
// transport in one line:
//
//	--- main.go
//	+++ main.go
//	-	transport, err := raft.NewTCPTransport(addr, advertise, 3, 10*time.Second, os.Stderr)
//	+	transport, err := hashicorpraft.NewTCPTransport(addr, advertise, 3, 10*time.Second, os.Stderr)
//
// Where the program names the type, *raft.NetworkTransport becomes
// *hashicorpraft.NetworkTransport.
//
// The constructors have the names, parameters and configuration struct of
// hashicorp/raft. The bytes on the wire are the same too, so you can move a
// cluster one server at a time, and move it back. A pipeline's window stays 2
// requests, which is best on a LAN. Over long round trips set MaxRPCsInFlight of the
// [raft.NetworkTransportConfig] to 16 or more.
//
// # Options of raftwire
//
// Add raftwire's own options to the configuration that your program has. Make the
// transport with raftwire's constructor, and wrap it:
//
//	config := hashicorpraft.WireConfig(&raft.NetworkTransportConfig{ ... })
//	config.Hooks = hooks
//	network, err := raftwire.NewTCPTransportWithConfig(addr, advertise, config)
//	transport := hashicorpraft.WrapNetwork(network)
//
// [WrapInmem] is for transports in memory, and [Wrap] for one of your own.
//
// # Stream layers
//
// [NewTLSTransport] runs over TLS. [RaftStream] gives a layer of raftwire (TLS, a
// layer of a Mux, a Handoff) hashicorp/raft's type, so that either transport can
// run over it. [WireStream] does the same the other way round.
//
// # Clusters in memory
//
// An [InmemNetwork] connects the nodes of a test, and has partitions, latency
// and loss. Inside a testing/synctest bubble ten minutes of such a cluster take
// about a second:
//
//	network := hashicorpraft.NewInmemNetwork(raftwire.InmemNetworkConfig{Latency: time.Millisecond})
//	node, err := raft.NewRaft(config, fsm, logs, stable, snapshots, network.Add("a"))
//	...
//	network.Isolate("a")
//
// # Cost
//
// Messages are not copied: those of the two packages have the same layout. The
// package checks that when the program starts. If a later hashicorp/raft differs,
// it copies the messages that differ. No goroutine stands between a connection and the core,
// and none between a pipeline and the core.
//
// # Errors
//
// If hashicorp/raft has a name for an error, you get its value:
// [raft.ErrTransportShutdown], [raft.ErrPipelineShutdown] and
// [raft.ErrPipelineReplicationNotSupported]. Others are raftwire's, as
// [raftwire.RemoteError] and [raftwire.OpError].
//
// # Metrics
//
// The timers raft.net.getRPCType, raft.net.rpcDecode, raft.net.rpcEnqueue and
// raft.net.rpcRespond go to github.com/hashicorp/go-metrics, as the metrics of
// hashicorp/raft do from v1.8.0 on. hashicorp/raft v1.7 emits to
// github.com/armon/go-metrics unless it is built with the tag hashicorpmetrics.
// A program on v1.7 imports package armonmetrics, so that the timers go there:
//
//	import _ "github.com/raftwire/raftwire/hashicorpraft/armonmetrics"
//
// The module metrics/gometrics emits the same timers for programs that do not use
// this package. Do not use both.
//
// # Platforms
//
// This package builds where hashicorp/raft builds. That excludes plan9, and with
// v1.7 also js/wasm: its metrics library needs a signal that these do not have.
package hashicorpraft
