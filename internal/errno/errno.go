// Package errno names the errors of a system's sockets: where the package
// syscall does not have them, and on Windows, where those that it has under
// the usual names are not those that sockets return.
package errno

import (
	"context"
	"errors"
	"net"
	"os"
)

// IsCut reports whether err says that a connection was cut off, by its peer or
// on the way.
func IsCut(err error) bool { return errors.Is(err, Reset) || errors.Is(err, BrokenPipe) }

// IsUnreachable reports whether err says that the system has given a peer up
// that does not answer any more.
func IsUnreachable(err error) bool {
	return errors.Is(err, TimedOut) || errors.Is(err, HostUnreachable) || errors.Is(err, NetUnreachable)
}

// TimeoutError is a timeout of our own making.
type TimeoutError string

var _ net.Error = TimeoutError("")

// ErrTimeout is a timeout like those of the net package.
const ErrTimeout = TimeoutError("i/o timeout")

func (e TimeoutError) Error() string { return string(e) }

// Timeout implements net.Error.
func (e TimeoutError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e TimeoutError) Temporary() bool { return true }

// Is makes a timeout match os.ErrDeadlineExceeded.
func (e TimeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// IsTimeout reports whether err says that time was over.
func IsTimeout(err error) bool {
	if err == nil {
		return false
	}
	if t, ok := err.(net.Error); ok { // errors.As would allocate
		return t.Timeout()
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
