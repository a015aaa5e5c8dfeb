package layers

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/sock"
)

// TLS is a [raftwire.StreamLayer] that secures another one: both ends of a
// connection show a certificate, verify each other's, and nothing else is
// spoken. All methods may be called by several goroutines.
//
// Every connection that it returns is a *tls.Conn whose handshake is over.
// There is no resumption of earlier sessions, so each was verified by the
// certificates, CAs and rules of its own time.
//
// A certificate is verified when its connection is made, and not again. To cut
// off a peer whose certificate was revoked or whose CA was dropped, change what
// would refuse it (the files, or what Authorize answers), call Reload, and then
// the transport's CloseStreams: everybody has to authenticate again. That costs
// the requests under way, and no more.
type TLS struct {
	inner    raftwire.StreamLayer
	identity *identity
	inbound  inbound
	done     *Handoff        // takes the connections whose handshake is over
	layers   func() []string // protocols of a Mux over this layer, or nil
}

var _ raftwire.StreamLayer = (*TLS)(nil)

// NewTLSTransport listens on bindAddr and returns a transport over TLS over
// TCP. bindAddr, advertise and config are those of [raftwire.NewTCPTransportWithConfig],
// but config.Stream is set to the [TLS] made here. A nil
// security.Logger means config.Logger, and a nil security.Refused
// config.Hooks.Refused. For host names and Unix sockets, put
// [NewTLS] over [raftwire.NewTCPStreamLayer].
func NewTLSTransport(bindAddr string, advertise net.Addr, security TLSConfig, config *raftwire.NetworkTransportConfig) (*raftwire.NetworkTransport, error) {
	if config == nil {
		config = new(raftwire.NetworkTransportConfig)
	}
	if security.Logger == nil {
		security.Logger = config.Logger
	}
	if security.Refused == nil {
		security.Refused = config.Hooks.Refused
	}
	tcp, err := config.Listen(bindAddr, advertise)
	if err != nil {
		return nil, err
	}
	layer, err := NewTLS(tcp, security)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	config.Stream = layer
	return raftwire.NewNetworkTransportWithConfig(config), nil
}

// NewTLS returns a layer that secures the connections of inner,
// which it closes when it is closed. It reads the files, or calls Load, and
// blocks for as long as that takes. If it returns an error, inner stays as it is.
func NewTLS(inner raftwire.StreamLayer, config TLSConfig) (*TLS, error) {
	if sock.IsNil(inner) {
		return nil, errors.New("raftwire: the StreamLayer under TLS is nil: use NewTLSTransport for TCP")
	}
	identity, err := newIdentity(config, inner.Addr())
	if err != nil {
		return nil, err
	}
	used := identity.config // with its defaults
	l := &TLS{inner: inner, identity: identity}
	l.done = newHandoff(inner.Addr(), l.DialContext)
	l.inbound = inbound{
		acceptor: door.Acceptor{Listener: inner, Logger: used.Logger, Closed: func() { l.inbound.closeLayer(l.done) }},
		identify: l.handshake,
		door: door.Door{
			MaxUnidentified: used.MaxHandshakes,
			Crowded:         errHandshakesCrowded,
			Timeout:         used.HandshakeTimeout,
			Late:            errHandshakeSlow,
		},
	}
	l.inbound.init(config.Refused)
	l.inbound.tasks.Start(identity.run)
	return l, nil
}

var (
	errHandshakesCrowded = door.Refuse(door.TooManyConns, "too many other connections came before its TLS handshake was over: raise MaxHandshakes if that is what you want")
	errHandshakeSlow     = door.Refuse(door.Silent, "its TLS handshake was not over in time")
)

// DialContext connects to address and verifies who is there. It gives up when
// ctx is done. Note that a peer which does not want this node says so only when
// the connection is used.
func (l *TLS) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return l.dial(ctx, address, l.identity.config.NextProtos)
}

func (l *TLS) dial(ctx context.Context, address raftwire.ServerAddress, protocols []string) (net.Conn, error) {
	return l.identity.dial(ctx, address, protocols, func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		return dialing.Stream(ctx, l.inner, address)
	})
}

// CanCancelDials is for this module only: see dialing.CanCancel.
func (l *TLS) CanCancelDials() dialing.Cancels {
	return dialing.Cancels(dialing.CanCancel(l.inner))
}

// Dial is [TLS.DialContext] with a limit of its own; 0 means no
// limit but HandshakeTimeout.
func (l *TLS) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(l.DialContext, address, timeout)
}

// Accept returns the next connection whose handshake is over; it waits for
// nobody else's. It returns net.ErrClosed once this layer or the one under it is
// closed.
func (l *TLS) Accept() (net.Conn, error) {
	l.inbound.open()
	return l.done.Accept()
}

// HandTo is for this module only: see door.Source.
func (l *TLS) HandTo(listener net.Listener, to door.Taker) bool {
	if listener != net.Listener(l) {
		return false
	}
	l.done.HandTo(l.done, to)
	l.inbound.open()
	return true
}

// handshake does the handshake for an inbound connection.
func (l *TLS) handshake(next *door.Visit) (*Handoff, error) {
	return l.done, l.identity.accept(next, l.protocols(), l.inbound.report)
}

// protocols returns those that an inbound connection may choose from.
func (l *TLS) protocols() []string {
	own := l.identity.config.NextProtos
	if l.layers == nil {
		return own
	}
	return slices.Concat(own, l.layers())
}

// Reload reads the files, or calls Load, now. If that fails, what is in use
// stays in use. From its return on, whoever is accepted or dialled is verified
// anew: see [TLS] for how to cut off the others.
//
// Reload waits no longer than LoadTimeout, and then returns a net.Error that is a
// timeout. What is loaded after that is used all the same. If the files are being
// read already, Reload waits for that and reads them once more: what it loads is
// never older than the call. On a closed layer, and when it is closed, Reload returns
// net.ErrClosed.
func (l *TLS) Reload() error { return l.identity.Reload() }

// Expires returns when the own certificate in use expires, and when its CA does. Of a
// certificate for servers and another for clients, the one that expires first counts. So
// does each intermediate certificate above. CAs that are trusted beside its own do not
// count. The time of the CA is zero if the CAs that this node trusts have not signed its
// certificate. Expires does not block. [raftwire.NetworkTransport.Stats] shows both times.
func (l *TLS) Expires() (certificate, ca time.Time) { return l.identity.Expires() }

// Refusals returns how many inbound connections were refused since the layer
// was made. It does not block.
func (l *TLS) Refusals() raftwire.Refusals {
	return door.Counts[raftwire.Refusals](&l.inbound.refusals)
}

// Close closes the layer under this one, ends handshakes under way and the looks at
// files, and waits for the goroutines of both, but not for files or a Load that are being
// read. Connections that were accepted or dialled stay open.
func (l *TLS) Close() error {
	l.identity.close()
	l.inbound.closeLayer(l.done)
	return l.inbound.close()
}

// Addr implements net.Listener: the address of the layer under this one.
func (l *TLS) Addr() net.Addr { return l.inner.Addr() }
