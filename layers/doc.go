// Package layers has stream layers beyond TCP, for the Stream of a
// [raftwire.NetworkTransportConfig]. Each is a net.Listener, too.
//
//   - [TLS] secures another layer: peers verify each other's certificates.
//     [NewTLSTransport] makes a transport over TLS over TCP.
//   - [Mux] shares one port between Raft groups, and with other services. Each
//     connection shows a [Key]: a first byte, a protocol negotiated by TLS, or none.
//   - [Handoff] takes connections that a program accepts itself.
//   - [FromListener] makes a layer of any listener.
//
// You can put them over each other in any order. A connection then passes one accept
// loop, and nothing in it blocks: each connection waits for its handshake and its key
// on a goroutine of its own. Their number and their time are limited. At the limit, the
// host that has most such connections loses one, so one host locks nobody else out.
//
// If the certificates change between a peer's handshake and the time when a transport
// takes the connection, or Accept returns it, the peer is verified again. So after
// [TLS.Reload] or [Mux.Reload], and then CloseStreams of the transport, no connection is
// left that only the old certificates would let in. A new certificate alone interrupts
// nothing.
//
// For net/http and gRPC, Accept of a layer returns a *tls.Conn where there is TLS.
// Otherwise a connection of a Mux has a wrapper that counts it, with a method NetConn.
package layers
