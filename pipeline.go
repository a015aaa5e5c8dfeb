package raftwire

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/dispatch"
	"github.com/raftwire/raftwire/internal/ring"
	"github.com/raftwire/raftwire/internal/tasks"
)

// link is one ordered connection to a peer, as a pipeline uses it: netLink
// over the network, inmemLink in memory.
type link interface {
	// post queues a request and stores its size on the wire. With soon another
	// goroutine sends it. An error ends the link.
	post(args *AppendEntriesRequest, size *atomic.Int64, soon bool) error

	// flush sends what was posted; finish returns only when it has been sent, or
	// the link has ended.
	flush()
	finish()

	// receive blocks for the next answer, and returns its bytes on the wire;
	// only one goroutine calls it, and it begins the wait of clock before it blocks, once. A
	// *RemoteError is an answer, any other error ends the link.
	receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error)

	// setDeadline limits a receive, also one under way. Zero is no limit.
	setDeadline(time.Time)

	// close ends the link; post and receive return err then. When it returns,
	// nothing that was posted is read any more.
	close(err error)
}

// answerClock limits the wait for an answer by the deadline of a link.
type answerClock interface {
	// beginWait sets the deadline of a wait that begins.
	beginWait()

	// extendWait is called when the deadline has passed and a read failed with err.
	// It sets a later one if a large request makes progress, which check finds out,
	// or returns why the wait is over.
	extendWait(check func(*largeClock) error, err error) error
}

const (
	// finishWithin is how long Close may wait for a write. What a pipeline that is
	// not stalled has queued takes milliseconds.
	finishWithin = 100 * time.Millisecond

	// defaultLinger is how long a link outlives Close if there is no timeout.
	defaultLinger = time.Second
)

// pipeline is an [AppendPipeline] over a link: one implementation for the
// network and for memory.
//
// A future is sent, then settled, then consumed, in order. The reader of
// answers never waits for the consumer: what the consumer does not take at once
// is left to a goroutine that exists only while something lies about. Senders take
// turns. A sender that has filled the window waits for the consumer before its turn
// ends, but no longer than the timeout. So a consumer that leaves holds up nobody.
//
// A pipeline ends in two steps, see end. It is closing as soon as there is a reason:
// nothing is sent any more, but the link may still read requests. It has ended when
// the link reads none, and every future has settled. After Close, the link stays open
// until what was in flight is answered: a Raft core closes the pipeline to a server
// that it has removed as soon as it has sent the news.
//
// If the link is lost, a future or a sender gets the error: those in flight, the one
// that waits for room or, if there was none, the next one. That is where the readers
// of pipelines look for it.
type pipeline struct {
	id       ServerID // of the peer, for hooks
	peer     ServerAddress
	link     link
	window   int
	timeout  time.Duration
	tasks    *tasks.Group
	consumer chan AppendFuture
	sink     PipelineSink
	closing  chan struct{} // closed when err is set
	ended    chan struct{} // closed when every future has settled
	done     chan struct{} // closed by Release
	release  sync.Once

	callBegun   func(*CallEvent) // hook, or nil
	callDone    func(*CallEvent) // hook, or nil
	traffic     *traffic         // of the peer, or nil
	deliverTask func()           // p.deliver, made once: it is started often

	turn chan struct{} // has a token: the sender that takes it has its turn, in order of arrival
	room chan struct{} // gets a token when there is room for a sender that waits for it

	_ cacheLine

	// Owned by the sender that has its turn.
	inBulk bool // the sender had to wait for room: it may have several requests

	_ cacheLine

	// Owned by decodeResponses.
	arrived time.Time // see arrival
	outcome CallEvent // what callDone is lent

	_          cacheLine
	mu         sync.Mutex                // protects following
	err        error                     // why the pipeline ended; does not change
	untold     bool                      // it has ended, and nobody got err: the next request's future will
	futures    ring.Queue[*appendFuture] // settled ones, then those in flight
	inFlight   int
	unanswered int           // requests that were in flight when closing began; the link is open until they are answered
	awaited    bool          // the sender of the last future waits for room
	delivering bool          // deliver runs
	large      *appendFuture // the last large one, while it is in flight
	largeDone  time.Time     // when the last large one was answered
	clock      largeClock    // of the oldest in flight
}

func newPipeline(peer ServerAddress, l link, window int, timeout time.Duration, sink PipelineSink, tasks *tasks.Group) *pipeline {
	p := &pipeline{
		peer:     peer,
		link:     l,
		window:   window,
		timeout:  timeout,
		tasks:    tasks,
		clock:    largeClock{timeout: timeout},
		consumer: make(chan AppendFuture),
		sink:     sink,
		closing:  make(chan struct{}),
		ended:    make(chan struct{}),
		done:     make(chan struct{}),
		turn:     make(chan struct{}, 1),
		room:     make(chan struct{}, 1),
	}
	if sink == nil {
		p.sink = p.toConsumer
	}
	p.deliverTask = tasks.Task(p.deliver)
	p.endTurn()
	return p
}

// begin starts the reader of answers; false means the transport is closed.
func (p *pipeline) begin() bool { return p.tasks.Attach(p) && p.tasks.Start(p.decodeResponses) }

// AppendEntries implements [AppendPipeline].
func (p *pipeline) AppendEntries(args *AppendEntriesRequest, resp *AppendEntriesResponse) (AppendFuture, error) {
	if err := beginCall(args, resp); err != nil {
		return nil, p.explain(err)
	}
	f := newFuture(args, resp)
	if p.callBegun != nil || p.callDone != nil { // after it has settled args are the caller's
		f.entries, f.heartbeat = len(args.Entries), isHeartbeat(args)
	}
	if err := checkRequest(args); err != nil {
		return nil, p.explain(err)
	}
	if err := p.await(p.turn, f.start); err != nil {
		return nil, err
	}
	room, err := p.send(f)
	if err != nil {
		return nil, err
	}
	if !room && !p.roomAtEnd() {
		return nil, p.err
	}
	return f, nil
}

// await blocks a sender, whose request was made at start, until it gets a token, or
// the pipeline ends. A sender that waits for too long ends it.
func (p *pipeline) await(token <-chan struct{}, start time.Time) error {
	select {
	case <-token:
		return nil
	default:
	}
	for left := p.timeout; ; {
		expired, stop := after(left)
		select {
		case <-token:
			stop()
			return nil
		case <-p.closing:
			stop()
			return p.err
		case <-expired:
			if left = p.mayWait(start); left <= 0 {
				return p.fail(timeoutError(fmt.Sprintf("no room in the pipeline's window of %d: answers are not consumed, or do not come", p.window)))
			}
		}
	}
}

// mayWait returns how much longer a sender may wait before that is looked at again.
// While a large request is in flight, the clock of answers sees to it that it makes
// progress; after its answer the consumer has a whole timeout.
func (p *pipeline) mayWait(start time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, since := time.Now(), start
	if p.large != nil {
		since = now
	} else if p.largeDone.After(start) {
		since = p.largeDone
	}
	return min(p.timeout-now.Sub(since), largeTimeouts*p.timeout-now.Sub(start))
}

// send sends a request, and waits for room for the next one. room is false if the
// pipeline is closing. The future is queued first: the answer may be faster than the
// return from post. If no other answer is awaited, and no further request is
// expected, nothing would be gathered by leaving the request to another goroutine,
// and the hand-over would only add to the latency: then the sender flushes.
func (p *pipeline) send(f *appendFuture) (room bool, err error) {
	defer p.endTurn()
	place, err := p.enqueue(f)
	if err != nil {
		return false, err
	}
	p.tellBegun(f)
	if place.late {
		p.reportLost(f)
		return true, nil
	}
	if err := p.link.post(f.args, &f.bytes, !place.alone); err != nil {
		_ = p.fail(err) // f says so
	}
	if f.bytes.Load() > largeRequest {
		p.addLarge(f)
	}
	if place.alone {
		p.link.flush()
	}
	if p.inBulk = place.last && f.bytes.Load() <= gatherUpTo; place.last {
		return p.await(p.room, f.start) == nil, nil
	}
	return true, nil
}

func (p *pipeline) endTurn() { p.turn <- struct{}{} }

// queuePlace is where a future was queued.
type queuePlace struct {
	alone bool // no other is in flight, and none is expected
	last  bool // there is no room for another
	late  bool // the pipeline has ended: the future has settled, to tell that
}

// enqueue queues a future. There is room: the sender before has waited for it.
func (p *pipeline) enqueue(f *appendFuture) (queuePlace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil && !p.untold {
		return queuePlace{}, p.err
	}
	p.futures.Push(f)
	p.inFlight++
	if p.untold {
		p.untold = false
		p.settleInFlight()
		p.deliverNow()
		return queuePlace{late: true}, nil
	}
	if p.inFlight == 1 && p.timeout > 0 {
		p.setDeadline(f.start)
	}
	queued := p.futures.Len()
	p.awaited = queued >= p.window
	return queuePlace{alone: p.inFlight == 1 && !(p.inBulk && queued+1 < p.window), last: p.awaited}, nil
}

// errHookPanicked ends a pipeline that has lost a request on its way.
var errHookPanicked = errors.New("a hook's panic has lost a request")

// tellBegun tells of a future that is queued. If the hook panics, and the caller
// recovers, the next answer must not be taken for this one's.
func (p *pipeline) tellBegun(f *appendFuture) {
	returned := false
	defer func() {
		if !returned {
			_ = p.fail(errHookPanicked)
		}
	}()
	p.tell(p.callBegun, f, 0, nil)
	returned = true
}

// addLarge notes that f, which was posted last, is large.
func (p *pipeline) addLarge(f *appendFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timeout <= 0 || p.err != nil || p.inFlight == 0 {
		return
	}
	p.large = f
	p.link.setDeadline(p.clock.nextLook())
}

// roomAtEnd waits until the pipeline has ended, and reports whether the future of a
// sender that has waited for room is still queued: the consumer has made room before.
func (p *pipeline) roomAtEnd() bool {
	<-p.ended
	select {
	case <-p.room:
		return true
	default:
		return false
	}
}

// decodeResponses reads answers until the link ends, and settles everything
// that is left then.
func (p *pipeline) decodeResponses() {
	var resp AppendEntriesResponse
	for {
		size, err := p.link.receive(&resp, p)
		if _, remote := err.(*RemoteError); err != nil && !remote {
			_ = p.fail(err)
			break
		}
		if !p.settle(&resp, size, err) {
			_ = p.fail(errors.New("the peer sent an answer to no request"))
			break
		}
	}
	p.link.close(ErrPipelineShutdown) // which Close has left to this
}

// beginWait implements answerClock: the oldest request in flight must be answered
// within the timeout of now, and an idle pipeline may wait for ever.
func (p *pipeline) beginWait() {
	p.arrived = time.Time{}
	if p.timeout <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil: // sendRest has set it
	case p.inFlight > 0:
		p.setDeadline(time.Now())
	default:
		p.link.setDeadline(time.Time{})
	}
}

// setDeadline sets the deadline of a wait for the oldest request in flight, which
// begins now. mu is held.
func (p *pipeline) setDeadline(now time.Time) {
	p.clock.restart(now)
	if p.large != nil {
		p.link.setDeadline(p.clock.nextLook())
	} else {
		p.link.setDeadline(p.clock.deadline())
	}
}

// extendWait implements answerClock. Requests behind a large one wait with it.
func (p *pipeline) extendWait(check func(*largeClock) error, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.large == nil || p.err != nil {
		return err
	}
	if late := check(&p.clock); late != nil {
		return late
	}
	p.link.setDeadline(p.clock.nextLook())
	return nil
}

// settle settles the oldest future in flight with an answer of size bytes;
// false means that there is none, or that no further answer is awaited.
func (p *pipeline) settle(resp *AppendEntriesResponse, size int64, err error) bool {
	f, ok := p.settleOldest(resp, err)
	if f != nil {
		p.report(f, size, p.arrival())
	}
	return ok
}

// settleOldest returns the future that it has settled. An answer that comes
// after closing has begun is too late: end settles all.
func (p *pipeline) settleOldest(resp *AppendEntriesResponse, err error) (f *appendFuture, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		p.unanswered--
		return nil, p.unanswered > 0
	}
	if p.inFlight == 0 {
		return nil, false
	}
	f = p.futures.At(p.settled())
	p.inFlight--
	if f == p.large {
		p.large, p.largeDone = nil, time.Now()
	}
	if err == nil {
		*f.resp = *resp
	}
	f.settle(err)
	p.deliverNow()
	return f, true
}

// arrival returns when the answers came that are being read. It is one time for
// all that came together: the clock would cost more than the rest of a report.
func (p *pipeline) arrival() time.Time {
	if p.callDone != nil && p.arrived.IsZero() {
		p.arrived = time.Now()
	}
	return p.arrived
}

// report tells of a future that an answer of size bytes has settled, which came at
// a time. It looks at nothing that belongs to the caller again.
func (p *pipeline) report(f *appendFuture, size int64, at time.Time) {
	if f.err == nil {
		p.traffic.answered(f.start)
	}
	if p.callDone != nil {
		p.describe(&p.outcome, f, max(0, at.Sub(f.start)), size, f.err)
		p.callDone(&p.outcome)
	}
}

// reportLost tells of a future that settled without an answer.
func (p *pipeline) reportLost(f *appendFuture) { p.tell(p.callDone, f, time.Since(f.start), f.err) }

// tell calls a hook, or nil, for a future without an answer. Unlike report it may be
// called by any goroutine.
func (p *pipeline) tell(hook func(*CallEvent), f *appendFuture, took time.Duration, err error) {
	if hook != nil {
		var e CallEvent
		p.describe(&e, f, took, 0, err)
		lend(hook, &e)
	}
}

func (p *pipeline) describe(e *CallEvent, f *appendFuture, took time.Duration, answer int64, err error) {
	e.Kind, e.Heartbeat, e.Pipelined, e.Peer = rpcAppendEntries.String(), f.heartbeat, true, p.peer
	e.ID = p.id
	e.Start, e.Took, e.Entries = f.start, took, f.entries
	e.RequestBytes, e.ResponseBytes, e.Err = f.bytes.Load(), answer, err
}

// settled returns how many settled futures wait for the consumer. mu is held.
func (p *pipeline) settled() int { return p.futures.Len() - p.inFlight }

// deliverNow hands settled futures to a consumer that is waiting for them. As
// soon as it is not, deliver goes on. mu is held.
func (p *pipeline) deliverNow() {
	for !p.delivering && p.settled() > 0 && !isClosed(p.done) {
		if p.sink(p.futures.At(0), nil) {
			p.consume()
			continue
		}
		p.delivering = p.tasks.StartTask(p.deliverTask)
		return
	}
}

// deliver waits for the consumer to take settled futures while there are any.
func (p *pipeline) deliver() {
	for f := p.nextSettled(false); f != nil && p.sink(f, p.done); {
		f = p.nextSettled(true)
	}
}

// nextSettled returns the future to deliver, or nil, after the one that was
// consumed.
func (p *pipeline) nextSettled(consumed bool) *appendFuture {
	p.mu.Lock()
	defer p.mu.Unlock()
	if consumed {
		p.consume()
	}
	if p.settled() == 0 {
		p.delivering = false
		return nil
	}
	return p.futures.At(0)
}

// consume removes a future that was consumed. mu is held, but the send does not
// block: each wait for room gets one token.
func (p *pipeline) consume() {
	p.futures.Pop()
	if p.awaited {
		p.awaited = false
		p.room <- struct{}{}
	}
}

// toConsumer is the sink of a pipeline that was given none.
func (p *pipeline) toConsumer(f AppendFuture, stop <-chan struct{}) bool {
	return dispatch.Offer(p.consumer, f, stop)
}

// Consumer implements [AppendPipeline].
func (p *pipeline) Consumer() <-chan AppendFuture { return p.consumer }

// Close implements [AppendPipeline].
func (p *pipeline) Close() error {
	_ = p.end(ErrPipelineShutdown, p.sendRest)
	p.Release()
	return nil
}

// fail ends the pipeline because the link is lost, or has to be given up.
func (p *pipeline) fail(cause error) error {
	return p.end(p.explain(cause), func() { p.link.close(cause) })
}

// end ends the pipeline, and returns why it ended, which is what the first call
// gave. stop makes sure that the link reads no more of the requests: a future that
// has settled gives its request back to the caller.
func (p *pipeline) end(err error, stop func()) error {
	err, first := p.beginClosing(err)
	if !first {
		return err
	}
	stop()
	lost := p.settleAll()
	if len(lost) == 0 { // no answer is awaited
		p.link.close(err)
	}
	for _, f := range lost {
		p.reportLost(f)
	}
	return err
}

func (p *pipeline) beginClosing(err error) (_ error, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err, false
	}
	p.err, p.unanswered = err, p.inFlight
	close(p.closing)
	return err, true
}

// settleAll settles what is in flight, and returns it. A sender that still waits for
// room gets the error instead of its future, so the consumer gets none, either.
func (p *pipeline) settleAll() (lost []*appendFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost = p.settleInFlight()
	p.untold = len(lost) == 0 && !p.awaited && p.err != ErrPipelineShutdown && p.err != ErrTransportShutdown
	if p.awaited {
		p.futures.DropLast()
	}
	p.deliverNow()
	close(p.ended)
	return lost
}

// settleInFlight settles what is in flight with the pipeline's error, and
// returns it. mu is held.
func (p *pipeline) settleInFlight() (lost []*appendFuture) {
	for ; p.inFlight > 0; p.inFlight-- {
		f := p.futures.At(p.settled())
		f.settle(p.err)
		lost = append(lost, f)
	}
	p.large = nil
	return lost
}

// sendRest sends what was posted. decodeResponses ends the link when that is
// answered, or when it has waited for as long as a request may take.
func (p *pipeline) sendRest() {
	stalled := time.AfterFunc(finishWithin, func() { p.link.close(ErrPipelineShutdown) })
	<-p.turn // for good: nobody posts any more
	p.link.finish()
	stalled.Stop()
	linger := p.timeout
	if linger <= 0 {
		linger = defaultLinger
	}
	p.link.setDeadline(time.Now().Add(linger))
}

// Release ends the delivery of futures.
func (p *pipeline) Release() {
	p.release.Do(func() {
		close(p.done)
		p.tasks.Detach(p)
	})
}

func (p *pipeline) explain(cause error) error { return explain(rpcAppendEntries, p.peer, cause) }

// stats implements pipelineStats.
func (p *pipeline) stats() (peer ServerAddress, s PipelineStats, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = PipelineStats{InFlight: p.inFlight, Unconsumed: p.settled()}
	if p.inFlight > 0 {
		s.OldestAge = time.Since(p.futures.At(s.Unconsumed).start)
	}
	return p.peer, s, p.err == nil
}
