package errno

import "errors"

// Plan 9 has texts instead of numbers, and other ones: it returns none of these.
var (
	Reset        = errors.New("connection reset by peer")
	BrokenPipe   = errors.New("broken pipe")
	Refused      = errors.New("connection refused")
	AddressInUse = errors.New("address already in use")
	TooManyFiles = errors.New("no free file descriptors")

	TimedOut        = errors.New("connection timed out")
	HostUnreachable = errors.New("no route to host")
	NetUnreachable  = errors.New("network is unreachable")
)
