package raftwire

import (
	"context"
	"io"
	"net"
	"time"
)

// ServerID is the unique and stable identity of a server in a cluster. It is
// opaque to a transport, which passes it to a [ServerAddressProvider].
type ServerID string

// ServerAddress is where a transport reaches a server: "host:port" for TCP,
// any name for the memory transport.
type ServerAddress string

// Transport carries the requests of a Raft implementation to its peers, and
// theirs to it. Every method may be called by several goroutines at once.
//
// The four request methods, and that of [WithPreVote], block until the answer has
// come or the call has failed. They write to resp only before they return. They
// neither change nor keep args, so one args may serve several concurrent calls. If
// args or resp is nil, the call fails.
//
// If the peer answers with an error, the call returns it as a [*RemoteError], with
// resp filled from the answer. After Close the error is [ErrTransportShutdown]. Any
// other error is an [*OpError], which names request and peer, and matches
// os.ErrDeadlineExceeded if it is a timeout. With these two, resp is the zero value.
//
// Transport is hashicorp/raft's interface. A core that needs more declares an interface
// with it and [WithPreVote], [WithClose] or [WithContext], or asks for these at run
// time, as the Example does. The transports of this package have all of them.
type Transport interface {
	// Consumer returns the channel of inbound requests, always the same one.
	// It is never closed, so a loop that receives from it needs a signal of its
	// own to stop. Each RPC must be answered once.
	Consumer() <-chan RPC

	// LocalAddr returns the address under which peers reach this transport.
	LocalAddr() ServerAddress

	// AppendEntriesPipeline opens a pipeline of AppendEntries requests to
	// target. It blocks while it connects, no longer than the transport's timeout.
	// It returns [ErrPipelineReplicationNotSupported], unwrapped, if the transport
	// is configured not to pipeline.
	AppendEntriesPipeline(id ServerID, target ServerAddress) (AppendPipeline, error)

	// AppendEntries sends an AppendEntries request, or a heartbeat. How long a
	// request of more than 1 MiB may take: see NetworkTransportConfig.Timeout.
	AppendEntries(id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error

	// RequestVote asks target for its vote.
	RequestVote(id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error

	// InstallSnapshot sends a snapshot: the request, then the bytes that data
	// yields, until it ends or args.Size bytes were sent. A shorter body is no error
	// here, because programs compress one under way: the peer's answer counts. (In
	// memory a longer one arrives whole.) The calling goroutine reads data, and does
	// not touch it after the call has returned. If data fails, the call returns its
	// error, and the peer does not get all of the body. data may be nil if Size is 0.
	//
	// A transfer is bounded by its progress; then the peer has time to restore. If
	// the peer answers earlier, sending stops, and that answer counts. The transport
	// cannot end a Read of data.
	InstallSnapshot(id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error

	// EncodePeer turns an address into the bytes that travel in requests. It may
	// wait for a [ServerAddressProvider] that has not answered about id yet, no
	// longer than the transport's timeout.
	EncodePeer(id ServerID, addr ServerAddress) []byte

	// DecodePeer turns the bytes of EncodePeer back into an address.
	DecodePeer([]byte) ServerAddress

	// SetHeartbeatHandler sets a function that takes bare heartbeats in place of
	// Consumer; nil takes it away. [AppendEntriesRequest] says what a bare heartbeat
	// is. The function answers with rpc.Respond. If it does not, the heartbeat fails
	// at the sender's deadline.
	//
	// It runs on the goroutine of the connection that received the heartbeat,
	// concurrently with itself and with the reader of Consumer. It must not block:
	// it would delay that connection, and Close for up to a second, but no other
	// peer. A panic in it ends the process.
	SetHeartbeatHandler(cb func(rpc RPC))

	// TimeoutNow tells target to start an election at once (leadership transfer).
	TimeoutNow(id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error
}

// WithPreVote is implemented by transports that can ask for pre-votes
// (§9.6 of Ongaro's dissertation).
type WithPreVote interface {
	// RequestPreVote asks whether target would grant a vote.
	RequestPreVote(id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error
}

// WithClose is implemented by transports that hold resources.
type WithClose interface {
	// Close ends the transport: its listener, its connections and its
	// goroutines. Calls under way and later calls fail with [ErrTransportShutdown].
	// Close may be called more than once and by any goroutine.
	Close() error
}

// WithClosePeer is implemented by transports that can end everything to one peer.
type WithClosePeer interface {
	// ClosePeer ends calls, pipelines, snapshots and dials to a peer, and closes its
	// idle connections. They fail within 100 ms with an [*OpError] that matches
	// [ErrClosePeer], and are not tried again. Only a snapshot whose reader blocks
	// ends later: when that returns. Other peers, and requests that the peer itself
	// has sent, are not touched. Later calls work as before. It may be called by any
	// goroutine.
	ClosePeer(peer ServerAddress)
}

// WithContext is implemented by transports whose calls a context can end. Each method
// does the same as the one without Context, which uses [context.Background].
//
// A call ends with its ctx or the transport's timeout, whichever comes first, within
// 100 ms, whatever the peer does. If ctx ends it, the error is an [*OpError] that
// matches ctx.Err() and [context.Cause], and the peer may have got the request. The
// connection that the call was using is closed; other calls go on. If ctx has ended
// before the call, nothing is sent. An answer that has arrived counts, whatever ctx
// does. To cancel ctx after the call has returned has no effect.
type WithContext interface {
	AppendEntriesContext(ctx context.Context, id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error
	RequestVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error
	RequestPreVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error
	TimeoutNowContext(ctx context.Context, id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error

	// InstallSnapshotContext cannot leave a Read of data: if ctx ends meanwhile, the
	// call ends when that Read returns.
	InstallSnapshotContext(ctx context.Context, id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error

	// AppendEntriesPipelineContext opens a pipeline. ctx bounds the opening only: the
	// pipeline lasts until Close.
	AppendEntriesPipelineContext(ctx context.Context, id ServerID, target ServerAddress) (AppendPipeline, error)
}

// WithPeers is implemented by transports whose routes the program makes, such as those
// in memory.
type WithPeers interface {
	// Connect makes peer reachable through t.
	Connect(peer ServerAddress, t Transport)
	// Disconnect makes peer unreachable; calls in flight to it fail.
	Disconnect(peer ServerAddress)
	// DisconnectAll makes every peer unreachable.
	DisconnectAll()
}

// LoopbackTransport is what a test cluster in one process needs.
type LoopbackTransport interface {
	Transport
	WithPeers
	WithClose
	WithPreVote
}

// RPC is an inbound request.
type RPC struct {
	// Command is the request: *AppendEntriesRequest, *RequestVoteRequest,
	// *RequestPreVoteRequest, *InstallSnapshotRequest or *TimeoutNowRequest.
	// It belongs to the receiver; nothing in it is shared with the sender.
	Command interface{}

	// Reader yields the body of an InstallSnapshotRequest, and is nil for other
	// requests. It ends with io.EOF after Size bytes, or with io.ErrUnexpectedEOF if
	// the sender ends earlier. (In memory a longer body arrives whole.) It belongs to
	// the receiver until it answers; after that, Read returns an error.
	//
	// If the body stalls, Read fails with a timeout: after the transport's timeout if
	// another peer's request waits for Consumer, else after its limit for stalls. The
	// sender still gets the receiver's answer, if its connection lasts.
	Reader io.Reader

	// RespChan takes the answer. Sending the first answer never blocks.
	RespChan chan<- RPCResponse
}

// Respond answers the request with a response, an error, or both. A nil resp
// arrives as the zero response. The first call never blocks; further calls
// are ignored or may block, so answer once.
func (r *RPC) Respond(resp interface{}, err error) {
	r.RespChan <- RPCResponse{resp, err}
}

// RPCResponse is the answer to an RPC.
type RPCResponse struct {
	// Response is a pointer to the response type that matches the command, or nil.
	// Anything else arrives as an error.
	Response interface{}
	// Error reaches the caller as a [*RemoteError] with the same text.
	Error error
}

// AppendPipeline sends AppendEntries requests without waiting for the answers
// of earlier ones.
type AppendPipeline interface {
	// AppendEntries sends a request and returns a future for its answer. The
	// window is how many requests may be unanswered or unconsumed. Once it is full,
	// AppendEntries waits for a place, no longer than the transport's timeout, even
	// if nobody reads Consumer. With no timeout it waits until the pipeline ends.
	// While a request of more than 1 MiB is in flight and makes progress, the wait
	// may take ten timeouts. It may be called by several goroutines; requests travel
	// in the order in which the calls get their turn.
	//
	// args, the slice of its entries, the entries and resp belong to the pipeline
	// until the future has settled. With an error there is no future: they are the
	// caller's again, and the peer may have got the request. The error is
	// [ErrPipelineShutdown], [ErrTransportShutdown], or an [*OpError] that says
	// why the pipeline has ended: then close it. A refused argument (nil args, a nil
	// entry, a nil resp) is an error too, and does not end the pipeline.
	AppendEntries(args *AppendEntriesRequest, resp *AppendEntriesResponse) (AppendFuture, error)

	// Consumer returns the channel of settled futures, in the order in which their
	// requests were sent. It is never closed. Failed futures arrive too, until the
	// pipeline is closed; after that nothing arrives.
	Consumer() <-chan AppendFuture

	// Close ends the pipeline. Futures that have not settled settle at once, with
	// [ErrPipelineShutdown]. Their requests are still sent and handed over, unless
	// the peer is slow to read (100 ms) or to answer (the transport's timeout).
	// Close may be called more than once and by any goroutine.
	Close() error
}

// AppendFuture is the answer to come of a pipelined AppendEntries.
type AppendFuture interface {
	Future

	// Start returns when AppendEntries was called.
	Start() time.Time

	// Request returns the args that AppendEntries was called with.
	Request() *AppendEntriesRequest

	// Response returns the resp that AppendEntries was called with. It may be
	// read once the future has settled, and is the zero value if it failed.
	Response() *AppendEntriesResponse
}

// Future is a result to come.
type Future interface {
	// Error blocks until the future has settled and returns its error. It may
	// be called more than once and by several goroutines.
	Error() error
}

// StreamLayer is what a [NetworkTransport] runs over: it accepts the connections
// of peers and dials them. One goroutine calls Accept, which should return when
// Close has been called: else that goroutine stays, see [NetworkTransport.Close].
// Several goroutines call Dial.
//
// A connection belongs to the transport, which closes it. RemoteAddr of an accepted
// one may block until it is closed. A deadline, also one in the past, must end a Read
// or Write under way, and leave the connection usable: nothing else ends a wait in
// time.
type StreamLayer interface {
	net.Listener

	// Dial connects to address. It returns within timeout; 0 or less means no
	// limit. A connection that it returns with an error is ignored. timeout is twice
	// the transport's Timeout: a call gives up after its own time, and leaves the
	// dial to the next call. Only 4 dials for an address, and 64 in all, may be under
	// way like this: one that does not return takes up a place.
	//
	// A layer may have a method
	//
	//	DialContext(ctx context.Context, address ServerAddress) (net.Conn, error)
	//
	// which is then used instead, so that a dial under way can be ended: by Close
	// and by ClosePeer, when more than those 4 or 64 have outlived their calls, and
	// after four Timeouts or 30 s, whichever is longer. ctx bounds the dial only: it
	// is cancelled when DialContext has returned.
	//
	// A layer with a certificate may have a method
	//
	//	Expires() (certificate, ca time.Time)
	//
	// which returns when that and its CA expire, for Stats; zero if it does not know.
	// It must not block.
	Dial(address ServerAddress, timeout time.Duration) (net.Conn, error)
}
