//go:build !linux

package raftwire

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no such limit, or one of
// its own kind.
func setUserTimeout(*net.TCPConn, time.Duration) {}

// raiseUserTimeout does nothing either.
func raiseUserTimeout(net.Conn, time.Duration) {}

// hasHungUp does not know here: the end of a connection shows when it is read.
func hasHungUp(net.Conn) bool { return false }
