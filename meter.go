package raftwire

import (
	"time"

	"github.com/raftwire/raftwire/internal/conn"
)

// meter times the requests of an inbound connection for ServeBegun, ServeDone and
// the dispatcher, if that is a ServeObserver. Where nobody wants to know of a
// request, the clock is not read, and there is no serving.
type meter struct {
	begun, done func(*ServeEvent) // hooks, or nil
	peer        ServerAddress
	host        string

	_ conn.CacheLine

	// Owned by the session.
	observer ServeObserver     // the dispatcher, or nil
	observe  func(*ServeEvent) // what it wants to have called for the next request, or nil
	timed    bool              // somebody wants to know of that
	last     time.Duration     // when the session timed something last, since epoch
	offered  *serving          // the request that is read and handed over, or nil

	_ conn.CacheLine

	// Owned by whoever collects answers.
	answered *serving      // the request whose answer is collected, or nil
	collect  time.Duration // when the last answer was there, since epoch
}

// serving is a request on its way.
type serving struct {
	event   ServeEvent        // without a Kind until the request has come whole
	since   time.Duration     // when what is timed next began, since epoch
	observe func(*ServeEvent) // the dispatcher's, or nil
}

func newMeter(hooks *Hooks, c *netConn) *meter {
	return &meter{begun: hooks.ServeBegun, done: hooks.ServeDone, peer: c.peer, host: hostOf(c.peer)}
}

// await is called before a request is awaited.
func (m *meter) await() {
	m.observe = nil
	if m.observer != nil {
		m.observe = m.observer.ServeDone()
	}
	timed := m.begun != nil || m.done != nil || m.observe != nil
	if timed && !m.timed {
		m.last = sinceEpoch()
	}
	m.timed = timed
}

// begin is called when a request's first byte is there; waited says whether it
// had to be waited for. If not, the clock is not read for it: what happened
// last was the end of the wait.
func (m *meter) begin(waited bool) {
	if !m.timed {
		return
	}
	m.offered = &serving{since: m.last, observe: m.observe}
	m.offered.event.Peer, m.offered.event.Host = m.peer, m.host
	if waited {
		m.offered.event.Wait = m.lap()
	}
}

// decode is called when the whole request is there, of the given size. The clock
// is not read for a small one of which nothing had to be waited for: it would
// cost a tenth of what it measures. What is timed next begins with it then.
func (m *meter) decode(kind rpcKind, command any, size int64, waited bool) {
	if m.offered == nil {
		return
	}
	e := &m.offered.event
	e.Kind, e.Heartbeat, e.Entries, e.RequestBytes = kind.String(), isHeartbeat(command), entriesIn(command), size
	if waited || size > gatherUpTo {
		e.Decode = m.lap()
	}
	if m.begun != nil {
		m.begun(e)
	}
}

// take is called when the core has taken the request, and returns it.
func (m *meter) take() *serving {
	taken := m.offered
	if taken != nil {
		taken.event.Enqueue = m.lap()
		m.offered = nil
	}
	return taken
}

// lap returns the time since the last one of the request that is offered.
func (m *meter) lap() time.Duration {
	m.last = sinceEpoch()
	took := m.last - m.offered.since
	m.offered.since = m.last
	return took
}

// ready is called when the session has waited for answers, and is ready for the
// next request only now.
func (m *meter) ready() {
	if m.timed {
		m.last = sinceEpoch()
	}
}

// readBody is called with what the core has read of a snapshot's body: then there
// is no other request.
func (m *meter) readBody(size int64) {
	if m.answered != nil {
		m.answered.event.RequestBytes += size
	} else if m.offered != nil { // it was not taken
		m.offered.event.RequestBytes += size
	}
}

// answer is called when the answer is there. Answers that are there together have
// one time.
func (m *meter) answer(together bool) {
	if m.answered == nil {
		return
	}
	if !together {
		m.collect = sinceEpoch()
	}
	m.answered.event.Handle = max(0, m.collect-m.answered.since)
}

// end tells that the answer of the given size has been posted, or that there is
// none because of err.
func (m *meter) end(answer int, err error) {
	s := m.answered
	if s == nil {
		return
	}
	m.answered = nil
	s.event.ResponseBytes, s.event.Err = int64(answer), err
	if m.done != nil {
		m.done(&s.event)
	}
	if s.observe != nil {
		s.observe(&s.event)
	}
}

// abandon is called when the connection has ended because of err, and no answer is
// pending. It tells of the request that was not taken.
func (m *meter) abandon(err error) {
	if m.offered != nil && m.offered.event.Kind != "" {
		m.answered = m.offered
		m.end(0, err)
	}
}
