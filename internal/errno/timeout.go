package errno

import (
	"context"
	"errors"
	"net"
	"os"
)

// Timeout is a timeout of our own making.
type Timeout string

// ErrTimeout is a timeout like those of the net package.
const ErrTimeout = Timeout("i/o timeout")

var _ net.Error = Timeout("")

func (t Timeout) Error() string { return string(t) }

// Timeout reports that it is one.
func (t Timeout) Timeout() bool { return true }

// Temporary is required by net.Error.
func (t Timeout) Temporary() bool { return true }

// Is makes it match os.ErrDeadlineExceeded.
func (t Timeout) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// IsTimeout reports whether err is a timeout of any make.
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
