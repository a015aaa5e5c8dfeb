package errno

import "syscall"

// What sockets return (winsock2.h). Those of the package syscall that are named
// as on other systems never come from the system.
var (
	Reset        error = syscall.WSAECONNRESET
	BrokenPipe   error = syscall.WSAECONNABORTED
	Refused      error = syscall.Errno(10061) // WSAECONNREFUSED
	AddressInUse error = syscall.Errno(10048) // WSAEADDRINUSE
	TooManyFiles error = syscall.Errno(10024) // WSAEMFILE

	TimedOut        error = syscall.Errno(10060) // WSAETIMEDOUT
	HostUnreachable error = syscall.Errno(10065) // WSAEHOSTUNREACH
	NetUnreachable  error = syscall.Errno(10051) // WSAENETUNREACH
)
