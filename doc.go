// Package raftwire is the network layer of a Raft implementation: it carries
// the requests of a Raft core to its peers, and theirs to it. Names, meanings
// and the bytes on the wire are those of hashicorp/raft's transports;
// docs/differences.md lists what differs on purpose.
//
// # Use
//
// A [NetworkTransport] runs over a [StreamLayer]. For TCP there is a constructor:
//
//	transport, err := raftwire.NewTCPTransport("10.0.0.1:8300", nil, 3, 10*time.Second, os.Stderr)
//	...
//	defer transport.Close()
//
// [NewTCPTransportWithConfig] takes a [NetworkTransportConfig], with everything
// else that can be set. Set at least MaxPool, Timeout and MaxRPCsInFlight, the
// window of a pipeline: their zero values are not what most programs want.
//
// Plain TCP authenticates nobody: whoever reaches the port can send requests.
//
// Requests go out by calls that block for the answer, or through a pipeline:
//
//	err = transport.AppendEntries("node-2", "10.0.0.2:8300", request, &response)
//	pipeline, err := transport.AppendEntriesPipeline("node-2", "10.0.0.2:8300")
//
// Each call has a form with a context, such as AppendEntriesContext: see [WithContext].
//
// Requests come in on a channel. Answer each of them once:
//
//	rpc := <-transport.Consumer()
//	switch command := rpc.Command.(type) {
//	case *raftwire.AppendEntriesRequest:
//		rpc.Respond(&raftwire.AppendEntriesResponse{Term: term, Success: true}, nil)
//	...
//	}
//
// With TLS, peers show each other certificates and verify them; see layers.TLSConfig:
//
//	security := layers.TLSConfig{
//		CertFile: "node.pem", KeyFile: "node.key", CAFile: "ca.pem",
//		ServerName: "server.dc1.consul", // every peer has this name
//	}
//	transport, err := layers.NewTLSTransport("10.0.0.1:8300", nil, security, config)
//
// With an [Identity] in the configuration, a node refuses requests that have reached
// the wrong cluster or the wrong node.
//
// Other ways to connect:
//
//   - [NewTCPStreamLayer] has host names, Unix sockets and a dial hook.
//   - A layers.Mux shares one port between groups, and with other services. Put a
//     layers.TLS under it or over one of its layers.
//   - A layers.Handoff takes connections that a program accepts itself.
//
// Programs built on hashicorp/raft use package hashicorpraft, a module of its
// own. It gives these transports that library's types.
//
// The Example of [Transport] is the part of a Raft core that uses one.
//
// For tests there are [InmemTransport], and [InmemNetwork] for a cluster of them
// with partitions, latency and loss. Package faultnet is a network in memory with
// faults, for a [NetworkTransport]. Package transporttest checks that a
// [Transport] keeps its contract.
//
// # The life of a request
//
//   - The transport looks up the address, if there is a [ServerAddressProvider].
//   - It takes an idle connection to the address, and checks that it is alive; or
//     it dials. A dial that takes longer than the call continues, and its
//     connection serves the next call.
//   - It writes the request. If an idle connection turns out to be lost, it sends
//     the request once more, on a new connection. It does so only before any byte
//     of an answer, never after a timeout, and never with a snapshot.
//   - The receiver decodes the request into a fresh command. A bare heartbeat goes
//     to the heartbeat handler, everything else to Consumer.
//   - The receiver sends answers in the order of the requests.
//   - The sender decodes the answer into resp, and keeps the connection.
//
// A pipeline has a connection of its own. AppendEntries returns a future at once,
// until the window is full (MaxRPCsInFlight). Futures settle in order, and arrive
// on the pipeline's Consumer.
//
// A snapshot has a connection of its own too: the request, the body, one answer.
// The body is what the reader yields, up to Size bytes. After a shorter body the
// sender closes its side, and a receiver that waits for the rest gets
// io.ErrUnexpectedEOF. If the receiver answers early, the sender stops.
//
// # What blocks, and for how long
//
//   - A call blocks for at most Timeout, from dialling to its answer. A request of
//     more than 1 MiB has Timeout for each step of progress, and 10 times Timeout
//     in total. With a Timeout of 0 only an answer, the loss of the connection,
//     the end of its context, ClosePeer or Close ends a call.
//   - A call with a context ([WithContext]) also ends with that, within 100 ms. The
//     connection that it was using is closed, its dial continues for the next call,
//     and other calls go on.
//   - InstallSnapshot is bounded by progress (SnapshotStallTimeout), and then by
//     RestoreTimeout while the follower restores. Nothing ends a Read of data,
//     neither a context nor Close.
//   - AppendEntries of a pipeline blocks while the window is full, for at most
//     Timeout, even if nobody reads the pipeline's Consumer.
//   - Close ends calls under way, and waits for goroutines. It waits for at most a
//     second for one that runs your code and does not return, and then reports it.
//     It does not wait for a Dial or an Accept that does not return.
//   - CloseStreams ends every connection and blocks for 5 ms. The transport
//     continues with new connections.
//   - A heartbeat handler runs on the goroutine of the connection (in memory, of
//     the call). It must not block.
//   - A hook, logger or provider that blocks delays the connection or call that it
//     is called for, and Close for at most a second. It delays no other peer.
//   - The transport does not recover a panic in your code. On a goroutine of the
//     transport it ends the process.
//
// # Guarantees
//
//   - Every future settles once, in the order of sending. What was sent before a
//     pipeline is closed is delivered. No Consumer is ever closed.
//   - A call that fails leaves resp zero, unless the peer answered with an error
//     and a response. A future that fails always has a zero response. Nothing is
//     written to resp after the call has returned or the future has settled.
//   - Only the boundary of a message begins a command. Unread snapshot bytes and
//     surplus bytes end the connection. A second answer that arrives before the
//     next request ends it too; later, nothing in the protocol tells them apart.
//   - No nil entry and no negative Size reaches a core. A nil request or response
//     is an error.
//   - Over a layers.TLS, nothing is exchanged with a peer before its
//     certificate was verified.
//   - Once Close has returned, nothing more is delivered to Consumer.
//
// # Ownership
//
//   - args stay the caller's. The transport reads them during the call, and
//     neither changes nor keeps them. In a pipeline, args and resp belong to it
//     until the future has settled. Do not change entries earlier: large ones are
//     not copied before they are written.
//   - A Command belongs to whoever receives it, and shares nothing with the sender.
//     Entries of less than 2 KiB share memory with their neighbours: if you keep
//     one, you keep about 4 KiB of others. Larger ones have memory of their own.
//     With NoSharedEntries all have.
//   - A snapshot's Reader belongs to the receiver until it answers. The data of
//     InstallSnapshot belongs to the call until it returns.
//   - A StreamLayer belongs to its transport, whose Close closes it. A
//     configuration is copied.
//   - [Dispatcher] and [PipelineSink] are for adapters, and have rules of their own.
//
// # Errors
//
//   - A [*RemoteError] is the peer's answer, with the peer's text. The request
//     arrived.
//   - An [*OpError] names the request, the peer and the cause. Unless the request
//     was refused here or dialling failed, the peer may have got it.
//   - A timeout is a net.Error and matches os.ErrDeadlineExceeded. Compare with
//     errors.Is, not by text.
//   - [ErrTransportShutdown], [ErrPipelineShutdown] and
//     [ErrPipelineReplicationNotSupported] are returned unwrapped.
//   - These are causes, for errors.Is: [ErrClosePeer]; [context.Canceled] and
//     [context.DeadlineExceeded], if a context has ended the call;
//     [ErrWrongCluster], [ErrWrongNode] and [ErrNoIdentity], if an [Identity] has
//     refused it.
//   - Calls on a transport whose configuration made no sense return what is wrong
//     with it.
//
// # Limits
//
//   - Inbound connections: MaxConns (2,048) and MaxConnsPerHost (512). At a limit,
//     the oldest unidentified connection is evicted. A connection is identified
//     once it has sent a whole request, or shown a verified certificate or the key
//     of a Mux.
//   - An unidentified connection must send its first byte within FirstByteTimeout
//     (a minute). Others may be silent between messages for as long as they like.
//     Inside a message a peer must make progress within Timeout.
//   - Memory follows the bytes that arrive, not a declared length: a message may
//     take three times its bytes plus 64 KiB. MaxMessageBytes limits a request, and
//     an answer has at most 16 MiB.
//   - Lengths of 4 GiB and more are refused before they travel. A 32-bit process
//     refuses a byte string of more than 512 MiB.
//   - A receiver gives up a snapshot's body after SnapshotStallTimeout without
//     progress, or after Timeout if another peer's request waits for the core. The
//     body must bring [MinSnapshotBytesPerSecond] on average.
//   - At most 4 dials to an address, and 64 in all, outlive their calls.
//
// [Refusals] counts what was refused. SECURITY.md has the whole table.
//
// # Logs
//
// A logger is hashicorp's go-hclog; [NewSlogLogger] makes one of a slog.Logger.
// A line is an error if this node cannot do its work. It is a warning if somebody
// should look at it, and level info if it is news. Peers that go and come are
// level debug. Lines that a stranger can trigger are rate-limited: each kind gets
// one line in five minutes, and the others become level debug. Refused TLS peers,
// and those that an Identity refuses, get one for each host, up to eight.
// The keys are the same everywhere:
//
//	peer            an address: of a server, or where a connection comes from
//	local           the own address of the transport, layers.Mux or layers.TLS
//	id              the ID of a server
//	error           why
//	before          what was before, where something has changed
//	certificate     this node's own, or its CA, in words
//	expires         when that certificate does
//	similar-before  how many lines like this one were left out since the last
//
// Metrics are made from [Hooks] and [NetworkTransport.Stats], by the modules in
// the folder metrics.
//
// # What it leaves out
//
// Consensus, storage, the discovery of members, and compression. How the package
// works inside is described in docs/architecture.md.
package raftwire
