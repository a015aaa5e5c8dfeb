package raftwire

import (
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/errno"
)

// netLink is a link over a connection of its own.
type netLink struct {
	conn    *netConn
	pool    *pool
	newTime bool

	_ conn.CacheLine

	// Owned by receive.
	clock answerClock
	timed bool // clock was started for this answer
}

func newNetLink(p *pool, c *netConn, newTime bool) *netLink {
	_ = c.Raw.SetDeadline(time.Time{})
	return &netLink{conn: c, pool: p, newTime: newTime}
}

func (l *netLink) post(args *AppendEntriesRequest, size *atomic.Int64, soon bool) error {
	if err := checkIntroduction(l.conn.dialled, args); err != nil {
		return err
	}
	encode := func(b *conn.Batch) {
		l.conn.appendRequest(b, rpcAppendEntries, args, l.newTime)
		size.Store(int64(b.Added()))
	}
	if soon {
		return l.conn.PostSoon(encode)
	}
	return l.conn.Post(encode)
}

func (l *netLink) flush() { _ = l.conn.Flush(time.Time{}) } // an error ends receive as well

func (l *netLink) finish() {
	l.flush()
	l.conn.AwaitWriter()
}

// receive starts the clock once for an answer: a peer that sends it byte by byte
// must not win time with each of them.
func (l *netLink) receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error) {
	l.timed = false
	if l.clock == nil {
		l.clock = clock
		l.conn.In.SetBefore(l.beforeRead)
	}
	if err := l.await(); err != nil {
		return 0, l.conn.hangUp(err)
	}
	err = l.conn.receive(rpcAppendEntries, resp)
	return l.conn.In.Consumed(), err
}

func (l *netLink) await() error {
	for {
		err := l.conn.Await()
		if !errno.IsTimeout(err) {
			return err
		}
		if err = l.clock.extendWait(l.conn.CheckAcked, err); err != nil {
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

func (l *netLink) setDeadline(t time.Time) { _ = l.conn.Raw.SetReadDeadline(t) }

func (l *netLink) close(err error) {
	l.pool.discard(l.conn, err)
	l.conn.AwaitWriter()
}
