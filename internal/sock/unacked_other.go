//go:build !linux

package sock

import "net"

// UnackedBytes does not know here.
func UnackedBytes(net.Conn) (count int64, known bool) { return 0, false }
