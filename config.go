package raftwire

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/sock"
)

const (
	// DefaultTimeoutScale is the default of NetworkTransport.TimeoutScale, in bytes.
	DefaultTimeoutScale = 256 * 1024

	// DefaultMaxRPCsInFlight is the pipeline's window if MaxRPCsInFlight is 0.
	DefaultMaxRPCsInFlight = 2

	// DefaultMaxConns is how many inbound connections there may be if MaxConns
	// is 0. Raft peers keep a handful each.
	DefaultMaxConns = 2048

	// DefaultMaxConnsPerHost is how many of them may come from one host if
	// MaxConnsPerHost is 0.
	DefaultMaxConnsPerHost = 512

	// DefaultFirstByteTimeout is the time for the first byte of an inbound
	// connection if FirstByteTimeout is 0.
	DefaultFirstByteTimeout = time.Minute

	// minInFlightForPipelining is the smallest window that pipelines.
	minInFlightForPipelining = 2
)

// ServerAddressProvider tells the address of a server, overriding the one that
// a call names.
type ServerAddressProvider interface {
	// ServerAddr returns the address of the server with the given ID. It is
	// called about once a second for each server that requests go to, and by one
	// goroutine at a time for each. It should be quick: the first request to a
	// server, and the next one after a failed dial, wait for its answer, no longer
	// than Timeout. If it blocks, it delays requests to that server only, and Close
	// for up to a second. A panic in it ends the process.
	ServerAddr(id ServerID) (ServerAddress, error)
}

// NetworkTransportConfig configures a [NetworkTransport]. A constructor copies
// it. The constructors change two fields, for code that reads them: a nil Logger
// becomes the default one, and constructors that make a layer store it in Stream.
// One config may serve several transports.
type NetworkTransportConfig struct {
	// ServerAddressProvider overrides the target address of calls; nil means
	// that the address in the call is used. An answer is used for one to two
	// seconds, or until a dial fails. When it changes, idle connections to the old
	// address are closed. After an error, or an empty address, the transport uses
	// the address in the call and logs a warning; see NoAddressFallback.
	ServerAddressProvider ServerAddressProvider

	// Logger takes the transport's log. nil means level info to
	// hclog.DefaultOutput, which is standard error unless a program sets it. A
	// Logger that blocks delays the connection or call that the line is about, and
	// Close for up to a second. It delays neither other peers nor new connections.
	Logger hclog.Logger

	// Stream dials and accepts. Required, except by NewTCPTransportWithConfig and
	// layers.NewTLSTransport, which make their own.
	Stream StreamLayer

	// MaxPool is how many idle connections are kept for each peer. 0 keeps none:
	// every request dials. (A connection that was ready only after its call had
	// given up is kept for the next call all the same.) Negative is an error.
	MaxPool int

	// MaxRPCsInFlight is the window of a pipeline: with N requests in flight,
	// the Nth waits until an answer was consumed. 0 means
	// DefaultMaxRPCsInFlight; 1 and negative values turn pipelining off.
	MaxRPCsInFlight int

	// Timeout bounds every request from dialling to its answer. It also bounds the
	// time without progress inside an inbound message, and in writing an answer.
	// For snapshots see SnapshotStallTimeout.
	//
	// A request of more than 1 MiB, as it is encoded, has Timeout for each step of
	// progress, and 10 times Timeout in total. In a pipeline the total begins with
	// the answer before. Bytes that the connection takes are progress. On Linux, so
	// are bytes that the peer's system acknowledges; elsewhere only the total bounds
	// the wait for the answer. A stall may be noticed a quarter of Timeout late.
	//
	// 0 means no limit: calls then end with an answer, an error or Close. An
	// inbound request that stalls then keeps its connection, and can be evicted
	// only if no whole request ever came on it; see MaxConns. Negative is an error.
	Timeout time.Duration

	// MsgpackUseNewTimeFormat encodes Log.AppendedAt as msgpack's timestamp
	// instead of the bytes of time.Time.MarshalBinary. Both are always
	// understood, so nodes may be switched one at a time. It exists for
	// clusters that still hold nodes on versions that read only one of them.
	MsgpackUseNewTimeFormat bool

	// RestoreTimeout bounds the wait for the answer to InstallSnapshot once its
	// last byte was sent, while the follower restores. 0 means the larger of
	// 10 Timeout and Timeout * Size / TimeoutScale, but at most an hour, or Timeout
	// if that is longer. If Timeout is 0 too, there is no limit. Negative is an error.
	RestoreTimeout time.Duration

	// SnapshotStallTimeout is how long a snapshot's body may make no progress, in
	// either direction. A sender gives up earlier, after three Timeouts, if the peer
	// answers no other request meanwhile. A receiver gives up as early as after
	// Timeout if another peer's request waits for the core: many cores read the body
	// on their main loop, and cannot vote meanwhile. 0 means a minute, or no limit if
	// Timeout is 0. It is never shorter than Timeout. Negative is an error.
	SnapshotStallTimeout time.Duration

	// MaxDispatchAhead is how many requests of one inbound connection may be
	// handed to Consumer before the first of them is answered. Requests stay
	// in order, and so do answers. It matters to pipelines only: a peer that
	// waits for each answer has one request under way. 0 means 64; 1 hands a
	// request over only when the one before was answered; negative is an error.
	MaxDispatchAhead int

	// MaxMessageBytes is how many bytes an inbound request may have, without the
	// body of a snapshot. A larger one ends its connection: its sender sees a reset
	// or an end, and the reason is in this node's log. 0 means no limit: a request
	// then needs memory only as its bytes arrive. Negative is an error.
	MaxMessageBytes int64

	// MaxConns is how many inbound connections there may be. One more evicts the
	// oldest unidentified one of the host that has most of them. A whole request
	// identifies a connection. So does a verified certificate (over TLS), or the key
	// of a Mux other than Unprefixed. If all are identified, the new one is refused.
	// 0 means DefaultMaxConns, negative no limit.
	MaxConns int

	// MaxConnsPerHost is the same for the connections from one host, which is the
	// part of their remote address before the port. An IPv6 network of 64 bits is
	// one host, and so are peers behind one proxy. Connections whose remote address
	// has no port (Unix sockets) do not count. 0 means DefaultMaxConnsPerHost,
	// negative no limit.
	MaxConnsPerHost int

	// FirstByteTimeout is how long an unidentified inbound connection (see MaxConns)
	// may be silent before its first request, with the time that its RemoteAddr
	// takes. Identified ones may be silent for as long as they like. Over plain TCP it also ends a pipeline
	// that a peer opens and does not use: the pipeline's first future says so, and
	// the peer opens another. 0 means DefaultFirstByteTimeout, negative no limit.
	FirstByteTimeout time.Duration

	// MaxSnapshotBytesPerSecond is how fast a transport sends its snapshots, all
	// together. Those under way at the same time get equal shares, but none gets
	// less than twice MinSnapshotBytesPerSecond: receivers would give it up. Too
	// many snapshots exceed this limit for that reason. 0 means no limit; less than
	// one such share is an error.
	MaxSnapshotBytesPerSecond int64

	// Hooks are called when something has happened. The zero value calls
	// nothing.
	Hooks Hooks

	// Identity makes this node refuse peers of another cluster, and requests for
	// another node. The zero value sends no identity, and refuses nobody.
	Identity Identity

	// NoAddressFallback makes a call fail if the ServerAddressProvider gives no
	// address, unless a connection to the server stands already: the address in
	// the call may be another server's by now.
	NoAddressFallback bool

	// NoSharedEntries gives each entry of an inbound request memory of its own, at
	// two allocations more for each small entry. Without it, entries with less than
	// 2 KiB of payload share memory with their neighbours in the request: if you keep
	// one of them, or a part of its Data, you keep about 4 KiB of others. Larger
	// entries never share memory. An entry that is alone in its request shares memory
	// with the request, but its Data does not: if you keep it, you keep up to 1 KiB
	// more.
	NoSharedEntries bool
}

// defaultMaxDispatchAhead hides the time that a core takes to pick a request
// up, and is how many answers can share a write. With 16 a deep window of small
// requests takes a fifth more CPU, and with 128 no less: it was measured.
const defaultMaxDispatchAhead = 64

// check returns what is wrong with the configuration, and what to do about it.
func (c *NetworkTransportConfig) check() error {
	switch {
	case c.stream() == nil:
		return errors.New("raftwire: NetworkTransportConfig.Stream is nil: set it to a StreamLayer (and look at the error of its constructor), or use NewTCPTransportWithConfig")
	case c.MaxPool < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.MaxPool is %d: use 0 to keep no idle connections, or the number to keep for each peer", c.MaxPool)
	case c.Timeout < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.Timeout is %v: use 0 for no limit, or a positive duration", c.Timeout)
	case c.RestoreTimeout < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.RestoreTimeout is %v: use 0 for the default, or a positive duration", c.RestoreTimeout)
	case c.MaxDispatchAhead < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.MaxDispatchAhead is %d: use 0 for the default, or 1 for one request at a time", c.MaxDispatchAhead)
	case c.SnapshotStallTimeout < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.SnapshotStallTimeout is %v: use 0 for the default, or a positive duration", c.SnapshotStallTimeout)
	case c.MaxSnapshotBytesPerSecond != 0 && c.MaxSnapshotBytesPerSecond < leastPace:
		return fmt.Errorf("raftwire: NetworkTransportConfig.MaxSnapshotBytesPerSecond is %d: use 0 for no limit, or %d at least: receivers give up snapshots that are slower than %d bytes a second", c.MaxSnapshotBytesPerSecond, leastPace, MinSnapshotBytesPerSecond)
	case c.MaxMessageBytes < 0:
		return fmt.Errorf("raftwire: NetworkTransportConfig.MaxMessageBytes is %d: use 0 for no limit, or the largest request to accept", c.MaxMessageBytes)
	}
	if err := c.Identity.check(); err != nil {
		return fmt.Errorf("raftwire: NetworkTransportConfig.%w", err)
	}
	return nil
}

// stream returns Stream, or nil if that is a nil pointer: what a constructor
// returns beside an error.
func (c *NetworkTransportConfig) stream() StreamLayer {
	if sock.IsNil(c.Stream) {
		return nil
	}
	return c.Stream
}

// stallLimits are those of snapshots.
func (c *NetworkTransportConfig) stallLimits() stallLimits {
	limits := defaultStallLimits(c.Timeout)
	if c.SnapshotStallTimeout > 0 {
		limits.timeout, limits.stall = c.Timeout, max(c.SnapshotStallTimeout, c.Timeout)
	}
	return limits
}

// provider returns ServerAddressProvider's method, or nil if that is nil, or a nil
// pointer.
func (c *NetworkTransportConfig) provider() func(string) (string, error) {
	if sock.IsNil(c.ServerAddressProvider) {
		return nil
	}
	return func(id string) (string, error) {
		address, err := c.ServerAddressProvider.ServerAddr(ServerID(id))
		return string(address), err
	}
}
