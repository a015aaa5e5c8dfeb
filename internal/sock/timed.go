package sock

import (
	"net"
	"sync"
	"time"
)

// A tls.Conn writes by itself: its Read answers a key update, and alerts. Nobody
// has set a deadline for such a write. The one of the last message may be long
// over, and then a write of nothing but 30 bytes fails, and the connection with
// it. With none at all, a peer that does not read could block a Read for ever.

// TimedConn is what a tls.Conn of this package is made of. It gives each write a
// time limit of its own, unless a write deadline is set.
type TimedConn struct {
	net.Conn

	ended func() // see OnClose

	mu    sync.Mutex    // protects following, and orders deadlines
	limit time.Duration // for a write; 0 means none
	isSet bool          // a write deadline
}

// NetConn returns the connection underneath, for the options of its socket.
func (c *TimedConn) NetConn() net.Conn { return c.Conn }

// Close closes the connection.
func (c *TimedConn) Close() error {
	if c.ended != nil {
		defer c.ended()
	}
	return c.Conn.Close()
}

func (c *TimedConn) Write(p []byte) (int, error) {
	c.begin()
	return c.Conn.Write(p)
}

// begin sets the deadline of a write that has none.
func (c *TimedConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isSet && c.limit > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.limit))
	}
}

// SetWriteDeadline sets the deadline of writes under way and to come. With the
// zero time those to come have the limit again, and one under way keeps what it
// has.
func (c *TimedConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isSet = !t.IsZero()
	if !c.isSet && c.limit > 0 {
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
			timed.setLimit(limit)
		}
	}
}

func (c *TimedConn) setLimit(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
}
