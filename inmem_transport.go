package raftwire

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/dispatch"
)

// defaultInmemTimeout is the timeout of NewInmemTransport.
const defaultInmemTimeout = 500 * time.Millisecond

var (
	errSendTimeout    = timeoutError("send timed out")    // the consumer did not take the request
	errCommandTimeout = timeoutError("command timed out") // it took it and did not answer
	errDisconnected   = errors.New("disconnected")
)

// NewInmemAddr returns an address that no other call returns.
func NewInmemAddr() ServerAddress { return ServerAddress(rand.Text()) }

// InmemTransport is a [LoopbackTransport] for tests: requests go through
// channels, and behave as over a network. Sender and receiver share nothing;
// heartbeats go to the heartbeat handler; a request is refused unless both
// ends are open and the sender was connected to the receiver; Disconnect and
// Close cut what is under way.
//
// Routes have a direction: for two transports to talk to each other, connect
// each to the other. Timeouts are measured with package time, so that inside a
// testing/synctest bubble they are exact and take no time.
type InmemTransport struct {
	sync.RWMutex // protects following
	consumerCh   chan RPC
	localAddr    ServerAddress
	peers        map[ServerAddress]*InmemTransport
	timeout      time.Duration
	closed       bool
	pipes        map[*inmemPipe]struct{} // under way, both directions

	once  sync.Once
	desk  *dispatch.Desk[RPC, RPCResponse]
	open  openDispatcher
	tasks tasks
}

var (
	_ LoopbackTransport = (*InmemTransport)(nil)
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
func (i *InmemTransport) inbound() *dispatch.Desk[RPC, RPCResponse] {
	i.once.Do(func() { i.desk = dispatch.NewDesk(i.consumerCh, newRPC) })
	return i.desk
}

// Consumer implements [Transport]. The channel is unbuffered.
func (i *InmemTransport) Consumer() <-chan RPC { return i.consumerCh }

// LocalAddr implements [Transport].
func (i *InmemTransport) LocalAddr() ServerAddress { return i.localAddr }

// SetHeartbeatHandler implements [Transport].
func (i *InmemTransport) SetHeartbeatHandler(cb func(rpc RPC)) { i.inbound().SetHeartbeatHandler(cb) }

// SetDispatcher implements [WithDispatcher]. There are no connections: open is
// called for each request and each pipeline.
func (i *InmemTransport) SetDispatcher(open func(done <-chan struct{}) Dispatcher) {
	i.Lock()
	defer i.Unlock()
	i.open = open
}

// EncodePeer implements [Transport].
func (i *InmemTransport) EncodePeer(_ ServerID, addr ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements [Transport].
func (i *InmemTransport) DecodePeer(buf []byte) ServerAddress { return ServerAddress(buf) }

// AppendEntries implements [Transport].
func (i *InmemTransport) AppendEntries(_ ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return i.call(target, rpcAppendEntries, args, resp)
}

// RequestVote implements [Transport].
func (i *InmemTransport) RequestVote(_ ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return i.call(target, rpcRequestVote, args, resp)
}

// RequestPreVote implements [WithPreVote].
func (i *InmemTransport) RequestPreVote(_ ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return i.call(target, rpcRequestPreVote, args, resp)
}

// TimeoutNow implements [Transport].
func (i *InmemTransport) TimeoutNow(_ ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return i.call(target, rpcTimeoutNow, args, resp)
}

func (i *InmemTransport) call(target ServerAddress, kind rpcKind, args, resp any) error {
	clearResponse(resp)
	pipe, err := i.connectFor(target, args)
	if err == nil {
		defer pipe.close(errAnswered)
		defer pipe.limit(i.timeout)()
		err = pipe.exchange(kind, cloneRequest(args), nil, resp)
	}
	return explainInmem(kind, target, err)
}

// errAnswered is what a pipe ends with that has served its purpose.
var errAnswered = errors.New("answered")

// explainInmem is explain, with short timeouts.
func explainInmem(kind rpcKind, target ServerAddress, err error) error {
	err = explain(kind, target, err)
	if op, ok := err.(*OpError); ok && op.Timeout() {
		return &terseTimeout{op}
	}
	return err
}

// terseTimeout is an OpError with the text that hashicorp/raft's memory
// transport gives to a timeout, since tests compare it.
type terseTimeout struct{ *OpError }

func (e *terseTimeout) Error() string { return e.Err.Error() }
func (e *terseTimeout) Unwrap() error { return e.OpError }

// InstallSnapshot implements [Transport]. The body goes to the peer in copies.
// It is bounded by progress: a chunk must be taken within the timeout, and the
// answer must come within ten timeouts after the last one.
func (i *InmemTransport) InstallSnapshot(_ ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	clearResponse(resp)
	pipe, err := i.connectFor(target, args)
	if err == nil {
		err = newInmemSnapshot(pipe, i.timeout).transfer(args, resp, data)
		pipe.close(errAnswered)
	}
	return explainInmem(rpcInstallSnapshot, target, err)
}

// AppendEntriesPipeline implements [Transport].
func (i *InmemTransport) AppendEntriesPipeline(id ServerID, target ServerAddress) (AppendPipeline, error) {
	return i.AppendEntriesPipelineTo(id, target, nil)
}

// inmemWindow is the window of a pipeline.
const inmemWindow = 16

// AppendEntriesPipelineTo implements [WithPipelineSink]. A nil sink means the
// pipeline's Consumer.
func (i *InmemTransport) AppendEntriesPipelineTo(_ ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	pipe, err := i.connect(target)
	if err != nil {
		return nil, explainInmem(rpcAppendEntries, target, err)
	}
	l := newInmemLink(pipe)
	p := newPipeline(l, inmemWindow, i.timeout, sink, &i.tasks)
	if !pipe.to.tasks.start(l.serve) || !p.begin() {
		pipe.close(ErrTransportShutdown)
		return nil, ErrTransportShutdown
	}
	return p, nil
}

// Connect implements [WithPeers]. t must be an *InmemTransport, or have a
// method Unwrap() Transport that leads to one; otherwise Connect panics.
func (i *InmemTransport) Connect(peer ServerAddress, t Transport) {
	to := unwrapInmem(t)
	i.Lock()
	defer i.Unlock()
	if i.peers == nil {
		i.peers = make(map[ServerAddress]*InmemTransport)
	}
	i.peers[peer] = to
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

// Disconnect implements [WithPeers]. It cuts what is under way to peer; for
// the other direction disconnect the peer as well.
func (i *InmemTransport) Disconnect(peer ServerAddress) {
	for _, pipe := range i.cut(func(p *inmemPipe) bool { return p.from == i && p.target == peer }, peer) {
		pipe.close(errDisconnected)
	}
}

// DisconnectAll implements [WithPeers].
func (i *InmemTransport) DisconnectAll() {
	for _, pipe := range i.cut(func(p *inmemPipe) bool { return p.from == i }, i.routes()...) {
		pipe.close(errDisconnected)
	}
}

func (i *InmemTransport) routes() []ServerAddress {
	i.RLock()
	defer i.RUnlock()
	routes := make([]ServerAddress, 0, len(i.peers))
	for peer := range i.peers {
		routes = append(routes, peer)
	}
	return routes
}

// cut removes routes and returns the pipes that match.
func (i *InmemTransport) cut(match func(*inmemPipe) bool, routes ...ServerAddress) []*inmemPipe {
	i.Lock()
	defer i.Unlock()
	for _, peer := range routes {
		delete(i.peers, peer)
	}
	var pipes []*inmemPipe
	for pipe := range i.pipes {
		if match(pipe) {
			pipes = append(pipes, pipe)
		}
	}
	return pipes
}

// Close implements [WithClose]. It cuts what is under way in both directions,
// and waits for the transport's goroutines as [NetworkTransport.Close] does. A
// closed transport cannot be used again.
func (i *InmemTransport) Close() error {
	for _, pipe := range i.shut() {
		pipe.close(ErrTransportShutdown)
	}
	return i.tasks.wait()
}

func (i *InmemTransport) shut() []*inmemPipe {
	i.Lock()
	i.closed = true
	i.Unlock()
	return i.cut(func(*inmemPipe) bool { return true }, i.routes()...)
}

func (i *InmemTransport) connectFor(target ServerAddress, args any) (*inmemPipe, error) {
	if err := checkRequest(args); err != nil {
		return nil, err
	}
	return i.connect(target)
}

// connect opens a way to target for one request, or for a pipeline's.
func (i *InmemTransport) connect(target ServerAddress) (*inmemPipe, error) {
	to, err := i.route(target)
	if err != nil {
		return nil, err
	}
	pipe := &inmemPipe{from: i, to: to, target: target, done: make(chan struct{})}
	if !to.add(pipe) {
		return nil, refused(target)
	}
	if !i.add(pipe) {
		pipe.close(ErrTransportShutdown)
		return nil, ErrTransportShutdown
	}
	return pipe, nil
}

func refused(target ServerAddress) error { return fmt.Errorf("failed to connect to peer: %v", target) }

func (i *InmemTransport) route(target ServerAddress) (*InmemTransport, error) {
	i.RLock()
	defer i.RUnlock()
	if i.closed {
		return nil, ErrTransportShutdown
	}
	to, ok := i.peers[target]
	if !ok {
		return nil, refused(target)
	}
	return to, nil
}

func (i *InmemTransport) add(pipe *inmemPipe) bool {
	i.Lock()
	defer i.Unlock()
	if i.closed {
		return false
	}
	if i.pipes == nil {
		i.pipes = make(map[*inmemPipe]struct{})
	}
	i.pipes[pipe] = struct{}{}
	return true
}

func (i *InmemTransport) remove(pipe *inmemPipe) {
	i.Lock()
	defer i.Unlock()
	delete(i.pipes, pipe)
}

// dispatcher opens what hands requests to this transport's core.
func (i *InmemTransport) dispatcher(done <-chan struct{}) Dispatcher {
	i.RLock()
	open := i.open
	i.RUnlock()
	if open != nil {
		return open(done)
	}
	return i.inbound().Open(done)
}

// inmemPipe is what a connection is to the network: it ends for a reason, and
// whoever waits on it wakes.
type inmemPipe struct {
	from, to *InmemTransport
	target   ServerAddress
	done     chan struct{} // closed by close

	mu    sync.Mutex // protects following
	err   error      // why it ended
	taken bool       // the consumer has the request
}

func (p *inmemPipe) close(err error) {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.err = err
		close(p.done)
	}
	p.mu.Unlock()
	if first {
		p.from.remove(p)
		p.to.remove(p)
	}
}

func (p *inmemPipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// limit closes the pipe after timeout, unless the function that it returns is
// called before.
func (p *inmemPipe) limit(timeout time.Duration) (stop func()) {
	if timeout <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(timeout, func() { p.close(p.timeoutError()) })
	return func() { timer.Stop() }
}

func (p *inmemPipe) timeoutError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		return errCommandTimeout
	}
	return errSendTimeout
}

func (p *inmemPipe) setTaken(taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = taken
}

// exchange hands command to the peer's core and copies its answer to resp.
func (p *inmemPipe) exchange(kind rpcKind, command any, body io.Reader, resp any) error {
	return p.exchangeBy(p.to.dispatcher(p.done), kind, command, body, resp)
}

func (p *inmemPipe) exchangeBy(d Dispatcher, kind rpcKind, command any, body io.Reader, resp any) error {
	p.setTaken(false)
	if !d.Dispatch(command, body, isHeartbeat(command)) {
		return p.failure()
	}
	p.setTaken(true)
	answer, ok := d.Answer()
	if !ok {
		return p.failure()
	}
	return p.copyAnswer(kind, answer, resp)
}

// copyAnswer does what the wire does to an answer.
func (p *inmemPipe) copyAnswer(kind rpcKind, answer RPCResponse, resp any) error {
	text := answerText(kind, answer)
	if answers(kind, answer.Response) {
		copyResponse(resp, answer.Response)
	}
	if text != "" {
		return &RemoteError{Op: kind.String(), Peer: p.target, Text: text}
	}
	return nil
}

// inmemSnapshot carries the body of a snapshot from the sender's goroutine,
// which owns the reader, to the consumer.
type inmemSnapshot struct {
	pipe    *inmemPipe
	timeout time.Duration
	chunks  chan []byte // closed after the last

	over chan struct{} // closed when the answer is there, in the following
	resp InstallSnapshotResponse
	err  error
}

func newInmemSnapshot(pipe *inmemPipe, timeout time.Duration) *inmemSnapshot {
	return &inmemSnapshot{pipe: pipe, timeout: timeout, chunks: make(chan []byte), over: make(chan struct{})}
}

func (s *inmemSnapshot) transfer(args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	request := cloneRequest(args)
	tasks := &s.pipe.from.tasks
	if !tasks.start(func() { s.deliver(request, args.Size) }) {
		return ErrTransportShutdown
	}
	err := copyBody(data, 0, args.Size, s.write)
	if err != nil && err != errSendingOver {
		s.pipe.close(err)
		<-s.over
		return err
	}
	close(s.chunks)
	defer s.pipe.limit(10 * s.timeout)()
	<-s.over
	*resp = s.resp
	return s.err
}

func (s *inmemSnapshot) deliver(request any, size int64) {
	s.err = s.pipe.exchange(rpcInstallSnapshot, request, &inmemBody{snapshot: s, left: size}, &s.resp)
	close(s.over)
}

func (s *inmemSnapshot) write(chunk []byte) error {
	expired, stop := after(s.timeout)
	defer stop()
	select {
	case s.chunks <- bytes.Clone(chunk):
		return nil
	case <-s.over:
		return errSendingOver
	case <-s.pipe.done:
		return s.pipe.failure()
	case <-expired:
		return s.pipe.timeoutError()
	}
}

// after is time.After with a stop; 0 or less is never.
func after(d time.Duration) (<-chan time.Time, func() bool) {
	if d <= 0 {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}

// inmemBody is the consumer's end of an inmemSnapshot.
type inmemBody struct {
	snapshot *inmemSnapshot
	left     int64
	chunk    []byte
}

// Read implements io.Reader with the errors of snapshotBody.
func (b *inmemBody) Read(p []byte) (int, error) {
	select {
	case <-b.snapshot.over:
		return 0, errBodyClosed
	default:
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if len(b.chunk) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	b.left -= int64(n)
	return n, nil
}

func (b *inmemBody) next() error {
	s := b.snapshot
	expired, stop := after(s.timeout)
	defer stop()
	select {
	case <-s.over:
		return errBodyClosed
	case chunk, ok := <-s.chunks:
		if !ok {
			return io.ErrUnexpectedEOF
		}
		b.chunk = chunk
		return nil
	case <-s.pipe.done:
		return io.ErrUnexpectedEOF
	case <-expired:
		return errCommandTimeout
	}
}

// inmemLink is a link of a pipeline: requests are served one after the other
// by a goroutine of the receiving transport.
type inmemLink struct {
	pipe     *inmemPipe
	requests chan *AppendEntriesRequest // as large as the window, so that post never blocks
	answers  chan inmemAnswer           // likewise

	mu       sync.Mutex // protects following
	deadline *time.Timer
}

type inmemAnswer struct {
	resp AppendEntriesResponse
	err  error
}

func newInmemLink(pipe *inmemPipe) *inmemLink {
	return &inmemLink{
		pipe:     pipe,
		requests: make(chan *AppendEntriesRequest, inmemWindow),
		answers:  make(chan inmemAnswer, inmemWindow),
	}
}

// serve hands the requests to the receiver's core until the pipe ends.
func (l *inmemLink) serve() {
	d := l.pipe.to.dispatcher(l.pipe.done)
	for {
		select {
		case request := <-l.requests:
			var a inmemAnswer
			a.err = l.pipe.exchangeBy(d, rpcAppendEntries, request, nil, &a.resp)
			l.answers <- a
		case <-l.pipe.done:
			return
		}
	}
}

func (l *inmemLink) peer() ServerAddress { return l.pipe.target }

func (l *inmemLink) post(f *appendFuture, _ bool) error {
	if err := l.pipe.failure(); err != nil {
		return err
	}
	l.requests <- cloneRequest(f.args).(*AppendEntriesRequest)
	return nil
}

func (l *inmemLink) flush() {}

func (l *inmemLink) receive(resp *AppendEntriesResponse, beforeWait func()) (size int64, err error) {
	beforeWait()
	select {
	case a := <-l.answers:
		*resp = a.resp
		return 0, a.err
	case <-l.pipe.done:
		return 0, l.pipe.failure()
	}
}

func (l *inmemLink) setDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadline != nil {
		l.deadline.Stop()
	}
	if !t.IsZero() {
		l.deadline = time.AfterFunc(time.Until(t), func() { l.pipe.close(l.pipe.timeoutError()) })
	}
}

func (l *inmemLink) close(err error) {
	l.pipe.close(err)
	l.setDeadline(time.Time{})
}

// cloneRequest returns a copy that shares nothing with args.
func cloneRequest(args any) any {
	switch m := args.(type) {
	case *AppendEntriesRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Leader = bytes.Clone(m.Leader)
		c.Entries = cloneLogs(m.Entries)
		return &c
	case *RequestVoteRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Candidate = bytes.Clone(m.Candidate)
		return &c
	case *InstallSnapshotRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Leader = bytes.Clone(m.Leader)
		c.Peers = bytes.Clone(m.Peers)
		c.Configuration = bytes.Clone(m.Configuration)
		return &c
	case *TimeoutNowRequest:
		return &TimeoutNowRequest{RPCHeader: cloneHeader(m.RPCHeader)}
	case *RequestPreVoteRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		return &c
	}
	panic(fmt.Sprintf("raftwire: no request: %T", args)) // callers are typed
}

func cloneHeader(h RPCHeader) RPCHeader {
	h.ID, h.Addr = bytes.Clone(h.ID), bytes.Clone(h.Addr)
	return h
}

func cloneLogs(entries []*Log) []*Log {
	if entries == nil {
		return nil
	}
	clones := make([]*Log, len(entries))
	backing := make([]Log, len(entries))
	for i, entry := range entries {
		backing[i] = *entry
		backing[i].Data = bytes.Clone(entry.Data)
		backing[i].Extensions = bytes.Clone(entry.Extensions)
		backing[i].AppendedAt = entry.AppendedAt.Round(0) // the monotonic reading does not travel
		clones[i] = &backing[i]
	}
	return clones
}

// copyResponse copies a response that a consumer gave, which it may go on to
// change. A nil pointer leaves resp as it is.
func copyResponse(resp, answer any) {
	switch from := answer.(type) {
	case *AppendEntriesResponse:
		if from != nil {
			to := resp.(*AppendEntriesResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *RequestVoteResponse:
		if from != nil {
			to := resp.(*RequestVoteResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
			to.Peers = bytes.Clone(from.Peers)
		}
	case *InstallSnapshotResponse:
		if from != nil {
			to := resp.(*InstallSnapshotResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *TimeoutNowResponse:
		if from != nil {
			resp.(*TimeoutNowResponse).RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *RequestPreVoteResponse:
		if from != nil {
			to := resp.(*RequestPreVoteResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	}
}
