//go:build !linux

package raftwire

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no such limit, or one of
// its own kind.
func setUserTimeout(*net.TCPConn, time.Duration) {}
