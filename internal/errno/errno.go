// Package errno names the errors of a system's sockets: where the package
// syscall does not have them, and on Windows, where those that it has under
// the usual names are not those that sockets return.
package errno

import "errors"

// IsCut reports whether err says that a connection was cut off, by its peer or
// on the way.
func IsCut(err error) bool { return errors.Is(err, Reset) || errors.Is(err, BrokenPipe) }

// IsUnreachable reports whether err says that the system has given a peer up
// that does not answer any more.
func IsUnreachable(err error) bool {
	return errors.Is(err, TimedOut) || errors.Is(err, HostUnreachable) || errors.Is(err, NetUnreachable)
}
