//go:build !linux

package raftwire

import "net"

// unackedBytes does not know here.
func unackedBytes(net.Conn) (count int64, known bool) { return 0, false }
