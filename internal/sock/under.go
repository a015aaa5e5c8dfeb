// Package sock knows what lies under a net.Conn: its socket, TLS, and the two
// wrappers that raftwire puts around connections.
package sock

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// IsTLS reports whether a connection is a *tls.Conn, or has one embedded.
func IsTLS(raw net.Conn) bool {
	_, secured := raw.(TLSConn)
	return secured
}

// IsSocket reports whether a connection is a socket, with nothing around it: then its
// methods do not block, and net.Buffers writes to it with one system call.
func IsSocket(raw net.Conn) bool {
	switch raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// Under returns what a connection is made of, if it is TLS or of this package, or
// else nil.
func Under(conn net.Conn) net.Conn {
	switch c := conn.(type) {
	case *UnreadConn:
		return c.Conn
	case *TimedConn:
		return c.Conn
	case TLSConn:
		return c.NetConn()
	}
	return nil
}

// TLSConn is a *tls.Conn, or what has one embedded.
type TLSConn interface {
	NetConn() net.Conn
	ConnectionState() tls.ConnectionState
}

// Close closes a connection, and its TLS without close_notify: that would be
// written first, for which five seconds are allowed to a peer that does not
// read. Nothing is missed: where a message ends is not told by the connection's
// end.
func Close(raw net.Conn) {
	if inner := Under(raw); inner != nil {
		Close(inner)
	}
	_ = raw.Close()
}

// CloseWrite ends what the peer will read. It returns false if the connection cannot do
// that.
func CloseWrite(raw net.Conn) bool {
	for ; raw != nil; raw = Under(raw) {
		if half, ok := raw.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite() == nil
		}
	}
	return false
}

// UnreadConn gives a byte back that was read, and can tell of its end.
type UnreadConn struct {
	net.Conn
	byte   byte
	unread bool // owned by the reader
	ended  atomic.Pointer[func()]
}

// Unread returns conn with a byte given back that was read from it.
func Unread(conn net.Conn, b byte) net.Conn { return &UnreadConn{Conn: conn, byte: b, unread: true} }

// OnClose returns conn, or a wrapper of it, that calls ended when it is closed, perhaps
// several times, as who asked for that before is told. A *tls.Conn stays one: programs look for that. So ended is called at
// once for one that was not made of a TimedConn.
func OnClose(conn net.Conn, ended func()) net.Conn {
	switch c := conn.(type) {
	case *UnreadConn:
		c.onClose(ended)
		return c
	case *tls.Conn:
		if timed, ok := c.NetConn().(*TimedConn); ok {
			timed.onClose(ended)
		} else {
			ended()
		}
		return c
	}
	return OnClose(&UnreadConn{Conn: conn}, ended)
}

func (c *UnreadConn) onClose(ended func()) {
	all := ended
	if before := c.ended.Load(); before != nil {
		all = func() { ended(); (*before)() }
	}
	c.ended.Store(&all)
}

// Close closes the connection.
func (c *UnreadConn) Close() error {
	if ended := c.ended.Load(); ended != nil {
		defer (*ended)()
	}
	return c.Conn.Close()
}

// Read returns the byte on its own, the first time.
func (c *UnreadConn) Read(p []byte) (int, error) {
	if !c.unread || len(p) == 0 {
		return c.Conn.Read(p)
	}
	p[0], c.unread = c.byte, false
	return 1, nil
}

// NetConn returns the connection underneath, for the options of its socket.
func (c *UnreadConn) NetConn() net.Conn { return c.Conn }
