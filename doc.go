// Package raftwire is the network layer of a Raft implementation: it carries
// the requests of a Raft core to its peers, and theirs to it. Names, meanings
// and the bytes on the wire are those of hashicorp/raft's transports; the
// README lists what differs on purpose.
//
// # Use
//
// A [NetworkTransport] runs over a [StreamLayer]; for TCP there is one ready:
//
//	transport, err := raftwire.NewTCPTransport("10.0.0.1:8300", nil, 3, 10*time.Second, os.Stderr)
//	...
//	defer transport.Close()
//
// Requests go out by calls that block for the answer, or through a pipeline:
//
//	err = transport.AppendEntries("node-2", "10.0.0.2:8300", request, &response)
//	pipeline, err := transport.AppendEntriesPipeline("node-2", "10.0.0.2:8300")
//
// Requests come in on a channel, and each wants one answer:
//
//	rpc := <-transport.Consumer()
//	switch command := rpc.Command.(type) {
//	case *raftwire.AppendEntriesRequest:
//		rpc.Respond(&raftwire.AppendEntriesResponse{Term: term, Success: true}, nil)
//	...
//	}
//
// With TLS, peers show each other certificates and verify them; for more than
// files and a name, see [TLSConfig]:
//
//	security := raftwire.TLSConfig{
//		CertFile: "node.pem", KeyFile: "node.key", CAFile: "ca.pem",
//		ServerName: "server.dc1.consul", // who is a peer
//	}
//	transport, err := raftwire.NewTLSTransport("10.0.0.1:8300", nil, security, config)
//
// A [Mux] shares one port between groups, and with other services, with a
// [TLSStreamLayer] under it or over one of its layers; a [HandoffLayer] takes
// connections that a program accepts itself.
//
// Programs built on hashicorp/raft use package hashicorpraft, a module of its
// own, which gives these transports that library's types. For tests there are
// [InmemTransport], and [InmemNetwork] for a cluster of them that can be cut into
// parts; package faultnet, a network in memory for a [NetworkTransport], whose
// faults are switched on and off; and package transporttest, which checks that a
// [Transport] keeps its contract.
//
// # The life of a request
//
//	step        where                           what happens
//	call        net_transport.go                AppendEntries and its siblings are thin over one call
//	connection  addresses.go, pool.go           where to; an idle one that is alive, or else one is dialled
//	encode      conn.go, wire.go, codec.go      kind and body are appended to the connection's output; one write
//	travel      tcp_, tls_transport.go          or any other StreamLayer
//	decode      serve.go, wire.go, codec.go     read the kind, then the body into a fresh command
//	dispatch    serve.go, internal/dispatch     to the heartbeat handler or to Consumer
//	answer      replies.go, wire.go, conn.go    wait for it; error text and response are queued, and written before the next wait
//	receive     conn.go, wire.go                parse into resp; the connection goes back to the pool, or is closed
//	pipelined   pipeline.go                     AppendEntries returns a future; decodeResponses settles them in order
//	snapshot    snapshot.go                     on a connection of its own: the request, the body, one answer
//	in memory   inmem_*.go                      no bytes: commands and answers are copied; the same pipeline
//
// # Goroutines
//
// A transport owns the goroutines that work for it, and Close waits for them.
// Most exist only while there is something to do:
//
//	goroutine                    one for                                          ends with
//	listen                       a NetworkTransport                               Close
//	session.run                  an inbound connection                            the connection
//	replies.sendAll              answers, while the session goes on to the        the last one that is owed
//	                             next request
//	addressBook.ask              a server whose address is being looked up        the provider's answer
//	pipeline.decodeResponses     a pipeline                                       its connection
//	pipeline.deliver             settled futures that nobody has taken yet        the last one taken, or the pipeline's Close
//	conn.flushQueued             output left behind while its sender went on      nothing more being queued
//	conn.watchPeer               an idle connection, where the system cannot      its next use
//	                             say whether the peer is still there
//	conn.watchPeer               a request that waits long for the core, to       its answer
//	                             see whether the caller is still there
//	snapshotSender.awaitAnswer   a snapshot being sent                            the answer
//	reception.accept             a Mux or a TLSStreamLayer                        its Close
//	reception.attend             a connection that has not said yet for which     its saying so, or MuxConfig.Timeout
//	                             layer of a Mux it is
//	reception.attend             an inbound TLS handshake                         its end, or HandshakeTimeout
//	pipeLink.serve               a pipeline in memory, at the receiver            the pipeline
//	inmemSnapshot.deliver        a snapshot in memory, at the sender              the answer
//
// Close waits no longer than a second for a heartbeat handler, an address
// provider or an Accept that does not return, and then reports it. It does not
// wait for a dial by a StreamLayer without DialContext, whose goroutine ends
// when Dial returns, nor for functions of timers, which end what has taken too
// long.
//
// # Guarantees
//
//   - A call ends within Timeout, which covers dialling and waiting for the
//     answer; a snapshot is bounded by its progress instead, and the follower's
//     restore by RestoreTimeout. With a Timeout of 0 nothing but an answer, the
//     loss of the connection or Close ends a call.
//   - Every future of a pipeline settles once, in the order of sending, whatever
//     happens to the connection. Sending on a pipeline ends within Timeout, even
//     if nobody reads its Consumer any more. What was sent before a pipeline is
//     closed is delivered. No Consumer is ever closed.
//   - A request is sent a second time only if an idle connection turns out to
//     have been lost: it failed before any byte of an answer came, and not by a
//     timeout. A snapshot is never sent twice.
//   - A call that fails leaves resp zero, unless the peer answered with an error
//     and a response; a future that fails always does. Nothing is written to
//     resp after the call has returned, or the future has settled.
//   - What arrives is a command only at the boundary of a message: the rest of a
//     snapshot that was not read, or bytes that nobody asked for, end the
//     connection. Answers have no identifiers, so of a second one that is known
//     only until the next request is sent.
//   - Memory follows the bytes that arrive, not a length that is declared; only a
//     peer that has sent a byte string of that length before, up to 4 MiB, gets
//     its memory at once. A message that would take more than three times its
//     bytes plus 64 KiB is refused. No nil entry and no negative Size reaches a core.
//   - A peer may be silent between messages for as long as it likes; inside a
//     message it has to make progress within Timeout, inside a snapshot within
//     SnapshotStallTimeout, or Timeout if another peer needs the core; and the
//     first byte of a connection has to come within FirstByteTimeout.
//   - Inbound connections are limited, in total and for each host, but those that
//     never brought a request make room for others. What is refused is counted,
//     see [Refusals], and logged, though not each time.
//   - Over a [TLSStreamLayer], nothing is exchanged with a peer whose certificate
//     was not verified by the CAs, the names and the rules that were in force
//     when the connection was made.
//   - Once Close has returned, nothing more is handed to Consumer, and every call
//     returns [ErrTransportShutdown], but for a transport whose configuration made
//     no sense, and a pipeline that had failed before: they return why. CloseStreams
//     ends every connection, and the transport goes on with new ones.
//
// Errors answer a caller's question. A [*RemoteError] is the peer's answer; its
// text is the peer's. An [*OpError] names the request that failed on the way,
// the peer and the cause; a timeout is one that is a net.Error and matches
// os.ErrDeadlineExceeded. The three sentinels are returned unwrapped.
//
// # Logs
//
// A logger is hashicorp's go-hclog; [NewSlogLogger] makes one of a slog.Logger.
// A line is an error if this node cannot do its work, a warning if somebody has
// to be looked at, and level info if it is news. Peers that go and come are
// everyday life, and level debug. Lines that anybody on the network can bring
// about are not written each time: after one, those like it are level debug,
// for a minute at first and for an hour at last. The keys are everywhere the
// same:
//
//	peer            an address: of a server, or where a connection comes from
//	local           the own address of the transport, [Mux] or [TLSStreamLayer]
//	id              the ID of a server
//	error           why
//	before          what was before, where something has changed
//	certificate     this node's own, in words
//	expires         when that certificate does
//	similar-before  how many lines like this one were left out since the last
//
// # Ownership
//
//   - args stay the caller's: they are read during the call and neither changed
//     nor kept. In a pipeline, args and resp belong to it until the future has
//     settled. Large entries are written from where they lie, so changing one
//     earlier changes what is sent.
//   - A Command belongs to whoever receives it. It shares nothing with the
//     sender. Entries of less than 1 KiB share memory with their neighbours:
//     whoever keeps one keeps about 4 KiB of others. Larger ones have memory of
//     their own, and so have all with NetworkTransportConfig.NoSharedEntries.
//   - A snapshot's Reader belongs to the receiver until it answers, the data of
//     InstallSnapshot to the sending call until it returns.
//   - A StreamLayer belongs to its transport, whose Close closes it. A
//     configuration is copied.
//   - A heartbeat handler runs on the goroutine of the connection (in memory, of
//     the call) and must not block. [Dispatcher] and [PipelineSink] are for
//     adapters and have rules of their own.
//
// # What it leaves out
//
// Consensus, storage and the discovery of members. Compression. Metrics are
// made from [Hooks] and [NetworkTransport.Stats] by modules of their own, in
// the folder metrics.
package raftwire
