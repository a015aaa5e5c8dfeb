package raftwire

import (
	"cmp"
	"context"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/dispatch"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// acceptGrace is how long CloseStreams waits for connections to be accepted.
const acceptGrace = 5 * time.Millisecond

// NetworkTransport is a [Transport] over the connections of a [StreamLayer].
// Make one with a constructor; all methods may be called by several goroutines.
//
// It keeps idle connections for each peer and checks them before use. An inbound
// connection has one goroutine. While requests come faster than the core answers, it has
// up to two more.
type NetworkTransport struct {
	// Tests written for hashicorp/raft make this struct by hand: the fields that
	// they set keep their names, and the others may be zero.

	// TimeoutScale is how many bytes of a snapshot a follower is expected to
	// restore within one Timeout; see NetworkTransportConfig.RestoreTimeout. 0
	// and negative values mean DefaultTimeoutScale. Set it before the first
	// call of InstallSnapshot.
	TimeoutScale int

	logger         hclog.Logger
	stream         StreamLayer
	timeout        time.Duration
	restoreTimeout time.Duration
	snapshotPace   pacer
	stallLimits    stallLimits // of snapshots
	maxInFlight    int
	newTime        bool
	hooks          Hooks

	inbox *dispatch.Dispatcher[RPC, RPCResponse]

	addresses resolver
	pool
	server   server
	acceptor *door.Acceptor // nil if made by hand, and if the configuration was refused
	tasks    tasks.Group

	life context.Context // ends on Close
	end  context.CancelFunc

	refusal    error         // what calls return after shutdown; nil means ErrTransportShutdown
	shutdownCh chan struct{} // closed by closing
	closing    sync.Once
}

var (
	_ Transport        = (*NetworkTransport)(nil)
	_ WithPreVote      = (*NetworkTransport)(nil)
	_ WithClose        = (*NetworkTransport)(nil)
	_ WithClosePeer    = (*NetworkTransport)(nil)
	_ WithContext      = (*NetworkTransport)(nil)
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
		TimeoutScale:   DefaultTimeoutScale,
		logger:         config.Logger,
		stream:         config.stream(),
		timeout:        config.Timeout,
		restoreTimeout: config.RestoreTimeout,
		snapshotPace:   pacer{rate: config.MaxSnapshotBytesPerSecond},
		stallLimits:    config.stallLimits(),
		maxInFlight:    cmp.Or(config.MaxRPCsInFlight, DefaultMaxRPCsInFlight),
		newTime:        config.MsgpackUseNewTimeFormat,
		hooks:          config.Hooks,
		inbox:          dispatch.New(consumer, newRPC),
		pool:           pool{maxPool: config.MaxPool},
		shutdownCh:     make(chan struct{}),
	}
	if n.stream != nil {
		n.logger = n.logger.With(logs.KeyLocal, n.LocalAddr())
	}
	n.life, n.end = context.WithCancel(context.Background())
	n.dialer = dialer{
		stream:    n.stream,
		self:      config.Identity.self(n.LocalAddr()),
		canCancel: dialing.CanCancel(n.stream),
		timeout:   n.timeout,
		life:      n.life,
		done:      n.shutdownCh,
		doubt:     func(id ServerID) { n.addresses.book.Doubt(string(id)) },
		tasks:     &n.tasks,
		hooks:     &n.hooks,
	}
	n.addresses = resolver{
		noFallback: config.NoAddressFallback,
		timeout:    n.timeout,
		logger:     n.logger,
		retire:     func(addr ServerAddress) { n.drop(addr, errAddressLeft, true) },
	}
	book := &n.addresses.book
	book.Provider, book.Changed = config.provider(), n.addresses.changed
	book.Tasks, book.Done, book.ErrClosed = &n.tasks, n.shutdownCh, ErrTransportShutdown
	n.setUpServer(config)
	return n
}

func (n *NetworkTransport) setUpServer(config *NetworkTransportConfig) {
	s := &n.server
	s.logger, s.timeout, s.hooks, s.tasks, s.done = n.logger, n.timeout, &n.hooks, &n.tasks, n.shutdownCh
	s.self = n.dialer.self
	s.maxDispatchAhead = cmp.Or(config.MaxDispatchAhead, defaultMaxDispatchAhead)
	s.maxMessageBytes = config.MaxMessageBytes
	s.noSharedEntries = config.NoSharedEntries
	s.snapshots = n.stallLimits
	s.snapshotPatience = n.snapshotPatience
	s.refusals.Hook = refusedHook(config.Hooks.Refused)
	s.door.MaxConns = cmp.Or(config.MaxConns, DefaultMaxConns)
	s.door.MaxPerHost = cmp.Or(config.MaxConnsPerHost, DefaultMaxConnsPerHost)
	s.door.Timeout, s.door.Late = max(cmp.Or(config.FirstByteTimeout, DefaultFirstByteTimeout), 0), errSilent
	s.door.Tasks, s.door.Refusals = s.tasks, &s.refusals
	n.SetDispatcher(nil)
}

// openDoor begins to take connections.
func (n *NetworkTransport) openDoor() {
	n.acceptor = n.newAcceptor()
	n.acceptor.Start()
}

// listen accepts connections until the transport is closed.
func (n *NetworkTransport) listen() { <-n.newAcceptor().Start() }

func (n *NetworkTransport) newAcceptor() *door.Acceptor {
	return &door.Acceptor{Listener: n.stream, Done: n.shutdownCh, Take: n.server.accept, Logger: n.logger, Tasks: &n.tasks}
}

func newRPC(command any, body io.Reader, answers chan<- RPCResponse) RPC {
	return RPC{Command: command, Reader: body, RespChan: answers}
}

// refuse makes a transport that nothing can be done with. Its stream is closed,
// too: peers would connect, and wait for somebody to accept.
func (n *NetworkTransport) refuse(err error) {
	n.logger.Error("transport not started", logs.KeyError, err)
	n.refusal = err
	n.closing.Do(func() { close(n.shutdownCh) })
	n.end()
	if n.stream != nil {
		_ = n.stream.Close()
	}
}

// Consumer implements [Transport]. The channel is unbuffered.
func (n *NetworkTransport) Consumer() <-chan RPC { return n.inbox.Consumer() }

// LocalAddr implements [Transport]: the address of the stream layer, or "" while
// that has none.
func (n *NetworkTransport) LocalAddr() ServerAddress {
	if n.stream == nil {
		return ""
	}
	return ServerAddress(sock.AddressOf(n.stream.Addr()))
}

// SetHeartbeatHandler implements [Transport].
func (n *NetworkTransport) SetHeartbeatHandler(cb func(rpc RPC)) { n.inbox.SetHeartbeatHandler(cb) }

// SetDispatcher implements [WithDispatcher].
func (n *NetworkTransport) SetDispatcher(open func(done <-chan struct{}) Dispatcher) {
	if open == nil {
		open = n.openConsumer
	}
	n.server.open.Store((*openDispatcher)(&open))
}

// openConsumer opens the dispatcher that hands requests to Consumer.
func (n *NetworkTransport) openConsumer(done <-chan struct{}) Dispatcher {
	return consumerDispatcher{n.inbox.Open(done)}
}

// EncodePeer implements [Transport]: the address that the provider gives for
// id, or else addr, as it is. It waits for the provider's first answer about
// id, no longer than Timeout.
func (n *NetworkTransport) EncodePeer(id ServerID, addr ServerAddress) []byte {
	return []byte(n.addresses.recall(id, addr))
}

// DecodePeer implements [Transport].
func (n *NetworkTransport) DecodePeer(buf []byte) ServerAddress { return ServerAddress(buf) }

// snapshotPatience is how long the connection of a snapshot may have to wait in
// all, which its socket must not cut short; 0 means for ever.
func (n *NetworkTransport) snapshotPatience(size int64) time.Duration {
	restore := n.restoreLimit(size)
	if restore <= 0 || n.stallLimits.stall <= 0 {
		return 0
	}
	return n.stallLimits.stall + restore
}

// restoreLimit is how long a follower may take to restore size bytes; 0 means
// for ever. It never divides by zero and never overflows.
func (n *NetworkTransport) restoreLimit(size int64) time.Duration {
	if n.restoreTimeout > 0 || n.timeout <= 0 {
		return n.restoreTimeout
	}
	scale := n.TimeoutScale
	if scale <= 0 {
		scale = DefaultTimeoutScale
	}
	limit := max(10, float64(size/int64(scale))) * float64(n.timeout)
	return time.Duration(min(limit, float64(max(maxRestoreTimeout, n.timeout))))
}

// CloseStreams closes every connection, in use or idle, inbound or outgoing,
// pipelines included; calls under way on them fail. The transport continues with
// new ones. Use it when peers have to authenticate again. It blocks for 5 ms, so
// that connections that are just being accepted are closed too.
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
	for _, visit := range n.server.door.Visits() {
		all = append(all, visit)
	}
	return all
}

// ClosePeer implements [WithClosePeer]. address is the one that is dialled, which a
// ServerAddressProvider may have given. Inbound connections stay open. If a dial cannot
// be ended (see [StreamLayer]), its connection is closed as soon as there is one.
// ClosePeer returns when the connections are closed, after a second at most. It does not
// wait for hooks.
func (n *NetworkTransport) ClosePeer(address ServerAddress) {
	door.CloseAll(n.takePeer(address, ErrClosePeer), ErrClosePeer, tasks.CloseWait)
}

// IsShutdown reports whether the transport is shut down: Close was called, or its
// configuration made no sense (see [NewNetworkTransportWithConfig]).
func (n *NetworkTransport) IsShutdown() bool { return tasks.IsClosed(n.shutdownCh) }

// down returns what calls on a closed transport return.
func (n *NetworkTransport) down() error { return cmp.Or(n.refusal, ErrTransportShutdown) }

// Close implements [WithClose]. It ends the listener and every connection, and waits
// for the transport's goroutines. If a goroutine runs code of yours that does not
// return (a heartbeat handler or a hook), Close waits for a second, and returns an
// error that says so. It does not wait for an Accept that does not return when the
// StreamLayer is closed. One goroutine then stays in Accept, keeps nothing of the
// transport, and closes a connection that it still gets; the log says so.
func (n *NetworkTransport) Close() error {
	n.closing.Do(n.beginClose)
	return n.tasks.AwaitEnd()
}

// beginClose has all that may block done on other goroutines. First comes what the
// transport itself has: a layer's Close may wait.
func (n *NetworkTransport) beginClose() {
	close(n.shutdownCh)
	var dials []*dial
	if n.end != nil { // nil if made by hand
		n.end()
		dials = n.endDials()
	}
	n.server.door.Close(ErrTransportShutdown)
	door.CloseAll(n.everything(), ErrTransportShutdown, 0)
	n.tasks.Start(n.closeStream)
	n.awaitDials(dials)
}

func (n *NetworkTransport) closeStream() {
	if n.acceptor != nil {
		_ = n.acceptor.Close()
	} else {
		_ = n.stream.Close()
	}
}

// Stats returns the state of now. It may be called at any time, also by a hook: it
// waits for short locks only. Its cost grows with the number of open connections, so
// call it every few seconds, not for every request.
func (n *NetworkTransport) Stats() Stats {
	s := Stats{
		Peers:           n.pool.stats(),
		Inbound:         hostStats(n.server.door.Hosts()),
		InboundBytesIn:  n.server.inbound.In.Load(),
		InboundBytesOut: n.server.inbound.Out.Load(),
		Refusals:        n.Refusals(),
	}
	if layer, ok := n.stream.(interface{ Expires() (leaf, ca time.Time) }); ok {
		s.CertificateExpires, s.CAExpires = layer.Expires()
	}
	return s
}

// Refusals returns what was refused since the transport was made. It does not
// block.
func (n *NetworkTransport) Refusals() Refusals { return door.Counts[Refusals](&n.server.refusals) }
