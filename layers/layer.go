package layers

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/sock"
)

// DialFunc connects to a peer. It gives up when ctx is done, which has no effect
// on the connection afterwards.
type DialFunc func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error)

// FromListener makes a [raftwire.StreamLayer] of any listener: a socket of systemd's,
// one of tsnet, one that reads PROXY headers. dial connects to the listener of a peer.
// nil means TCP or a Unix socket if the listener is a *net.TCPListener or a
// *net.UnixListener; otherwise the layer only accepts. Without a listener FromListener
// panics.
func FromListener(listener net.Listener, dial DialFunc) raftwire.StreamLayer {
	if sock.IsNil(listener) {
		panic("raftwire: FromListener has no listener: look at the error that came with it")
	}
	if dial == nil {
		dial = dialLike(listener)
	}
	return &listenerLayer{listener, dial}
}

func dialLike(listener net.Listener) DialFunc {
	switch listener.(type) {
	case *net.TCPListener, *net.UnixListener:
		return new(raftwire.TCPStreamLayer).DialContext
	}
	return cannotDial("give FromListener a DialFunc")
}

// cannotDial returns a DialFunc that says what to do to have one.
func cannotDial(remedy string) DialFunc {
	return func(context.Context, raftwire.ServerAddress) (net.Conn, error) {
		return nil, fmt.Errorf("raftwire: this layer cannot dial: %s", remedy)
	}
}

// listenerLayer is a listener with a way to dial.
type listenerLayer struct {
	net.Listener
	dial DialFunc
}

// Dial is DialContext with a limit of its own; 0 means no limit.
func (l *listenerLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(l.DialContext, address, timeout)
}

// DialContext connects to the layer of the peer at address.
func (l *listenerLayer) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return closeBesideError(l.dial(ctx, address))
}

// closeBesideError closes a connection that somebody else's code returns beside an
// error.
func closeBesideError(conn net.Conn, err error) (net.Conn, error) {
	conn, err = sock.CheckConn(conn, err)
	if err != nil && conn != nil {
		sock.Close(conn)
		conn = nil
	}
	return conn, err
}
