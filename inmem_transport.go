package raftwire

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/dispatch"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/tasks"
)

// defaultInmemTimeout is the timeout of NewInmemTransport.
const defaultInmemTimeout = 500 * time.Millisecond

var (
	errSendTimeout    = errno.Timeout("send timed out")    // the consumer did not take the request
	errCommandTimeout = errno.Timeout("command timed out") // it took it and did not answer
	errDisconnected   = errors.New("disconnected")
	errPeerClosed     = errors.New("the peer was closed")
)

// NewInmemAddr returns an address that no other call returns.
func NewInmemAddr() ServerAddress { return ServerAddress(rand.Text()) }

// InmemTransport is a [LoopbackTransport] for tests: requests go through
// channels, and behave as over a network. Sender and receiver share nothing.
// Heartbeats go to the heartbeat handler. A request is refused unless both ends are
// open and the sender was connected to the receiver. Disconnect and Close cut
// requests under way.
//
// Routes have a direction: for two transports to talk to each other, connect
// each to the other. An [InmemNetwork] does that by itself, and has faults.
//
// Timeouts use package time, so inside a testing/synctest bubble they are exact and
// take no time. They bound a request of any size, because only the latency of an
// InmemNetwork takes time. The text of a timeout says whether the peer's core took the
// request: "send timed out" if not, else "command timed out".
//
// The window of a pipeline is 16.
type InmemTransport struct {
	// Tests written for hashicorp/raft make this struct by hand: the fields that
	// they set keep their names, and the others may be zero.

	sync.RWMutex // protects following
	consumerCh   chan RPC
	localAddr    ServerAddress
	peers        map[ServerAddress]*InmemTransport // where its requests may go
	links        map[ServerAddress]*InmemLink      // by which they go there
	timeout      time.Duration
	self         *identity.Self // nil without an Identity
	closed       bool
	pipes        map[*inmemPipe]struct{} // under way, both directions

	once  sync.Once
	inbox *dispatch.Dispatcher[RPC, RPCResponse]
	open  atomic.Pointer[openDispatcher] // what SetDispatcher was given
	tasks tasks.Group
}

var (
	_ LoopbackTransport = (*InmemTransport)(nil)
	_ WithClosePeer     = (*InmemTransport)(nil)
	_ WithContext       = (*InmemTransport)(nil)
	_ WithDispatcher    = (*InmemTransport)(nil)
	_ WithPipelineSink  = (*InmemTransport)(nil)
)

// NewInmemTransport returns a transport with a timeout of 500 ms and its
// address: addr, or a new one if addr is empty.
func NewInmemTransport(addr ServerAddress) (ServerAddress, *InmemTransport) {
	return NewInmemTransportWithTimeout(addr, defaultInmemTimeout)
}

// NewInmemTransportWithTimeout is [NewInmemTransport] with a timeout; 0 or less
// means no limit.
func NewInmemTransportWithTimeout(addr ServerAddress, timeout time.Duration) (ServerAddress, *InmemTransport) {
	if addr == "" {
		addr = NewInmemAddr()
	}
	return addr, &InmemTransport{
		consumerCh: make(chan RPC),
		localAddr:  addr,
		peers:      make(map[ServerAddress]*InmemTransport),
		timeout:    timeout,
	}
}

// inbound returns where requests are handed in. It is made when first needed.
func (i *InmemTransport) inbound() *dispatch.Dispatcher[RPC, RPCResponse] {
	i.once.Do(func() { i.inbox = dispatch.New(i.consumerCh, newRPC) })
	return i.inbox
}

// Consumer implements [Transport]. The channel is unbuffered.
func (i *InmemTransport) Consumer() <-chan RPC { return i.consumerCh }

// LocalAddr implements [Transport].
func (i *InmemTransport) LocalAddr() ServerAddress { return i.localAddr }

// SetHeartbeatHandler implements [Transport].
func (i *InmemTransport) SetHeartbeatHandler(cb func(rpc RPC)) { i.inbound().SetHeartbeatHandler(cb) }

// SetDispatcher implements [WithDispatcher]. There are no connections: open is
// called for each request and each pipeline, which then keeps its Dispatcher.
func (i *InmemTransport) SetDispatcher(open func(done <-chan struct{}) Dispatcher) {
	i.open.Store((*openDispatcher)(&open))
}

// SetIdentity gives the transport an [Identity]. Call it before the first request: it has
// no effect on requests under way. It panics if the Identity makes no sense. In memory
// nothing counts or logs refusals, and a pipeline is refused when it is opened.
func (i *InmemTransport) SetIdentity(identity Identity) {
	if err := identity.check(); err != nil {
		panic("raftwire: SetIdentity: " + err.Error())
	}
	i.Lock()
	defer i.Unlock()
	i.self = identity.self(i.localAddr)
}

func (i *InmemTransport) identity() *identity.Self {
	i.RLock()
	defer i.RUnlock()
	return i.self
}

// EncodePeer implements [Transport].
func (i *InmemTransport) EncodePeer(_ ServerID, addr ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements [Transport].
func (i *InmemTransport) DecodePeer(buf []byte) ServerAddress { return ServerAddress(buf) }

// AppendEntries implements [Transport].
func (i *InmemTransport) AppendEntries(id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return i.AppendEntriesContext(context.Background(), id, target, args, resp)
}

// AppendEntriesContext implements [WithContext].
func (i *InmemTransport) AppendEntriesContext(ctx context.Context, id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return i.call(ctx, id, target, rpcAppendEntries, args, resp)
}

// RequestVote implements [Transport].
func (i *InmemTransport) RequestVote(id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return i.RequestVoteContext(context.Background(), id, target, args, resp)
}

// RequestVoteContext implements [WithContext].
func (i *InmemTransport) RequestVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return i.call(ctx, id, target, rpcRequestVote, args, resp)
}

// RequestPreVote implements [WithPreVote].
func (i *InmemTransport) RequestPreVote(id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return i.RequestPreVoteContext(context.Background(), id, target, args, resp)
}

// RequestPreVoteContext implements [WithContext].
func (i *InmemTransport) RequestPreVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return i.call(ctx, id, target, rpcRequestPreVote, args, resp)
}

// TimeoutNow implements [Transport].
func (i *InmemTransport) TimeoutNow(id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return i.TimeoutNowContext(context.Background(), id, target, args, resp)
}

// TimeoutNowContext implements [WithContext].
func (i *InmemTransport) TimeoutNowContext(ctx context.Context, id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return i.call(ctx, id, target, rpcTimeoutNow, args, resp)
}

func (i *InmemTransport) call(ctx context.Context, id ServerID, target ServerAddress, kind rpcKind, args, resp any) error {
	return i.request(ctx, kind, id, target, args, resp, func(pipe *inmemPipe) error {
		defer pipe.limit(i.timeout)()
		return pipe.exchange(kind, cloneRequest(args), resp)
	})
}

// request is what all requests have in common: it checks args and resp, has send
// do the rest through a pipe, and explains its error.
func (i *InmemTransport) request(ctx context.Context, kind rpcKind, id ServerID, target ServerAddress, args, resp any, send func(*inmemPipe) error) (err error) {
	defer func() { err = explain(kind, target, orEndOf(ctx, err)) }()
	if err := beginCall(args, resp); err != nil {
		return err
	}
	if err := checkRequest(args); err != nil {
		return err
	}
	pipe, err := i.openPipe(ctx, id, target)
	if err != nil {
		return err
	}
	if err := checkIntroduction(pipe.dialled, args); err != nil {
		pipe.close(err)
		return err
	}
	defer pipe.close(errAnswered)
	defer pipe.endAfter(ctx)()
	return send(pipe)
}

// errAnswered is what a pipe ends with that has served its purpose.
var errAnswered = errors.New("answered")

// AppendEntriesPipeline implements [Transport].
func (i *InmemTransport) AppendEntriesPipeline(id ServerID, target ServerAddress) (AppendPipeline, error) {
	return i.AppendEntriesPipelineContext(context.Background(), id, target)
}

// AppendEntriesPipelineContext implements [WithContext].
func (i *InmemTransport) AppendEntriesPipelineContext(ctx context.Context, id ServerID, target ServerAddress) (AppendPipeline, error) {
	return i.openPipeline(ctx, id, target, nil)
}

// inmemWindow is the window of a pipeline.
const inmemWindow = 16

// AppendEntriesPipelineTo implements [WithPipelineSink]. A nil sink means the
// pipeline's Consumer. Opening costs one round trip.
func (i *InmemTransport) AppendEntriesPipelineTo(id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	return i.openPipeline(context.Background(), id, target, sink)
}

func (i *InmemTransport) openPipeline(ctx context.Context, id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	pipe, err := i.openPipe(ctx, id, target)
	if err == nil {
		var l *pipeLink
		stop := pipe.endAfter(ctx)
		l, err = openPipeLink(pipe, i.timeout)
		if !stop() {
			err = cmp.Or(err, endOf(ctx))
		}
		if err == nil {
			p := newPipeline(target, l, inmemWindow, i.timeout, sink, &i.tasks)
			p.traffic = &pipe.there.traffic
			if p.begin() {
				return p, nil
			}
			err = ErrTransportShutdown
		}
		pipe.close(err)
	}
	return nil, explain(rpcAppendEntries, target, orEndOf(ctx, err))
}

// Connect implements [WithPeers]. t must be an *InmemTransport, or have a
// method Unwrap() Transport that leads to one; otherwise Connect panics.
func (i *InmemTransport) Connect(peer ServerAddress, t Transport) {
	i.connect(peer, unwrapInmem(t), nil)
}

// connect makes link the way to a peer. Nil leaves the one that there is.
func (i *InmemTransport) connect(addr ServerAddress, peer *InmemTransport, link *InmemLink) {
	i.Lock()
	defer i.Unlock()
	set(&i.peers, addr, peer)
	if link != nil {
		set(&i.links, addr, link)
	}
}

func unwrapInmem(t Transport) *InmemTransport {
	for {
		switch u := t.(type) {
		case *InmemTransport:
			return u
		case interface{ Unwrap() Transport }:
			t = u.Unwrap()
		default:
			panic(fmt.Sprintf("raftwire: an InmemTransport can be connected to another one only, not to a %T", t))
		}
	}
}

// Disconnect implements [WithPeers]. It cuts requests under way to peer. For the other
// direction, disconnect the peer too.
func (i *InmemTransport) Disconnect(peer ServerAddress) {
	i.cut(func(addr ServerAddress) bool { return addr == peer }, true, errDisconnected)
}

// DisconnectAll implements [WithPeers].
func (i *InmemTransport) DisconnectAll() {
	i.cut(func(ServerAddress) bool { return true }, true, errDisconnected)
}

// ClosePeer implements [WithClosePeer]. The route to peer stays.
func (i *InmemTransport) ClosePeer(peer ServerAddress) {
	i.cut(func(addr ServerAddress) bool { return addr == peer }, false, ErrClosePeer)
}

// cut ends what is under way to some peers, and with routes the routes to them.
func (i *InmemTransport) cut(to func(ServerAddress) bool, routes bool, why error) {
	i.Lock()
	defer i.Unlock()
	if routes {
		maps.DeleteFunc(i.peers, func(peer ServerAddress, _ *InmemTransport) bool { return to(peer) })
	}
	for pipe := range i.pipes {
		if pipe.from == i && to(pipe.target) {
			pipe.end(why)
		}
	}
}

// Close implements [WithClose]. It cuts what is under way in both directions,
// and waits for the transport's goroutines as [NetworkTransport.Close] does. A
// closed transport cannot be used again.
func (i *InmemTransport) Close() error {
	i.shut()
	return i.tasks.AwaitEnd()
}

// shut ends what is under way. Nothing is added to it any more, and the links are
// left to a successor at the address.
func (i *InmemTransport) shut() {
	i.Lock()
	defer i.Unlock()
	for pipe := range i.pipes {
		if pipe.from == i {
			pipe.end(ErrTransportShutdown)
		} else {
			pipe.leave()
		}
	}
	i.closed, i.pipes, i.peers, i.links = true, nil, nil, nil
}

// peer returns what requests to addr reach, or nil.
func (i *InmemTransport) peer(addr ServerAddress) *InmemTransport {
	i.RLock()
	defer i.RUnlock()
	return i.peers[addr]
}

// openPipe makes a way to target, for one request or for those of a pipeline.
func (i *InmemTransport) openPipe(ctx context.Context, id ServerID, target ServerAddress) (*inmemPipe, error) {
	i.Lock()
	defer i.Unlock()
	if i.closed {
		return nil, ErrTransportShutdown
	}
	if err := endOf(ctx); err != nil {
		return nil, err
	}
	if i.peers[target] == nil {
		return nil, refused(target)
	}
	if i.links[target] == nil {
		set(&i.links, target, &InmemLink{back: new(InmemLink)})
	}
	link := i.links[target]
	pipe := &inmemPipe{from: i, target: target, there: link, back: link.back, done: make(chan struct{}), gone: make(chan struct{})}
	pipe.dialled = identity.Dial(i.self, nil)
	pipe.dialled.Introduce(string(id), string(target))
	set(&i.pipes, pipe, struct{}{})
	return pipe, nil
}

func refused(target ServerAddress) error { return fmt.Errorf("failed to connect to peer: %v", target) }

// accept takes a pipe that a sender has opened; false means that i is closed.
func (i *InmemTransport) accept(pipe *inmemPipe) bool {
	i.Lock()
	defer i.Unlock()
	if !i.closed {
		set(&i.pipes, pipe, struct{}{})
	}
	return !i.closed
}

// othersWait reports whether a request waits for i's core that is not from's.
func (i *InmemTransport) othersWait(from *InmemTransport) bool {
	i.RLock()
	defer i.RUnlock()
	for pipe := range i.pipes {
		if pipe.from != i && pipe.from != from && pipe.waits.Load() {
			return true
		}
	}
	return false
}

func (i *InmemTransport) remove(pipe *inmemPipe) {
	i.Lock()
	defer i.Unlock()
	delete(i.pipes, pipe)
}

// dispatcher opens what hands requests to this transport's core.
func (i *InmemTransport) dispatcher(done <-chan struct{}) Dispatcher {
	if open := i.open.Load(); open != nil && *open != nil {
		return open.dispatcher(done)
	}
	return consumerDispatcher{i.inbound().Open(done)}
}
