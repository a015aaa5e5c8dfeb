package sock

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A tls.Conn writes by itself: its Read answers a key update, and alerts. Nobody
// has set a deadline for such a write. The one of the last message may be long
// over, and then a write of nothing but 30 bytes fails, and the connection with
// it. With none at all, a peer that does not read could block a Read for ever.

// TimedConn is what a tls.Conn of this package is made of. It gives each write a
// time limit of its own, unless a write deadline is set.
type TimedConn struct {
	UnreadConn

	limit atomic.Int64 // time for a write in nanoseconds; 0 means none

	mu    sync.Mutex // protects following, and orders deadlines
	isSet bool       // a write deadline
}

// Timed makes a TimedConn of a connection, to which a byte may have been given back. It
// tells of its end whom that would have told.
func Timed(conn net.Conn) *TimedConn {
	c := new(TimedConn)
	if returned, ok := conn.(*UnreadConn); ok {
		c.byte, c.unread = returned.byte, returned.unread
		c.ended.Store(returned.ended.Load())
		conn = returned.Conn
	}
	c.Conn = conn
	return c
}

func (c *TimedConn) Write(p []byte) (int, error) {
	c.begin()
	return c.Conn.Write(p)
}

// begin sets the deadline of a write that has none.
func (c *TimedConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit := c.limit.Load(); !c.isSet && limit > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Duration(limit)))
	}
}

// SetWriteDeadline sets the deadline of writes under way and to come. With the
// zero time those to come have the limit again, and one under way keeps what it
// has.
func (c *TimedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isSet = !t.IsZero()
	if !c.isSet && c.limit.Load() > 0 {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *TimedConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// LimitWrites gives every TimedConn under conn its limit, once it is known.
func LimitWrites(conn net.Conn, limit time.Duration) {
	for ; conn != nil; conn = Under(conn) {
		if timed, ok := conn.(*TimedConn); ok {
			timed.limit.Store(int64(limit))
		}
	}
}
