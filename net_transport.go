package raftwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/dispatch"
)

// StreamLayer is what a [NetworkTransport] runs over: it accepts the connections
// of peers and dials them. Accept is called by one goroutine, and must return when
// Close has been called; Dial is called by several. A connection belongs to the
// transport, which closes it. Its deadlines must end calls under way, also one in
// the past, and leave the connection usable: nothing else ends a wait in time.
type StreamLayer interface {
	net.Listener

	// Dial connects to address. It returns within timeout; 0 or less means no
	// limit. What it returns beside an error is not looked at.
	// A layer may have a method
	//
	//	DialContext(ctx context.Context, address ServerAddress) (net.Conn, error)
	//
	// which is then used instead, so that Close ends a dial under way. ctx bounds
	// the dial only: it is cancelled when DialContext has returned.
	Dial(address ServerAddress, timeout time.Duration) (net.Conn, error)
}

type contextDialer interface {
	DialContext(ctx context.Context, address ServerAddress) (net.Conn, error)
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
	maxInFlight      int
	maxDispatchAhead int
	maxMessageBytes  int64
	firstByteTimeout time.Duration
	newTime          bool
	hooks            Hooks

	desk *dispatch.Desk[RPC, RPCResponse]
	open atomic.Pointer[openDispatcher]

	addresses addressBook
	pool
	gate    *gate
	tasks   tasks
	inbound traffic

	refusals refusals

	life context.Context // ends on Close, and with it dials under way
	end  context.CancelFunc

	refusal    error         // what calls return after shutdown; nil means ErrTransportShutdown
	shutdownCh chan struct{} // closed when shutdown becomes true

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
	_ WithDispatcher   = (*NetworkTransport)(nil)
	_ WithPipelineSink = (*NetworkTransport)(nil)
)

// NewNetworkTransport returns a transport over stream that keeps maxPool idle
// connections for each peer, bounds requests by timeout and logs to logOutput
// (nil: standard error). For the rest see [NewNetworkTransportWithConfig].
func NewNetworkTransport(stream StreamLayer, maxPool int, timeout time.Duration, logOutput io.Writer) *NetworkTransport {
	return NewNetworkTransportWithLogger(stream, maxPool, timeout, newLogger(logOutput))
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
	if config.Logger == nil {
		config.Logger = defaultLogger()
	}
	n := newNetworkTransport(config)
	if err := config.check(); err != nil {
		n.refuse(err)
		return n
	}
	n.tasks.start(n.listen)
	return n
}

func newNetworkTransport(config *NetworkTransportConfig) *NetworkTransport {
	consumer := make(chan RPC)
	n := &NetworkTransport{
		TimeoutScale:     DefaultTimeoutScale,
		logger:           config.Logger,
		stream:           config.stream(),
		timeout:          config.Timeout,
		restoreTimeout:   config.RestoreTimeout,
		snapshotPace:     pacer{rate: config.MaxSnapshotBytesPerSecond},
		maxInFlight:      config.maxRPCsInFlight(),
		maxDispatchAhead: config.maxDispatchAhead(),
		maxMessageBytes:  config.MaxMessageBytes,
		firstByteTimeout: config.firstByteTimeout(),
		newTime:          config.MsgpackUseNewTimeFormat,
		hooks:            config.Hooks,
		desk:             dispatch.NewDesk(consumer, newRPC),
		pool:             pool{maxPool: config.MaxPool},
		gate:             newGate(config.maxConns(), config.maxConnsPerHost()),
		refusals:         refusals{hook: config.Hooks.Refused},
		shutdownCh:       make(chan struct{}),
	}
	if n.stream != nil {
		n.logger = n.logger.With(keyLocal, n.LocalAddr())
	}
	n.addresses = addressBook{
		provider:   config.ServerAddressProvider,
		noFallback: config.NoAddressFallback,
		logger:     n.logger,
		tasks:      &n.tasks,
		left:       n.retire,
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
	n.logger.Error("transport not started", keyError, err)
	n.refusal = err
	n.beginShutdown()
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
	addr := n.stream.Addr()
	if addr == nil {
		return ""
	}
	return ServerAddress(addr.String())
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
	return []byte(n.addresses.recall(id, addr, func() (context.Context, context.CancelFunc) {
		return n.dialContext(n.deadline(time.Now()))
	}))
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
	deadline := n.deadline(time.Now())
	addr, err := n.address(id, target, deadline)
	if err != nil {
		return nil, n.explain(rpcAppendEntries, addr, err)
	}
	c, _, err := n.connect(addr, deadline, time.Time{})
	if err != nil {
		return nil, n.explain(rpcAppendEntries, addr, err)
	}
	p := newPipeline(c.peer, newNetLink(n, c), n.maxInFlight, n.timeout, sink, &n.tasks)
	p.callBegun, p.callDone, p.traffic = n.hooks.CallBegun, n.hooks.CallDone, c.traffic
	if !p.begin() {
		return nil, n.down()
	}
	return p, nil
}

// call sends a request and waits for its answer: on an idle connection if
// there is one, else on a new one.
func (n *NetworkTransport) call(id ServerID, target ServerAddress, kind rpcKind, args, resp any) error {
	return n.request(id, target, kind, args, resp, func(addr ServerAddress, start time.Time) (sizes, error) {
		return n.callAt(addr, start, kind, args, resp)
	})
}

// request is what all requests have in common: it finds the address, checks
// args, has send do the rest, explains its error, and tells the hooks.
func (n *NetworkTransport) request(id ServerID, target ServerAddress, kind rpcKind, args, resp any, send func(addr ServerAddress, start time.Time) (sizes, error)) error {
	if err := beginCall(args, resp); err != nil {
		return n.explain(kind, target, err)
	}
	start := time.Now()
	n.reportBegin(kind, target, start, args)
	addr, err := n.address(id, target, n.deadline(start))
	if err == nil {
		err = checkRequest(args)
	}
	var size sizes
	if err == nil {
		size, err = send(addr, start)
	}
	err = n.explain(kind, addr, err)
	n.reportCall(kind, addr, start, args, size, err)
	return err
}

func (n *NetworkTransport) callAt(addr ServerAddress, start time.Time, kind rpcKind, args, resp any) (sizes, error) {
	deadline := n.deadline(start)
	c, reused, err := n.connect(addr, deadline, start)
	if err != nil {
		return sizes{}, err
	}
	c.usedAt = start
	answered, err := c.call(deadline, kind, n.newTime, args, resp)
	if err != nil && reused && !answered && lostWhileIdle(err) {
		n.discard(c, err)
		n.drop(addr, errors.New("another connection to the peer was dead"))
		if c, err = n.dial(addr, deadline); err != nil {
			return sizes{}, err
		}
		_, err = c.call(deadline, kind, n.newTime, args, resp)
	}
	size := c.last
	if err == nil {
		c.traffic.answered(start)
	}
	n.release(c, err)
	return size, err
}

func (n *NetworkTransport) reportBegin(kind rpcKind, target ServerAddress, start time.Time, args any) {
	if begun := n.hooks.CallBegun; begun != nil {
		e := callEvent(kind, target, start, args, 0, sizes{}, nil)
		lend(begun, &e)
	}
}

func (n *NetworkTransport) reportCall(kind rpcKind, addr ServerAddress, start time.Time, args any, size sizes, err error) {
	if done := n.hooks.CallDone; done != nil {
		e := callEvent(kind, addr, start, args, time.Since(start), size, err)
		lend(done, &e)
	}
}

func callEvent(kind rpcKind, peer ServerAddress, start time.Time, args any, took time.Duration, size sizes, err error) CallEvent {
	return CallEvent{
		Kind: kind.String(), Heartbeat: isHeartbeat(args), Peer: peer, Start: start, Took: took, Entries: entriesIn(args),
		RequestBytes: size.request, ResponseBytes: size.response, Err: err,
	}
}

// lent are the events that hooks of calls are lent, so that none is allocated.
var lent = sync.Pool{New: func() any { return new(CallEvent) }}

func lend(hook func(*CallEvent), event *CallEvent) {
	e := lent.Get().(*CallEvent)
	*e = *event
	hook(e)
	*e = CallEvent{}
	lent.Put(e)
}

// lostWhileIdle reports whether the first error on an idle connection means
// that its peer had left it. That can come to light at the very moment of its
// use, and then the request may be tried once on a new connection. It must not
// after a timeout, when the peer may be at work on it, nor after a Close of
// our own.
func lostWhileIdle(err error) bool {
	return !isTimeout(err) && !errors.Is(err, errStreamsClosed) && !errors.Is(err, ErrTransportShutdown)
}

// release gives a connection back after a call that ended with err.
func (n *NetworkTransport) release(c *conn, err error) {
	if c.failure() != nil {
		n.discard(c, err)
		return
	}
	n.put(c)
}

// explain is the package's explain, but an error that comes of the transport's
// own Close becomes what calls on a closed transport return.
func (n *NetworkTransport) explain(kind rpcKind, target ServerAddress, err error) error {
	if _, remote := err.(*RemoteError); err != nil && !remote && n.IsShutdown() {
		return n.down()
	}
	return explain(kind, target, err)
}

// deadline returns when a call that begins at start must have ended; zero is
// never.
func (n *NetworkTransport) deadline(start time.Time) time.Time {
	if n.timeout <= 0 {
		return time.Time{}
	}
	return start.Add(n.timeout)
}

// address returns where to reach a server, or target and an error.
func (n *NetworkTransport) address(id ServerID, target ServerAddress, deadline time.Time) (ServerAddress, error) {
	return n.addresses.find(id, target, func() (context.Context, context.CancelFunc) { return n.dialContext(deadline) })
}

// connect returns a connection to addr for the caller's sole use. now is that of
// pool.get: with the zero time every idle connection is checked.
func (n *NetworkTransport) connect(addr ServerAddress, deadline, now time.Time) (c *conn, reused bool, err error) {
	if n.IsShutdown() {
		return nil, false, n.down()
	}
	if c := n.get(addr, now); c != nil {
		return c, true, nil
	}
	c, err = n.dial(addr, deadline)
	return c, false, err
}

// dial opens a new connection. One that CloseStreams overtook while it was
// being made is not used, and made again.
func (n *NetworkTransport) dial(addr ServerAddress, deadline time.Time) (*conn, error) {
	if err := n.addresses.mayDial(addr); err != nil {
		return nil, err
	}
	t, isNew := n.beginDial(addr)
	defer t.endDial()
	if isNew {
		n.sweep() // one address often takes the place of another
	}
	for {
		generation := n.current()
		raw, err := n.dialAndReport(addr, deadline)
		if err != nil {
			n.addresses.doubt(addr)
			return nil, fmt.Errorf("dial: %w", err)
		}
		c := newConn(raw, addr, n.timeout, &n.tasks)
		c.in.SetLimit("the limit of an answer", maxAnswerBytes)
		c.introduce(&n.hooks, t, false)
		err = n.add(c, generation)
		if err == nil {
			return c, nil
		}
		_ = c.close(err)
		if !errors.Is(err, errStale) {
			return nil, err
		}
	}
}

func (n *NetworkTransport) dialAndReport(addr ServerAddress, deadline time.Time) (net.Conn, error) {
	dialed := n.hooks.Dialed
	if dialed == nil {
		return n.dialRaw(addr, deadline)
	}
	start := sinceEpoch()
	raw, err := n.dialRaw(addr, deadline)
	e := DialEvent{Peer: addr, Took: sinceEpoch() - start, Err: err}
	if err != nil && n.IsShutdown() {
		e.Err = ErrTransportShutdown // which has ended it
	}
	dialed(e)
	return raw, err
}

func (n *NetworkTransport) dialRaw(addr ServerAddress, deadline time.Time) (net.Conn, error) {
	ctx, cancel := n.dialContext(deadline)
	defer cancel()
	return dialStream(ctx, n.stream, addr)
}

// dialContext returns a context that ends at the deadline and on Close.
func (n *NetworkTransport) dialContext(deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithCancel(n.life)
	}
	return context.WithDeadline(n.life, deadline)
}

// dialStream dials with a stream layer, and gives up when ctx is done.
func dialStream(ctx context.Context, stream StreamLayer, addr ServerAddress) (net.Conn, error) {
	if d, ok := stream.(contextDialer); ok {
		raw, err := d.DialContext(ctx, addr)
		if err != nil && ctx.Err() != nil {
			err = contextError(ctx, err)
		}
		return raw, err
	}
	return dialAside(ctx, stream, addr)
}

func contextError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return timeoutError("i/o timeout")
	}
	return err
}

// dialAside runs a Dial that cannot be cancelled on a goroutine of its own, so
// that the call ends with ctx whatever Dial does. Close cannot wait for that
// goroutine; what it still brings is closed.
func dialAside(ctx context.Context, stream StreamLayer, addr ServerAddress) (net.Conn, error) {
	var timeout time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		if timeout = time.Until(deadline); timeout <= 0 {
			return nil, timeoutError("i/o timeout")
		}
	}
	type result struct {
		raw net.Conn
		err error
	}
	results := make(chan result)
	go func() {
		raw, err := stream.Dial(addr, timeout)
		select {
		case results <- result{raw, err}:
		case <-ctx.Done():
			if err == nil {
				_ = raw.Close()
			}
		}
	}()
	select {
	case r := <-results:
		return r.raw, r.err
	case <-ctx.Done():
		return nil, contextError(ctx, ctx.Err())
	}
}

// CloseStreams closes every connection, in use or idle, inbound or outgoing,
// pipelines included; calls under way on them fail. The transport goes on with
// new ones. It is for when peers have to authenticate again. It blocks for 5 ms,
// so that connections which are just being accepted are closed, too.
func (n *NetworkTransport) CloseStreams() {
	// A connection that its peer has made may still be on its way through
	// Accept. It is one of those to close, so it gets the time to arrive.
	pauseFor(acceptGrace, n.shutdownCh)
	n.reset(errStreamsClosed, false)
}

// IsShutdown reports whether the transport is shut down: Close was called, or its
// configuration made no sense (see [NewNetworkTransportWithConfig]).
func (n *NetworkTransport) IsShutdown() bool { return isClosed(n.shutdownCh) }

// down returns what calls on a closed transport return.
func (n *NetworkTransport) down() error {
	if n.refusal != nil {
		return n.refusal
	}
	return ErrTransportShutdown
}

// Close implements [WithClose]. It ends the listener and every connection, and
// waits for the transport's goroutines, but no longer than a second for one
// that is in code of somebody else (a heartbeat handler that does not return);
// it says so then.
func (n *NetworkTransport) Close() error {
	if n.beginShutdown() {
		// First what the transport itself has: a layer's Close may wait.
		n.reset(ErrTransportShutdown, true)
		_ = n.stream.Close()
	}
	return n.tasks.wait()
}

func (n *NetworkTransport) beginShutdown() (first bool) {
	n.shutdownLock.Lock()
	defer n.shutdownLock.Unlock()
	if n.shutdown {
		return false
	}
	n.shutdown = true
	close(n.shutdownCh)
	if n.end != nil {
		n.end()
	}
	return true
}
