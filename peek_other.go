//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package raftwire

import "net"

// Without MSG_DONTWAIT idle connections are watched by a goroutine; see watch.go.

func canPeek(net.Conn) bool { return false }

func newPeek(net.Conn) func() bool { return func() bool { return true } }
