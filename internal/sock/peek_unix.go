//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sock

import (
	"crypto/tls"
	"net"
	"syscall"
)

// CanPeek reports whether a peek is enough: a wrapper of another make may have
// read more from its socket than it has given out.
func CanPeek(conn net.Conn) bool { return IsSocket(innermost(conn)) }

// NewPeek returns a function that reports whether conn's socket is open with
// nothing to read, or is not known. It does not block, and is used by one goroutine
// at a time. Bytes that nobody asked for are as bad as an end of file: they could
// only be taken for the next answer.
func NewPeek(conn net.Conn) (isSilent func() bool) {
	s := socket(conn)
	if s == nil {
		return func() bool { return true }
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	silent := false
	look := func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
	}
	return func() bool {
		silent = false
		// Control, not Read: that fails once the deadline of the connection's last
		// call is over.
		return raw.Control(look) == nil && silent
	}
}

// socket returns the socket under conn, or nil.
func socket(conn net.Conn) syscall.Conn {
	s, _ := innermost(conn).(syscall.Conn)
	return s
}

// innermost looks through TLS, and through what a Mux has put around either.
func innermost(conn net.Conn) net.Conn {
	for {
		switch c := conn.(type) {
		case *UnreadConn:
			conn = c.Conn
		case *TimedConn:
			conn = c.Conn
		case *tls.Conn:
			conn = c.NetConn()
		default:
			return conn
		}
	}
}
