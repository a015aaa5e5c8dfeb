package raftwire

import (
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// DefaultTimeoutScale is the default of NetworkTransport.TimeoutScale, in bytes.
	DefaultTimeoutScale = 256 * 1024

	// DefaultMaxRPCsInFlight is the pipeline's window if MaxRPCsInFlight is 0.
	DefaultMaxRPCsInFlight = 2

	// minInFlightForPipelining is the smallest window that pipelines.
	minInFlightForPipelining = 2
)

// ServerAddressProvider tells the address of a server, overriding the one that
// a call names.
type ServerAddressProvider interface {
	// ServerAddr returns the address of the server with the given ID. It is
	// called for every request, so it must be quick and must not block.
	ServerAddr(id ServerID) (ServerAddress, error)
}

// NetworkTransportConfig configures a [NetworkTransport]. A constructor copies
// it. For code that reads them back, the constructors store the default Logger,
// and NewTCPTransportWithConfig the Stream, in fields that were nil; nothing
// else is changed, so one config may serve several transports.
type NetworkTransportConfig struct {
	// ServerAddressProvider overrides the target address of calls; nil means
	// that the address in the call is used. If it returns an error, the
	// address in the call is used and a warning is logged.
	ServerAddressProvider ServerAddressProvider

	// Logger takes the transport's log; nil means standard error, level info.
	Logger hclog.Logger

	// Stream dials and accepts. Required, except by NewTCPTransportWithConfig,
	// which makes its own.
	Stream StreamLayer

	// MaxPool is how many idle connections are kept for each peer. 0 keeps
	// none, so that every request dials; negative is the same as 0.
	MaxPool int

	// MaxRPCsInFlight is the window of a pipeline: with N requests in flight,
	// the Nth waits until an answer was consumed. 0 means
	// DefaultMaxRPCsInFlight; 1 and negative values turn pipelining off.
	MaxRPCsInFlight int

	// Timeout bounds every request from dialling to its answer, and the time
	// without progress wherever something is transferred: inside an inbound
	// message, in a snapshot's body in either direction, in writing an answer.
	// 0 means no limit: calls then end with an answer, an error or Close.
	// Negative is an error.
	Timeout time.Duration

	// MsgpackUseNewTimeFormat encodes Log.AppendedAt as msgpack's timestamp
	// instead of the bytes of time.Time.MarshalBinary. Both are always
	// understood, so nodes may be switched one at a time. It exists for
	// clusters that still hold nodes on versions that read only one of them.
	MsgpackUseNewTimeFormat bool
}
