package raftwire

import (
	"time"

	"github.com/raftwire/raftwire/internal/conn"
)

// epoch is a point in time to measure from: the time since then costs half of
// what the time of day costs.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// maxUntimed is how many requests in a row are not timed when they are taken. So
// many small ones are decoded and handed over in some 10 us.
const maxUntimed = 7

// meter times the requests of an inbound connection for ServeBegun and
// ServeDone. A nil meter does nothing. Answers are collected by the session or by
// the sender.
type meter struct {
	begun, done func(*ServeEvent) // hooks, or nil

	_ conn.CacheLine

	// Owned by the session.
	last    time.Duration // when the session timed something last, since epoch
	untimed int           // requests taken since then
	offered *serving      // the request that is read and handed over
	arrival ServeEvent    // what begun is lent

	_ conn.CacheLine

	// Owned by whoever collects answers.
	answered *serving      // the request whose answer is collected
	handle   time.Duration // how long that took
	collect  time.Duration // when the last answer was there, since epoch
	outcome  ServeEvent    // what done is lent

	_     conn.CacheLine
	queue servings // protected by replies.mu
}

// serving is a request on its way.
type serving struct {
	known                 bool // it has come whole, and has not ended
	heartbeat             bool
	kind                  rpcKind
	entries               int32
	size                  int64
	wait, decode, enqueue time.Duration

	since time.Duration // when what is timed next began, since epoch
}

// servings are a queue of requests that stay where they are from the time they are
// offered until they have ended: to copy one costs more than all else that is done
// with it. A ring.Queue would copy them in and out; one of pointers, with a list of
// free requests beside it, costs 3 ns more.
type servings struct {
	cells          []serving // a power of two; the ones beside the queue are those offered and answered
	pushed, popped int
}

func newMeter(hooks *Hooks, c *netConn) *meter {
	if hooks.ServeBegun == nil && hooks.ServeDone == nil {
		return nil
	}
	from := ServeEvent{Peer: c.peer, Host: hostOf(c.peer)}
	m := &meter{begun: hooks.ServeBegun, done: hooks.ServeDone, last: sinceEpoch(), arrival: from, outcome: from}
	m.shrink()
	return m
}

// begin is called when a request's first byte is there; waited says whether it
// had to be waited for. If not, the clock is not read for it: what happened
// last was the end of the wait.
func (m *meter) begin(waited bool) {
	if m == nil {
		return
	}
	*m.offered = serving{since: m.last}
	if waited {
		m.offered.wait = m.lap()
	}
}

// decode is called when the whole request is there, of the given size. The clock
// is not read for a small one of which nothing had to be waited for: it would
// cost a tenth of what it measures. What is timed next begins with it then.
func (m *meter) decode(kind rpcKind, command any, size int64, waited bool) {
	if m == nil {
		return
	}
	s := m.offered
	s.known, s.kind, s.heartbeat, s.entries, s.size = true, kind, isHeartbeat(command), int32(entriesIn(command)), size
	if waited || size > gatherUpTo {
		s.decode = m.lap()
	}
	if m.begun != nil {
		s.describe(&m.arrival)
		m.begun(&m.arrival)
	}
}

// take is called when the core has taken the request; waited says whether there may
// have been a wait, for its first byte or for the core. If not, it is told as taken
// when the one before was, unless that is too long ago.
func (m *meter) take(waited bool) {
	if m.untimed++; waited || m.untimed > maxUntimed {
		m.offered.enqueue = m.lap()
	}
}

// push is called when its answer is owed, and pop when that is to be collected.
// replies.mu is held.
func (m *meter) push() {
	if m != nil {
		m.offered = m.queue.push()
	}
}

func (m *meter) pop() {
	if m != nil {
		m.answered, m.handle = m.queue.pop(), 0
	}
}

// shrink lets the memory of the queue go, while no answer is owed or collected.
// replies.mu is held.
func (m *meter) shrink() {
	if m != nil {
		m.queue = servings{cells: make([]serving, 2)}
		m.offered, m.answered = &m.queue.cells[0], &m.queue.cells[1]
	}
}

// push queues the request that was offered, and returns the place of the next one.
func (q *servings) push() *serving {
	q.pushed++
	if q.pushed-q.popped+2 > len(q.cells) {
		q.grow()
	}
	return q.at(q.pushed)
}

func (q *servings) pop() *serving {
	q.popped++
	return q.at(q.popped - 1)
}

func (q *servings) at(number int) *serving { return &q.cells[number&(len(q.cells)-1)] }

func (q *servings) grow() {
	next := servings{make([]serving, 2*len(q.cells)), q.pushed, q.popped}
	for number := q.popped; number < q.pushed; number++ {
		*next.at(number) = *q.at(number)
	}
	*q = next
}

// readBody is called with what the core has read of a snapshot's body: then there
// is no other request.
func (m *meter) readBody(size int64) {
	switch {
	case m == nil:
	case m.answered.known:
		m.answered.size += size
	default: // it was not taken
		m.offered.size += size
	}
}

// answer is called when the answer is there. Answers that are there together have
// one time.
func (m *meter) answer(together bool) {
	if m == nil {
		return
	}
	if !together {
		m.collect = sinceEpoch()
	}
	m.handle = max(0, m.collect-m.answered.since)
}

// ready is called when the session has waited for answers, and is ready for the
// next request only now.
func (m *meter) ready() {
	if m != nil {
		m.last = sinceEpoch()
	}
}

// post is called when the answer has been posted, with its size.
func (m *meter) post(answer RPCResponse, size int) {
	if m == nil {
		return
	}
	m.end(m.answered, m.handle, int64(size), answer.Error)
	m.answered.known = false
}

// abandon is called when the connection has ended because of err, and tells of
// what is left: the answer that was being collected, those that were owed, and the
// request that was not taken.
func (m *meter) abandon(err error) {
	if m == nil {
		return
	}
	if m.answered.known {
		m.end(m.answered, m.handle, 0, err)
	}
	for m.queue.popped < m.queue.pushed {
		m.end(m.queue.pop(), 0, 0, err)
	}
	if m.offered.known {
		m.end(m.offered, 0, 0, err)
	}
}

// end tells of the end of a request.
func (m *meter) end(s *serving, handle time.Duration, answer int64, err error) {
	if m.done == nil {
		return
	}
	e := &m.outcome
	s.describe(e)
	e.Handle, e.ResponseBytes, e.Err = handle, answer, err
	m.done(e)
}

// describe says what is known of s before it is answered.
func (s *serving) describe(e *ServeEvent) {
	e.Kind, e.Heartbeat, e.Entries, e.RequestBytes = s.kind.String(), s.heartbeat, int(s.entries), s.size
	e.Wait, e.Decode, e.Enqueue = s.wait, s.decode, s.enqueue
}

// lap returns the time since the last one of the request that is offered.
func (m *meter) lap() time.Duration {
	m.last, m.untimed = sinceEpoch(), 0
	took := m.last - m.offered.since
	m.offered.since = m.last
	return took
}
