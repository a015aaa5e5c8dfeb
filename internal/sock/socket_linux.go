package sock

import (
	"encoding/binary"
	"math"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall lacks.
const tcpUserTimeout = 0x12

// RaiseUserTimeout makes sure that the socket of a connection does not end what may
// take limit: its user timeout is raised to that, and switched off if limit is 0,
// which means no limit. The system counts a peer as dead that acknowledges
// everything but reads nothing, so it cannot tell; the transport's own clocks do.
// While it is on, the user timeout stands for the number of keep-alive probes, too.
func RaiseUserTimeout(conn net.Conn, limit time.Duration) {
	milliseconds := int(min(max(limit.Milliseconds(), 0), math.MaxInt32))
	control(conn, func(fd uintptr) {
		now, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
		if err != nil || now == 0 || limit > 0 && now >= milliseconds { // no TCP, off, or long enough
			return
		}
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, milliseconds)
	})
}

// SetUserTimeout limits how long bytes may stay unacknowledged, see tcp(7).
func SetUserTimeout(conn *net.TCPConn, timeout time.Duration) {
	if timeout < 0 {
		return
	}
	milliseconds := int(max(timeout.Milliseconds(), 1))
	control(conn, func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, milliseconds)
	})
}

// States of a TCP socket, from include/net/tcp_states.h.
const (
	tcpClose     = 7 // reset, or given up
	tcpCloseWait = 8 // the peer has ended its side
)

// HasHungUp reports whether the peer of a TCP connection has gone, whatever is
// still to be read before that.
func HasHungUp(conn net.Conn) (gone bool) {
	control(conn, func(fd uintptr) {
		var info [4]byte // the state is the first byte of a struct tcp_info
		begin, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		binary.NativeEndian.PutUint32(info[:], uint32(begin))
		gone = err == nil && (info[0] == tcpCloseWait || info[0] == tcpClose)
	})
	return gone
}

// UnackedBytes returns how many of the bytes that were written to conn's socket
// its peer has not acknowledged. known is false if there is no socket.
func UnackedBytes(conn net.Conn) (count int64, known bool) {
	var queued int32
	control(conn, func(fd uintptr) {
		// SIOCOUTQ of tcp(7), which is TIOCOUTQ; package syscall has no function for it.
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&queued)))
		known = errno == 0
	})
	return int64(queued), known
}

// control calls f with the descriptor of conn's socket, if there is one that is open.
func control(conn net.Conn, f func(fd uintptr)) {
	s := socket(conn)
	if s == nil {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(f)
	}
}
