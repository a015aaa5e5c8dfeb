//go:build !plan9 && !windows

package errno

import "syscall"

// What sockets return.
var (
	Reset        error = syscall.ECONNRESET
	BrokenPipe   error = syscall.EPIPE
	Refused      error = syscall.ECONNREFUSED
	AddressInUse error = syscall.EADDRINUSE
	TooManyFiles error = syscall.EMFILE

	TimedOut        error = syscall.ETIMEDOUT
	HostUnreachable error = syscall.EHOSTUNREACH
	NetUnreachable  error = syscall.ENETUNREACH
)
