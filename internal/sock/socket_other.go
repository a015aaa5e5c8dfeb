//go:build !linux

package sock

import (
	"net"
	"time"
)

// SetUserTimeout does nothing where the system has no such limit, or one of
// its own kind.
func SetUserTimeout(*net.TCPConn, time.Duration) {}

// RaiseUserTimeout does nothing either.
func RaiseUserTimeout(net.Conn, time.Duration) {}

// HasHungUp does not know here: the end of a connection shows when it is read.
func HasHungUp(net.Conn) bool { return false }

// UnackedBytes does not know either.
func UnackedBytes(net.Conn) (count int64, known bool) { return 0, false }
