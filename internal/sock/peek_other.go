//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sock

import "net"

// Without MSG_DONTWAIT idle connections are watched by a goroutine of package conn.

func CanPeek(net.Conn) bool { return false }

func NewPeek(net.Conn) func() bool { return func() bool { return true } }
