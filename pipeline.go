package raftwire

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/dispatch"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/ring"
	"github.com/raftwire/raftwire/internal/tasks"
)

// link is one ordered connection to a peer, as a pipeline uses it: netLink
// over the network, inmemLink in memory.
type link interface {
	// post queues the request of f, and if soon makes another goroutine send
	// it. An error ends the link.
	post(f *appendFuture, soon bool) error

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

	// extendWait is called when the deadline has passed and a read from c failed
	// with err. It sets a later one if a large request makes progress, or returns
	// why the wait is over.
	extendWait(c *netConn, err error) error
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
// is left to a goroutine that exists only while something lies about. The
// sender waits for the consumer if the window is full, but no longer than the
// timeout. So a consumer that leaves holds up nobody.
//
// Close settles what is in flight, but leaves the link open until it was answered:
// a Raft core closes the pipeline to a server that it has removed as soon as it has
// sent the news.
//
// If the link is lost, a future says so: one in flight or, if there was none,
// the next one. That is where the readers of pipelines look for it.
type pipeline struct {
	id       ServerID // of the peer, for hooks
	peer     ServerAddress
	link     link
	window   int
	timeout  time.Duration
	tasks    *tasks.Group
	consumer chan AppendFuture
	sink     PipelineSink
	done     chan struct{} // closed when futures are not wanted any more

	callBegun   func(*CallEvent) // hook, or nil
	callDone    func(*CallEvent) // hook, or nil
	traffic     *traffic         // of the peer, or nil
	deliverTask func()           // p.deliver, made once: it is started often

	_ conn.CacheLine

	// Owned by decodeResponses.
	arrived time.Time // see arrival
	outcome CallEvent // what callDone is lent

	_          conn.CacheLine
	mu         sync.Mutex                // protects following
	err        error                     // why the pipeline ended
	untold     bool                      // no future has told of err: the next request's will
	futures    ring.Queue[*appendFuture] // settled ones, then those in flight
	inFlight   int
	large      int            // how many of those in flight are large
	clock      progress.Clock // of the oldest in flight
	largeDone  time.Time      // when the last large one was answered
	unanswered int            // requests that were in flight when the pipeline ended; Close awaits their answers
	tickets    int            // of senders so far: requests travel in the order of futures
	turn       int            // the ticket of the sender that posts
	delivering bool           // deliver runs
	inBulk     bool           // the sender will post several requests before it waits again
	released   bool           // done is closed

	room     sync.Cond   // broadcast after each turn, when a future was consumed, and at the end
	waiting  time.Time   // when the sender came that has waited longest; or zero
	watchdog *time.Timer // ends a wait of a sender that takes too long
	watching bool        // watchdog is set
}

func newPipeline(peer ServerAddress, l link, window int, timeout time.Duration, sink PipelineSink, tasks *tasks.Group) *pipeline {
	p := &pipeline{
		peer:     peer,
		link:     l,
		window:   window,
		timeout:  timeout,
		tasks:    tasks,
		clock:    conn.LargeClock(timeout, time.Time{}),
		consumer: make(chan AppendFuture),
		sink:     sink,
		done:     make(chan struct{}),
	}
	if sink == nil {
		p.sink = p.toConsumer
	}
	p.room.L = &p.mu
	p.deliverTask = tasks.Task(p.deliver)
	return p
}

// AppendEntries implements [AppendPipeline].
func (p *pipeline) AppendEntries(args *AppendEntriesRequest, resp *AppendEntriesResponse) (AppendFuture, error) {
	if err := beginCall(args, resp); err != nil {
		return nil, p.explain(err)
	}
	f := &appendFuture{pipeline: p, start: time.Now(), args: args, resp: resp}
	if p.callBegun != nil || p.callDone != nil { // after it has settled args are the caller's
		f.entries, f.heartbeat = len(args.Entries), isHeartbeat(args)
	}
	if err := checkRequest(args); err != nil {
		return nil, p.explain(err)
	}
	alone, err := p.send(f)
	if err != nil {
		return nil, err
	}
	if alone {
		p.link.flush()
	}
	return p.awaitRoomAfter(f)
}

// send posts a request. The future is queued first: the answer may be faster
// than the return from post. If no other answer is awaited, and no further
// request is expected, nothing would be gathered by leaving the request to
// another goroutine, and the hand-over would only add to the latency: then the
// caller flushes.
func (p *pipeline) send(f *appendFuture) (alone bool, err error) {
	alone, lost, err := p.enqueue(f)
	defer p.endTurn()
	if err != nil {
		return false, err
	}
	p.tellBegun(f)
	if lost {
		p.reportLost(f)
	}
	if f.settled.Load() {
		return false, nil
	}
	if err := p.link.post(f, !alone); err != nil {
		_ = p.fail(err) // f says so
		return false, nil
	}
	if f.bytes.Load() > conn.LargeMessage {
		p.addLarge(f)
	}
	return alone, nil
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

// addLarge notes that f, which was posted, is large.
func (p *pipeline) addLarge(f *appendFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timeout <= 0 || p.err != nil || f.settled.Load() {
		return
	}
	f.large = true
	p.large++
	p.link.setDeadline(p.clock.NextLook())
}

// enqueue begins the sender's turn and queues a future; lost says that it has
// settled at once, to tell that the pipeline has ended.
func (p *pipeline) enqueue(f *appendFuture) (alone, lost bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beginTurn(f.start)
	// A lone sender never waits here: its last call waited for this place.
	for p.full() && p.err == nil {
		p.await(f.start)
	}
	if p.err != nil && !p.untold {
		return false, false, p.err
	}
	p.futures.Push(f)
	p.inFlight++
	if p.untold {
		p.untold = false
		p.settleInFlight()
		return false, true, nil
	}
	if p.inFlight == 1 && p.timeout > 0 {
		p.setDeadline(f.start)
	}
	alone = p.inFlight == 1 && !p.inBulk
	p.inBulk = false
	return alone, false, nil
}

// beginTurn waits for the senders that came before. A mutex held over a turn would
// have no limit, and would stop fake time, to which who waits for one is not
// blocked. mu is held.
func (p *pipeline) beginTurn(since time.Time) {
	ticket := p.tickets
	p.tickets++
	for p.turn != ticket {
		p.await(since)
	}
}

func (p *pipeline) endTurn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	p.wakeSenders()
}

// awaitRoomAfter waits until there is room for the request after f, or f was
// consumed: what others have sent meanwhile is not f's sender to wait for. If that
// fails, the caller gets no future, and so the consumer gets none either. A
// sender that had to wait, and then finds room for several small requests, sends
// several.
func (p *pipeline) awaitRoomAfter(f *appendFuture) (AppendFuture, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waits := p.full()
	for p.full() && !f.consumed && (p.err == nil || p.inFlight > 0) { // until then f may still be read
		p.await(f.start)
	}
	if p.full() && !f.consumed && !p.isDelivering(f) {
		f.abandoned = true
		return nil, p.err
	}
	p.inBulk = waits && p.futures.Len()+1 < p.window && f.bytes.Load() <= gatherUpTo
	return f, nil
}

// isDelivering reports whether deliver may have f, so that the consumer gets it.
// mu is held.
func (p *pipeline) isDelivering(f *appendFuture) bool { return p.delivering && p.futures.At(0) == f }

// full is called with mu held.
func (p *pipeline) full() bool { return p.futures.Len() >= p.window }

// await blocks a sender, who came at since, until something has changed. mu is
// held.
func (p *pipeline) await(since time.Time) {
	p.watch(since)
	p.room.Wait()
}

// wakeSenders wakes the senders that wait; those that still have to wait
// register with the watchdog again. mu is held.
func (p *pipeline) wakeSenders() {
	p.waiting = time.Time{}
	p.room.Broadcast()
}

// watch makes sure that a wait of a sender who came at since ends in time. The
// timer is left running when the wait is over, and then finds nobody or sets
// itself anew: a deep window waits once for every request, and must not pay
// for a timer each time. mu is held.
func (p *pipeline) watch(since time.Time) {
	if p.timeout <= 0 {
		return
	}
	if p.waiting.IsZero() || since.Before(p.waiting) {
		p.waiting = since
	}
	if p.watching {
		return
	}
	p.setWatchdog(p.timeout - time.Since(since))
}

// setWatchdog is called with mu held.
func (p *pipeline) setWatchdog(d time.Duration) {
	p.watching = true
	if p.watchdog == nil {
		p.watchdog = time.AfterFunc(d, p.checkWait)
	} else {
		p.watchdog.Reset(d)
	}
}

// checkWait runs when the watchdog's time is up.
func (p *pipeline) checkWait() {
	if p.waitedTooLong() {
		_ = p.fail(errno.Timeout(fmt.Sprintf("no room in the pipeline's window of %d: answers are not consumed, or do not come", p.window)))
	}
}

func (p *pipeline) waitedTooLong() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = false
	if p.waiting.IsZero() || p.err != nil {
		return false
	}
	left := p.mayWait()
	if left > 0 {
		p.setWatchdog(left)
	}
	return left <= 0
}

// mayWait returns how much longer a sender may wait before that is looked at again.
// While a large request is in flight, the clock of answers sees to it that it makes
// progress; after its answer the consumer has a whole timeout. mu is held.
func (p *pipeline) mayWait() time.Duration {
	waited := time.Since(p.waiting)
	left := p.timeout - waited
	if p.large > 0 {
		left = p.timeout
	} else if p.largeDone.After(p.waiting) {
		left = p.timeout - time.Since(p.largeDone)
	}
	return min(left, conn.LargeTimeouts*p.timeout-waited)
}

// begin starts the reader of answers; false means the transport is closed.
func (p *pipeline) begin() bool { return p.tasks.Attach(p) && p.tasks.Start(p.decodeResponses) }

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
	case p.err != nil: // finish has set it
	case p.inFlight > 0:
		p.setDeadline(time.Now())
	default:
		p.link.setDeadline(time.Time{})
	}
}

// setDeadline sets the deadline of a wait for the oldest request in flight, which
// begins now. mu is held.
func (p *pipeline) setDeadline(now time.Time) {
	p.clock.Restart(now)
	if p.large > 0 {
		p.link.setDeadline(p.clock.NextLook())
	} else {
		p.link.setDeadline(p.clock.Deadline())
	}
}

// extendWait implements answerClock. Requests behind a large one wait with it.
func (p *pipeline) extendWait(c *netConn, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.large == 0 || p.err != nil {
		return err
	}
	if late := c.CheckAcked(&p.clock); late != nil {
		return late
	}
	p.link.setDeadline(p.clock.NextLook())
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
// while the pipeline ends is too late: fail or finish settles all.
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
	f = p.futures.At(p.futures.Len() - p.inFlight)
	p.inFlight--
	if f.large {
		p.large--
		p.largeDone = time.Now()
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

// fail ends the pipeline: everything in flight settles with an error, and
// everybody who waits is woken. It returns why the pipeline ended, which is
// what the first call gave. The link is closed first: a future that has
// settled gives its request back to the caller.
func (p *pipeline) fail(cause error) error {
	err, first := p.setErr(p.explain(cause))
	if first {
		p.link.close(cause)
		for _, f := range p.settleAll() {
			p.reportLost(f)
		}
	}
	return err
}

func (p *pipeline) setErr(err error) (_ error, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err, false
	}
	p.err, p.unanswered = err, p.inFlight
	p.wakeSenders()
	p.untold = p.inFlight == 0 && err != ErrPipelineShutdown && err != ErrTransportShutdown
	return err, true
}

func (p *pipeline) settleAll() (lost []*appendFuture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost = p.settleInFlight()
	p.wakeSenders()
	return lost
}

// settleInFlight settles what is in flight with the pipeline's error, and
// returns it. mu is held.
func (p *pipeline) settleInFlight() (lost []*appendFuture) {
	for ; p.inFlight > 0; p.inFlight-- {
		f := p.futures.At(p.futures.Len() - p.inFlight)
		f.settle(p.err)
		lost = append(lost, f)
	}
	p.large = 0
	p.deliverNow()
	return lost
}

func (p *pipeline) explain(cause error) error { return explain(rpcAppendEntries, p.peer, cause) }

// deliverNow hands settled futures to a consumer that is waiting for them. As
// soon as it is not, deliver goes on. mu is held.
func (p *pipeline) deliverNow() {
	for !p.delivering && !p.released && p.settled() > 0 {
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
	for f := p.nextSettled(); f != nil; f = p.nextSettled() {
		if !p.sink(f, p.done) {
			return
		}
		p.consumed()
	}
}

func (p *pipeline) nextSettled() *appendFuture {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled() == 0 {
		p.delivering = false
		return nil
	}
	return p.futures.At(0)
}

// settled returns how many settled futures wait for the consumer, once the
// abandoned ones in front of them are gone. mu is held.
func (p *pipeline) settled() int {
	for p.futures.Len() > p.inFlight && p.futures.At(0).abandoned {
		p.futures.Pop()
	}
	return p.futures.Len() - p.inFlight
}

func (p *pipeline) consumed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.consume()
}

// consume is called with mu held.
func (p *pipeline) consume() {
	p.futures.Pop().consumed = true
	p.wakeSenders()
}

// toConsumer is the sink of a pipeline that was given none.
func (p *pipeline) toConsumer(f AppendFuture, stop <-chan struct{}) bool {
	return dispatch.Offer(p.consumer, f, stop)
}

// Consumer implements [AppendPipeline].
func (p *pipeline) Consumer() <-chan AppendFuture { return p.consumer }

// Close implements [AppendPipeline].
func (p *pipeline) Close() error {
	if _, first := p.setErr(ErrPipelineShutdown); first {
		p.finish()
	}
	p.Release()
	return nil
}

// finish sends what was posted and settles what is in flight; decodeResponses ends
// the link when that is answered, and does not wait for longer than lingerFor
// says.
func (p *pipeline) finish() {
	stalled := time.AfterFunc(finishWithin, func() { p.link.close(ErrPipelineShutdown) })
	p.awaitSenders()
	p.link.finish()
	stalled.Stop()
	p.link.setDeadline(time.Now().Add(p.lingerFor()))
	lost := p.settleAll()
	if len(lost) == 0 {
		p.link.close(ErrPipelineShutdown)
	}
	for _, f := range lost {
		p.reportLost(f)
	}
}

// awaitSenders waits until nobody posts. Senders that have not posted yet will
// find that the pipeline has ended.
func (p *pipeline) awaitSenders() {
	defer p.endTurn()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beginTurn(time.Now())
}

// lingerFor is how long the answers to what was sent before Close may take.
func (p *pipeline) lingerFor() time.Duration {
	if p.timeout > 0 {
		return p.timeout
	}
	return defaultLinger
}

// Release ends the delivery of futures.
func (p *pipeline) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	close(p.done)
	p.tasks.Detach(p)
	if p.watchdog != nil {
		p.watchdog.Stop()
	}
}
