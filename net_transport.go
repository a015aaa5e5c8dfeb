package raftwire

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/addressbook"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/dispatch"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// StreamLayer is what a [NetworkTransport] runs over: it accepts the connections
// of peers and dials them. Accept is called by one goroutine, and should return when
// Close has been called: else that goroutine stays, see [NetworkTransport.Close].
// Dial is called by several. A connection belongs to the transport, which closes it.
// RemoteAddr of an accepted one may block until it is closed. Its deadlines must end calls under way, also one in
// the past, and leave the connection usable: nothing else ends a wait in time.
type StreamLayer interface {
	net.Listener

	// Dial connects to address. It returns within timeout; 0 or less means no
	// limit. What it returns beside an error is not looked at. A call gives up when
	// its own time is over, and leaves the dial to the next one: timeout is twice
	// the transport's Timeout. Dials that do not return take up the few places that
	// there are for them, 4 for an address and 64 in all.
	//
	// A layer may have a method
	//
	//	DialContext(ctx context.Context, address ServerAddress) (net.Conn, error)
	//
	// which is then used instead, so that a dial under way can be ended: by Close
	// and by ClosePeer, when more than those 4 or 64 have outlived their calls, and
	// after four Timeouts or 30 s, whichever is longer. ctx bounds the dial only: it
	// is cancelled when DialContext has returned.
	Dial(address ServerAddress, timeout time.Duration) (net.Conn, error)
}

// maxAnswerBytes is how large an answer may be. The longest hold the text of an
// error, or the addresses of peers.
const maxAnswerBytes = 16 << 20

// acceptGrace is how long CloseStreams waits for connections to be accepted.
const acceptGrace = 5 * time.Millisecond

// NetworkTransport is a [Transport] over the connections of a [StreamLayer].
// Make one with a constructor; all methods may be called by several goroutines.
//
// It keeps idle connections for each peer and checks them before use. An inbound
// connection has one goroutine, and up to two more while answers are owed to requests
// that came faster than the core answered.
type NetworkTransport struct {
	// Tests written for hashicorp/raft make this struct by hand: the fields that
	// they set keep their names, and the others may be zero.

	// TimeoutScale is how many bytes of a snapshot a follower is expected to
	// restore within one Timeout; see NetworkTransportConfig.RestoreTimeout. 0
	// and negative values mean DefaultTimeoutScale. Set it before the first
	// call of InstallSnapshot.
	TimeoutScale int

	logger           hclog.Logger
	stream           StreamLayer
	timeout          time.Duration
	restoreTimeout   time.Duration
	snapshotPace     pacer
	stallLimits      stallLimits // of snapshots
	maxInFlight      int
	maxDispatchAhead int
	maxMessageBytes  int64
	noSharedEntries  bool
	newTime          bool
	hooks            Hooks

	desk *dispatch.Desk[RPC, RPCResponse]
	open atomic.Pointer[openDispatcher]

	addresses         addressbook.Book // unused without a Provider
	noAddressFallback bool
	fallbacks         logs.Limit // of lines about fallback addresses
	pool
	door     door.Door
	acceptor *door.Acceptor // nil if made by hand, over a layer that hands over, and if the configuration was refused
	waiting  waitingRequests
	tasks    tasks.Group
	inbound  traffic

	refusals door.Refusals

	life context.Context // ends on Close, and with it dials under way
	end  context.CancelFunc

	refusal    error         // what calls return after shutdown; nil means ErrTransportShutdown
	shutdownCh chan struct{} // closed when shutdown becomes true

	closing      sync.Once
	shutdownLock sync.Mutex // protects following
	shutdown     bool
}

type openDispatcher func(done <-chan struct{}) Dispatcher

// line hands requests to Consumer.
type line struct {
	*dispatch.Line[RPC, RPCResponse]
}

// Dispatch implements [Dispatcher].
func (l line) Dispatch(command any, body io.Reader, heartbeat bool) PendingAnswer {
	if answers := l.Line.Dispatch(command, body, heartbeat); answers != nil {
		return answers
	}
	return nil // and not a nil channel in an interface
}

var (
	_ Transport        = (*NetworkTransport)(nil)
	_ WithPreVote      = (*NetworkTransport)(nil)
	_ WithClose        = (*NetworkTransport)(nil)
	_ WithClosePeer    = (*NetworkTransport)(nil)
	_ WithDispatcher   = (*NetworkTransport)(nil)
	_ WithPipelineSink = (*NetworkTransport)(nil)
)

// NewNetworkTransport returns a transport over stream that keeps maxPool idle
// connections for each peer, bounds requests by timeout and logs to logOutput
// (nil: standard error). For the rest see [NewNetworkTransportWithConfig].
func NewNetworkTransport(stream StreamLayer, maxPool int, timeout time.Duration, logOutput io.Writer) *NetworkTransport {
	return NewNetworkTransportWithLogger(stream, maxPool, timeout, logs.New(logOutput))
}

// NewNetworkTransportWithLogger is [NewNetworkTransport] with a logger.
func NewNetworkTransportWithLogger(stream StreamLayer, maxPool int, timeout time.Duration, logger hclog.Logger) *NetworkTransport {
	return NewNetworkTransportWithConfig(&NetworkTransportConfig{
		Stream: stream, MaxPool: maxPool, Timeout: timeout, Logger: logger,
	})
}

// NewNetworkTransportWithConfig returns a transport over config.Stream and
// begins to accept connections. Heartbeats that arrive before
// SetHeartbeatHandler go to Consumer.
//
// It cannot return an error. With a configuration that makes no sense it closes
// Stream, logs what is wrong and returns a transport that is shut down: peers
// are refused at once, and every call returns an error that says what to do.
func NewNetworkTransportWithConfig(config *NetworkTransportConfig) *NetworkTransport {
	if config == nil {
		config = new(NetworkTransportConfig)
	}
	if sock.IsNil(config.Logger) {
		config.Logger = logs.Default()
	}
	n := newNetworkTransport(config)
	if err := config.check(); err != nil {
		n.refuse(err)
		return n
	}
	n.openDoor()
	return n
}

func newNetworkTransport(config *NetworkTransportConfig) *NetworkTransport {
	consumer := make(chan RPC)
	n := &NetworkTransport{
		TimeoutScale:      DefaultTimeoutScale,
		logger:            config.Logger,
		stream:            config.stream(),
		timeout:           config.Timeout,
		restoreTimeout:    config.RestoreTimeout,
		snapshotPace:      pacer{rate: config.MaxSnapshotBytesPerSecond},
		stallLimits:       config.stallLimits(),
		maxInFlight:       config.maxRPCsInFlight(),
		maxDispatchAhead:  config.maxDispatchAhead(),
		maxMessageBytes:   config.MaxMessageBytes,
		noSharedEntries:   config.NoSharedEntries,
		newTime:           config.MsgpackUseNewTimeFormat,
		hooks:             config.Hooks,
		noAddressFallback: config.NoAddressFallback,
		desk:              dispatch.NewDesk(consumer, newRPC),
		pool:              pool{maxPool: config.MaxPool, canCancel: dialing.CanCancel(config.stream())},
		door: door.Door{
			MaxConns:   config.maxConns(),
			MaxPerHost: config.maxConnsPerHost(),
			Timeout:    config.firstByteTimeout(),
			Late:       errSilent,
		},
		refusals:   door.Refusals{Hook: refusedHook(config.Hooks.Refused)},
		shutdownCh: make(chan struct{}),
	}
	n.door.Tasks, n.door.Refusals = &n.tasks, &n.refusals
	if n.stream != nil {
		n.logger = n.logger.With(logs.KeyLocal, n.LocalAddr())
	}
	n.addresses = addressbook.Book{
		Provider:  config.provider(),
		Changed:   n.addressChanged,
		Tasks:     &n.tasks,
		ErrClosed: ErrTransportShutdown,
	}
	n.life, n.end = context.WithCancel(context.Background())
	n.SetDispatcher(nil)
	return n
}

func newRPC(command any, body io.Reader, answers chan<- RPCResponse) RPC {
	return RPC{Command: command, Reader: body, RespChan: answers}
}

// refuse makes a transport that nothing can be done with. Its stream is closed,
// too: peers would connect, and wait for somebody to accept.
func (n *NetworkTransport) refuse(err error) {
	n.logger.Error("transport not started", logs.KeyError, err)
	n.refusal = err
	n.beginShutdown()
	_ = n.endDials()
	if n.stream != nil {
		_ = n.stream.Close()
	}
}

// Consumer implements [Transport]. The channel is unbuffered.
func (n *NetworkTransport) Consumer() <-chan RPC { return n.desk.Consumer() }

// LocalAddr implements [Transport]: the address of the stream layer, or "" while
// that has none.
func (n *NetworkTransport) LocalAddr() ServerAddress {
	if n.stream == nil {
		return ""
	}
	return ServerAddress(sock.AddressOf(n.stream.Addr()))
}

// SetHeartbeatHandler implements [Transport].
func (n *NetworkTransport) SetHeartbeatHandler(cb func(rpc RPC)) { n.desk.SetHeartbeatHandler(cb) }

// SetDispatcher implements [WithDispatcher].
func (n *NetworkTransport) SetDispatcher(open func(done <-chan struct{}) Dispatcher) {
	if open == nil {
		open = n.openLine
	}
	n.open.Store((*openDispatcher)(&open))
}

// openLine opens the dispatcher that hands requests to Consumer.
func (n *NetworkTransport) openLine(done <-chan struct{}) Dispatcher { return line{n.desk.Open(done)} }

// EncodePeer implements [Transport]: the address that the provider gives for
// id, or else addr, as it is. It waits for the provider's first answer about
// id, no longer than Timeout.
func (n *NetworkTransport) EncodePeer(id ServerID, addr ServerAddress) []byte {
	return []byte(n.recall(id, addr))
}

// DecodePeer implements [Transport].
func (n *NetworkTransport) DecodePeer(buf []byte) ServerAddress { return ServerAddress(buf) }

// AppendEntries implements [Transport].
func (n *NetworkTransport) AppendEntries(id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return n.call(id, target, rpcAppendEntries, args, resp)
}

// RequestVote implements [Transport].
func (n *NetworkTransport) RequestVote(id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return n.call(id, target, rpcRequestVote, args, resp)
}

// RequestPreVote implements [WithPreVote].
func (n *NetworkTransport) RequestPreVote(id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return n.call(id, target, rpcRequestPreVote, args, resp)
}

// TimeoutNow implements [Transport].
func (n *NetworkTransport) TimeoutNow(id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return n.call(id, target, rpcTimeoutNow, args, resp)
}

// AppendEntriesPipeline implements [Transport].
func (n *NetworkTransport) AppendEntriesPipeline(id ServerID, target ServerAddress) (AppendPipeline, error) {
	return n.AppendEntriesPipelineTo(id, target, nil)
}

// AppendEntriesPipelineTo implements [WithPipelineSink]. A nil sink means the
// pipeline's Consumer.
func (n *NetworkTransport) AppendEntriesPipelineTo(id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	if n.maxInFlight < minInFlightForPipelining && !n.IsShutdown() {
		return nil, ErrPipelineReplicationNotSupported
	}
	to, err := n.destination(id, target, time.Now())
	if err != nil {
		return nil, n.explain(rpcAppendEntries, to.addr, err)
	}
	c, _, err := n.connect(to, time.Time{})
	if err != nil {
		return nil, n.explain(rpcAppendEntries, to.addr, err)
	}
	p := newPipeline(c.peer, newNetLink(n, c), n.maxInFlight, n.timeout, sink, &n.tasks)
	p.id, p.callBegun, p.callDone, p.traffic = id, n.hooks.CallBegun, n.hooks.CallDone, c.traffic
	if !p.begin() {
		return nil, n.down()
	}
	return p, nil
}

// CloseStreams closes every connection, in use or idle, inbound or outgoing,
// pipelines included; calls under way on them fail. The transport goes on with
// new ones. It is for when peers have to authenticate again. It blocks for 5 ms,
// so that connections which are just being accepted are closed, too.
func (n *NetworkTransport) CloseStreams() {
	// A connection that its peer has made may still be on its way through
	// Accept. It is one of those to close, so it gets the time to arrive.
	tasks.Pause(acceptGrace, n.shutdownCh)
	door.CloseAll(n.everything(), errStreamsClosed, tasks.CloseWait)
}

// everything begins a new generation of the pool. It returns what was open, in both
// directions.
func (n *NetworkTransport) everything() (all []door.Closer) {
	for _, c := range n.renew() {
		all = append(all, c)
	}
	for _, visit := range n.door.Visits() {
		all = append(all, visit)
	}
	return all
}

// ClosePeer implements [WithClosePeer]. address is the one that is dialled, which a
// ServerAddressProvider may have given. Inbound connections stay open, and so does a
// snapshot whose reader blocks until that returns. A dial that cannot be ended
// (see [StreamLayer]) goes on, and what it brings is closed. ClosePeer returns when the
// connections are closed, after a second at most; it does not wait for hooks.
func (n *NetworkTransport) ClosePeer(address ServerAddress) {
	door.CloseAll(n.takePeer(address, ErrClosePeer), ErrClosePeer, tasks.CloseWait)
}

// IsShutdown reports whether the transport is shut down: Close was called, or its
// configuration made no sense (see [NewNetworkTransportWithConfig]).
func (n *NetworkTransport) IsShutdown() bool { return tasks.IsClosed(n.shutdownCh) }

// down returns what calls on a closed transport return.
func (n *NetworkTransport) down() error {
	if n.refusal != nil {
		return n.refusal
	}
	return ErrTransportShutdown
}

// Close implements [WithClose]. It ends the listener and every connection, and
// waits for the transport's goroutines, but no longer than a second for one that is
// in code of somebody else (a heartbeat handler or hook that does not return); its
// error says so then. It does not wait for an Accept that does not return when the
// StreamLayer is closed: one goroutine stays in it, which keeps nothing of the
// transport and closes the connection that it still gets, and the log says so.
func (n *NetworkTransport) Close() error {
	n.closing.Do(n.beginClose)
	return n.tasks.AwaitEnd()
}

// beginClose has all that may block done on other goroutines. First comes what the
// transport itself has: a layer's Close may wait.
func (n *NetworkTransport) beginClose() {
	if !n.beginShutdown() {
		return // it was refused
	}
	dials := n.endDials()
	n.door.Close(ErrTransportShutdown)
	door.CloseAll(n.everything(), ErrTransportShutdown, 0)
	n.tasks.Start(n.closeStream)
	n.awaitDials(dials)
}

func (n *NetworkTransport) closeStream() {
	if n.acceptor != nil {
		n.acceptor.Stop()
	}
	_ = n.stream.Close()
	if n.acceptor != nil {
		n.acceptor.AwaitEnd(n.logger)
	}
}

// endDials ends what is under way for good, tells of it, and returns it. Dials that
// do not return are on their own from then on.
func (n *NetworkTransport) endDials() []*dial {
	dials, unreturned := n.disown()
	if n.end != nil {
		n.end()
	}
	n.tasks.Start(func() { // hooks may block
		for _, d := range unreturned {
			n.reportDial(d, ErrTransportShutdown)
		}
	})
	return dials
}

// dialGrace is how long Close waits for dials that it has ended.
const dialGrace = 100 * time.Millisecond

// awaitDials waits for dials that end with their context, but not for ever: that of a
// foreign layer may not.
func (n *NetworkTransport) awaitDials(dials []*dial) {
	if !n.canCancel {
		return
	}
	expired, stop := after(dialGrace)
	defer stop()
	for _, d := range dials {
		select {
		case <-d.done:
		case <-expired:
			return
		}
	}
}

func (n *NetworkTransport) beginShutdown() (first bool) {
	n.shutdownLock.Lock()
	defer n.shutdownLock.Unlock()
	if n.shutdown {
		return false
	}
	n.shutdown = true
	close(n.shutdownCh)
	return true
}
