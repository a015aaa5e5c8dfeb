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
	// goroutine at a time for each. It should be quick: while it does not know
	// better, a request waits for it, no longer than its Timeout. If it blocks, it
	// holds up requests to that server only, and Close for up to a second. A panic
	// in it ends the process.
	ServerAddr(id ServerID) (ServerAddress, error)
}

// NetworkTransportConfig configures a [NetworkTransport]. A constructor copies
// it. For code that reads them back, the constructors store the default logger in
// a Logger that was nil, and those that make a layer of their own store it in
// Stream; nothing else is changed, so one config may serve several transports.
type NetworkTransportConfig struct {
	// ServerAddressProvider overrides the target address of calls; nil means
	// that the address in the call is used. An answer is used for one to two
	// seconds, or until a dial fails; when it is another than before, idle
	// connections to the old address are closed. If there is an error, or an
	// empty address, the one in the call is used and a warning is logged.
	ServerAddressProvider ServerAddressProvider

	// Logger takes the transport's log; nil means hclog.DefaultOutput, which is
	// standard error unless a program sets it, level info. If it blocks, it holds up
	// the connection or call that the line is about, and Close for up to a second,
	// but neither the accepting of connections nor other peers.
	Logger hclog.Logger

	// Stream dials and accepts. Required, except by NewTCPTransportWithConfig and
	// layers.NewTLSTransport, which make their own.
	Stream StreamLayer

	// MaxPool is how many idle connections are kept for each peer. 0 keeps
	// none, so that every request dials, but for one that was ready only after its
	// call had given up: that is kept for the next call. Negative is an error.
	MaxPool int

	// MaxRPCsInFlight is the window of a pipeline: with N requests in flight,
	// the Nth waits until an answer was consumed. 0 means
	// DefaultMaxRPCsInFlight; 1 and negative values turn pipelining off.
	MaxRPCsInFlight int

	// Timeout bounds every request from dialling to its answer, and the time
	// without progress wherever something is transferred: inside an inbound
	// message, in writing an answer. For snapshots see SnapshotStallTimeout.
	// A request of more than 1 MiB, as it is encoded, has Timeout for each step of
	// progress, and 10 times Timeout in total, which in a pipeline begins with the
	// answer before. Progress is what the connection takes, and then, on Linux, what
	// the peer's system acknowledges; elsewhere only the total bounds the wait for
	// the answer. A stall may be noticed a quarter of Timeout late.
	// 0 means no limit: calls then end with an answer, an error or Close, and
	// an inbound request that stalls keeps its connection, which makes room for
	// others only if no whole request ever came on it; see MaxConns. Negative is
	// an error.
	Timeout time.Duration

	// MsgpackUseNewTimeFormat encodes Log.AppendedAt as msgpack's timestamp
	// instead of the bytes of time.Time.MarshalBinary. Both are always
	// understood, so nodes may be switched one at a time. It exists for
	// clusters that still hold nodes on versions that read only one of them.
	MsgpackUseNewTimeFormat bool

	// RestoreTimeout bounds the wait for the answer to InstallSnapshot once its
	// last byte was sent, while the follower restores. 0 means the larger of
	// 10 Timeout and Timeout * Size / TimeoutScale, but no more than an hour,
	// or Timeout if that is longer, and no limit if Timeout is 0. Negative is an error.
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

	// MaxMessageBytes is how many bytes an inbound request may have, not
	// counting the body of a snapshot; the connection of a larger one ends: its
	// sender sees that reset or closed, and the reason is in this node's log. 0
	// means no limit: a request then needs memory only as its bytes arrive.
	// Negative is an error.
	MaxMessageBytes int64

	// MaxConns is how many inbound connections there may be. One more takes
	// the place of the oldest that has not brought a whole request yet, nor shown a
	// certificate or key (see FirstByteTimeout); if all have, it is refused. 0 means
	// DefaultMaxConns, negative no limit.
	MaxConns int

	// MaxConnsPerHost is the same for the connections that come from one host,
	// which is what stands before the port in their remote address. An IPv6 network
	// of 64 bits is one host, and so are peers behind one proxy. Connections whose
	// remote address has no port (Unix sockets) do not count. 0 means
	// DefaultMaxConnsPerHost, negative no limit.
	MaxConnsPerHost int

	// FirstByteTimeout is how long an inbound connection may be silent before
	// its first request, with the time that its RemoteAddr takes; afterwards it may
	// be silent for as long as it likes. So may one whose peer has shown a verified
	// certificate (over TLS) or the key of a Mux, but for Unprefixed. Over plain TCP
	// a pipeline that a peer opens and does not use is ended as well: its first
	// future says so, and the peer opens another. 0 means DefaultFirstByteTimeout,
	// negative no limit.
	FirstByteTimeout time.Duration

	// MaxSnapshotBytesPerSecond is how fast snapshots are sent, all of a
	// transport together. Those under way at the same time get equal shares, but
	// none less than twice MinSnapshotBytesPerSecond, since receivers would give it
	// up: if there are too many for that, they exceed this limit together. 0 means
	// no limit; what is less than one such share is an error.
	MaxSnapshotBytesPerSecond int64

	// Hooks are called when something has happened. The zero value calls
	// nothing.
	Hooks Hooks

	// Identity makes peers refuse each other that are of different clusters, or that are
	// not the node which was meant. The zero value says nothing, and refuses nobody.
	Identity Identity

	// NoAddressFallback makes a call fail if the ServerAddressProvider gives no
	// address, unless a connection to the server stands already: the address in
	// the call may be another server's by now.
	NoAddressFallback bool

	// NoSharedEntries gives each entry of an inbound request memory of its own.
	// Without it entries with less than 2 KiB of payload share memory with
	// their neighbours in the request, so a state machine that keeps one of
	// them, or a part of its Data, keeps about 4 KiB of others as well. It costs
	// two allocations for each small entry. Larger entries never share memory. An
	// entry that is alone in its request is one piece with that, without its Data:
	// who keeps it keeps up to 1 KiB more.
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
		return fmt.Errorf("raftwire: NetworkTransportConfig.MaxSnapshotBytesPerSecond is %d: use 0 for no limit, or %d at least: receivers give up what is slower than %d bytes a second", c.MaxSnapshotBytesPerSecond, leastPace, MinSnapshotBytesPerSecond)
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
