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
// nil means the listener's own Dial or DialContext if it is a StreamLayer, and TCP or a
// Unix socket if it is a *net.TCPListener or a *net.UnixListener; otherwise the layer only
// accepts. Without a listener FromListener panics.
//
// Peers are told the listener's address, so it must name a host: "[::]:8300" does not. The
// address of a *net.UnixListener becomes "unix:/path", which peers dial.
func FromListener(listener net.Listener, dial DialFunc) raftwire.StreamLayer {
	if sock.IsNil(listener) {
		panic("raftwire: FromListener has no listener: look at the error that came with it")
	}
	if dial == nil {
		dial = dialLike(listener, "give FromListener a DialFunc")
	}
	return &listenerLayer{listener, dial}
}

// dialLike returns how to dial what listens as listener does; remedy says what to do if
// that is unknown.
func dialLike(listener net.Listener, remedy string) DialFunc {
	switch l := listener.(type) {
	case raftwire.StreamLayer:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return dialing.Stream(ctx, l, address)
		}
	case *net.TCPListener, *net.UnixListener:
		return new(raftwire.TCPStreamLayer).DialContext
	}
	return cannotDial(remedy)
}

// addrOf returns the listener's address as peers dial it.
func addrOf(listener net.Listener) net.Addr {
	if _, unix := listener.(*net.UnixListener); unix {
		return unixAddr{listener.Addr()}
	}
	return listener.Addr()
}

// unixAddr is the address of a Unix socket with the prefix of raftwire.TCPConfig.
type unixAddr struct{ net.Addr }

// String returns "unix:" and the path.
func (a unixAddr) String() string { return "unix:" + a.Addr.String() }

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

// Addr returns the address that peers are told.
func (l *listenerLayer) Addr() net.Addr { return addrOf(l.Listener) }

// Dial is DialContext with a limit of its own; 0 means no limit.
func (l *listenerLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(l.DialContext, address, timeout)
}

// DialContext connects to the layer of the peer at address.
func (l *listenerLayer) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return closeBesideError(l.dial(ctx, address))
}

// Expires returns what the listener does if that is a layer.
func (l *listenerLayer) Expires() (certificate, ca time.Time) { return expiresOf(l.Listener) }

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
