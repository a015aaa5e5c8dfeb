package raftwire

import (
	"net"
	"time"
)

// StreamLayer is what a [NetworkTransport] runs over: it accepts the
// connections of peers and dials them.
type StreamLayer interface {
	net.Listener

	// Dial connects to address. It returns within timeout; 0 means no limit.
	Dial(address ServerAddress, timeout time.Duration) (net.Conn, error)
}
