package sock

import (
	"net"
	"syscall"
	"unsafe"
)

// UnackedBytes returns how many of the bytes that were written to conn's socket
// its peer has not acknowledged. known is false if there is no socket.
func UnackedBytes(conn net.Conn) (count int64, known bool) {
	s := socket(conn)
	if s == nil {
		return 0, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, false
	}
	var queued int32
	_ = raw.Control(func(fd uintptr) {
		// SIOCOUTQ of tcp(7), which is TIOCOUTQ; package syscall has no function for it.
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&queued)))
		known = errno == 0
	})
	return int64(queued), known
}
