package raftwire

import (
	"sync/atomic"
	"time"
)

// netLink is a link over a connection of its own.
type netLink struct {
	conn      *conn
	transport *NetworkTransport

	_ cacheLine

	// Owned by receive.
	clock answerClock
	timed bool // clock was started for this answer
}

func newNetLink(n *NetworkTransport, c *conn) *netLink {
	_ = c.raw.SetDeadline(time.Time{})
	return &netLink{conn: c, transport: n}
}

func (l *netLink) post(args *AppendEntriesRequest, size *atomic.Int64, soon bool) error {
	encode := func(b *batch) {
		b.appendRequest(rpcAppendEntries, args, l.transport.newTime)
		size.Store(int64(b.added()))
	}
	if soon {
		return l.conn.postSoon(encode)
	}
	return l.conn.post(encode)
}

func (l *netLink) flush() { _ = l.conn.flush(time.Time{}) } // an error ends receive as well

func (l *netLink) finish() {
	l.flush()
	l.conn.awaitWriter()
}

// receive starts the clock once for an answer: a peer that sends it byte by byte
// must not win time with each of them.
func (l *netLink) receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error) {
	l.timed = false
	if l.clock == nil {
		l.clock = clock
		l.conn.in.SetBefore(l.beforeRead)
	}
	if err := l.await(); err != nil {
		return 0, l.conn.hangUp(err)
	}
	err = l.conn.receive(rpcAppendEntries, resp)
	return l.conn.in.Consumed(), err
}

func (l *netLink) await() error {
	for {
		err := l.conn.await()
		if !isTimeout(err) {
			return err
		}
		if err = l.clock.extendWait(l.conn.checkAcked, err); err != nil {
			return err
		}
	}
}

func (l *netLink) beforeRead() error {
	if !l.timed {
		l.timed = true
		l.clock.beginWait()
	}
	return nil
}

func (l *netLink) setDeadline(t time.Time) { _ = l.conn.raw.SetReadDeadline(t) }

func (l *netLink) close(err error) {
	l.transport.discard(l.conn, err)
	l.conn.awaitWriter()
}
