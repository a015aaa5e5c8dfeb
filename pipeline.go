package raftwire

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftwire/raftwire/dispatch"
	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/ring"
	"github.com/raftwire/raftwire/internal/tasks"
)

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

	_ conn.CacheLine

	// Owned by the sender that has its turn.
	timer  *time.Timer // see await
	inBulk bool        // it had to wait for room: it may have several requests

	_ conn.CacheLine

	// Owned by decodeResponses.
	arrived time.Time // when the answers came that are being read; or zero

	_          conn.CacheLine
	mu         sync.Mutex                // protects following
	err        error                     // why the pipeline ended; does not change
	untold     bool                      // it has ended, and nobody got err: the next request's future will
	futures    ring.Queue[*appendFuture] // settled ones, then those in flight
	inFlight   int
	unanswered int  // requests that were in flight when closing began; the link is open until they are answered
	awaited    bool // the sender of the last future waits for room
	delivering bool // deliver runs
	clock      pipelineClock
}

func newPipeline(peer ServerAddress, l link, window int, timeout time.Duration, sink PipelineSink, tasks *tasks.Group) *pipeline {
	p := &pipeline{
		peer:     peer,
		link:     l,
		window:   window,
		timeout:  timeout,
		tasks:    tasks,
		clock:    pipelineClock{link: l, timeout: timeout, oldest: conn.LargeClock(timeout, time.Time{})},
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
	p.timer = p.newTimer()
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
	if err := p.beginTurn(f.start); err != nil {
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

// beginTurn waits for the senders that came before.
func (p *pipeline) beginTurn(start time.Time) error {
	select {
	case <-p.turn:
		return nil
	default:
		return p.await(p.turn, p.newTimer(), start)
	}
}

func (p *pipeline) endTurn() { p.turn <- struct{}{} }

func (p *pipeline) newTimer() *time.Timer {
	if p.timeout <= 0 {
		return new(time.Timer) // never fires
	}
	return time.NewTimer(p.timeout)
}

// await blocks a sender, whose request was made at start, until it gets a token, or
// the pipeline ends. A sender that waits for too long ends it. The timer is left
// running when the wait is over, and may fire too early in the next one, but never
// too late: senders before have come before. A new timer for each wait would cost
// three allocations.
func (p *pipeline) await(token <-chan struct{}, timer *time.Timer, start time.Time) error {
	for {
		select {
		case <-token:
			return nil
		case <-p.closing:
			return p.err
		case <-timer.C:
			left := p.mayWait(start)
			if left <= 0 {
				return p.fail(errno.Timeout(fmt.Sprintf("no room in the pipeline's window of %d: answers are not consumed, or do not come", p.window)))
			}
			timer.Reset(left)
		}
	}
}

func (p *pipeline) mayWait(start time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock.mayWait(start)
}

// send sends a request, and waits for room for the next one. room is false if the
// pipeline is closing. The future is queued first: the answer may be faster than the
// return from post. The sender flushes if no other answer is awaited and no further
// request is expected: another goroutine would have nothing to gather, and the
// hand-over would add to the latency.
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
	if f.bytes.Load() > conn.LargeMessage {
		p.addLarge(f)
	}
	if place.alone {
		p.link.flush()
	}
	p.inBulk = place.last && f.bytes.Load() <= gatherUpTo
	return !place.last || p.await(p.room, p.timer, f.start) == nil, nil
}

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
	if p.untold {
		p.untold = false
		f.settle(p.err)
		p.deliverNow()
		return queuePlace{late: true}, nil
	}
	p.inFlight++
	if p.inFlight == 1 {
		p.clock.begin(f.start)
	}
	p.awaited = p.futures.Len() >= p.window
	return queuePlace{alone: p.inFlight == 1 && (p.awaited || !p.inBulk), last: p.awaited}, nil
}

// addLarge notes that f, which was posted last, is large.
func (p *pipeline) addLarge(f *appendFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.inFlight > 0 {
		p.clock.addLarge(f)
	}
}

// roomAtEnd is called where the wait for room was interrupted. It waits until the
// pipeline has ended, and reports whether the consumer has made room before: then the
// sender keeps its future.
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
		f, more := p.settle(&resp, err)
		if f != nil {
			p.report(f, size)
		}
		if !more {
			_ = p.fail(errors.New("the peer sent an answer to no request"))
			break
		}
	}
	p.link.close(ErrPipelineShutdown) // which Close has left to this
}

// beginWait implements answerClock. An idle pipeline may wait for ever.
func (p *pipeline) beginWait() {
	p.arrived = time.Time{}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil: // sendRest has set the deadline
	case p.inFlight > 0:
		p.clock.begin(time.Now())
	default:
		p.clock.stop()
	}
}

// extendWait implements answerClock.
func (p *pipeline) extendWait(check func(*progress.Clock) error, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return err
	}
	return p.clock.extend(check, err)
}

// settle settles the oldest future in flight with an answer, and returns it. An
// answer that comes after closing has begun is too late: end settles all. more is
// false if there is none in flight, or no further answer is awaited.
func (p *pipeline) settle(resp *AppendEntriesResponse, err error) (f *appendFuture, more bool) {
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
	p.clock.answered(f)
	if err == nil {
		*f.resp = *resp
	}
	f.settle(err)
	p.deliverNow()
	return f, true
}

// settled returns how many settled futures wait for the consumer. mu is held.
func (p *pipeline) settled() int { return p.futures.Len() - p.inFlight }

// deliverNow hands settled futures to a consumer that is waiting for them. As
// soon as it is not, deliver goes on. mu is held.
func (p *pipeline) deliverNow() {
	for !p.delivering && p.settled() > 0 && !tasks.IsClosed(p.done) {
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
	for ; p.inFlight > 0; p.inFlight-- {
		f := p.futures.At(p.settled())
		f.settle(p.err)
		lost = append(lost, f)
	}
	p.untold = len(lost) == 0 && !p.awaited && p.err != ErrPipelineShutdown && p.err != ErrTransportShutdown
	if p.awaited {
		p.awaited = false
		p.futures.DropLast()
	}
	p.deliverNow()
	close(p.ended)
	return lost
}

// sendRest sends what was posted. decodeResponses ends the link when that is
// answered, or when it has waited for as long as a request may take.
func (p *pipeline) sendRest() {
	closed := make(chan struct{})
	stalled := time.AfterFunc(finishWithin, func() {
		p.link.close(ErrPipelineShutdown)
		close(closed)
	})
	select {
	case <-p.turn: // for good: nobody posts any more
		p.link.finish()
	case <-closed: // a hook has kept the turn
	}
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

func (p *pipeline) stats() (s PipelineStats, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = PipelineStats{InFlight: p.inFlight, Unconsumed: p.settled()}
	if p.inFlight > 0 {
		s.OldestAge = time.Since(p.futures.At(s.Unconsumed).start)
	}
	return s, p.err == nil
}
