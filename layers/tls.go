package layers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

// lingerTimeout is how long a refused peer is listened to, so that it reads why. A
// connection that is closed with input unread is reset, and then the reason may be
// lost on the way.
const lingerTimeout = time.Second

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
	inner     raftwire.StreamLayer
	identity  *identity
	timeout   time.Duration
	start     sync.Once
	reception reception
	done      *Handoff        // takes the connections whose handshake is over
	layers    func() []string // protocols of a Mux over this layer, or nil
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
	if err := config.check(); err != nil {
		return nil, err
	}
	config.setDefaults()
	config.Logger = config.Logger.With(logs.KeyLocal, inner.Addr())
	identity, err := newIdentity(&config)
	if err != nil {
		return nil, fmt.Errorf("raftwire: TLS: %w", err)
	}
	l := &TLS{inner: inner, identity: identity, timeout: config.HandshakeTimeout}
	l.done = newHandoff(inner.Addr(), l.DialContext)
	l.reception = reception{
		listener: inner,
		logger:   config.Logger,
		timeout:  config.HandshakeTimeout,
		limit:    config.MaxHandshakes,
		sort:     l.acceptHandshake,
		crowded:  errHandshakesCrowded,
		slow:     errHandshakeSlow,
	}
	l.reception.refusals.Hook = refusedHook(config.Refused)
	l.reception.setDefaults()
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
	config, err := l.identity.clientConfig(address, protocols)
	if err != nil {
		return nil, err
	}
	raw, err := dialing.Stream(ctx, l.inner, address)
	if err != nil {
		return nil, err
	}
	secured := false
	defer func() {
		if !secured { // also if Authorize panics
			_ = raw.Close()
		}
	}()
	conn := tls.Client(&sock.TimedConn{Conn: raw}, config)
	if err := l.dialHandshake(ctx, conn); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", explainDialled(err))
	}
	secured = true
	return conn, nil
}

func (l *TLS) dialHandshake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	if err != nil && ctx.Err() != nil {
		return dialing.Explain(ctx, err)
	}
	return err
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
// nobody else's. It returns net.ErrClosed once the layer is closed.
func (l *TLS) Accept() (net.Conn, error) {
	l.start.Do(l.reception.open)
	return l.done.Accept()
}

// HandTo is for this module only: see door.Source.
func (l *TLS) HandTo(listener net.Listener, take func(door.Handover)) bool {
	if listener != net.Listener(l) {
		return false
	}
	l.done.HandTo(l.done, take)
	l.start.Do(l.reception.open)
	return true
}

// acceptHandshake does the handshake for an inbound connection.
func (l *TLS) acceptHandshake(in door.Handover) (door.Handover, *Handoff, error) {
	material := l.identity.current()
	conn := tls.Server(&sock.TimedConn{Conn: in.Conn}, l.identity.serverConfig(material, raftwire.ServerAddress(sock.RemoteAddress(in.Conn)), l.protocols()))
	if err := conn.Handshake(); err != nil {
		lingerClose(in.Conn)
		return in, nil, explainAccepted(sock.RemoteAddress(in.Conn), err)
	}
	out := door.Handover{Conn: conn, Identified: true, Ended: in.Ended}
	out.Verify = func() error {
		if err := in.VerifyAgain(); err != nil {
			return err
		}
		return l.verifyAgain(conn, material)
	}
	return out, l.done, nil
}

func (l *TLS) verifyAgain(conn *tls.Conn, by *material) error {
	err := l.identity.verifyAgain(conn, by)
	if err != nil {
		err = explainAccepted(sock.RemoteAddress(conn), err)
		l.reception.report(conn, err)
	}
	return err
}

// protocols returns those that an inbound connection may choose from.
func (l *TLS) protocols() []string {
	own := l.identity.config.NextProtos
	if l.layers == nil {
		return own
	}
	return slices.Concat(own, l.layers())
}

// lingerClose lets a refused peer read what it was told, before it is closed.
func lingerClose(raw net.Conn) {
	half, ok := raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = raw.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, raw)
}

// Reload reads the files, or calls Load, now. If that fails, what is in use
// stays in use. From its return on, whoever is accepted or dialled is verified
// anew: see [TLS] for how to cut off the others.
//
// Reload waits no longer than LoadTimeout, and then returns a net.Error that is a
// timeout. What is loaded after that is used all the same. A look that is under
// way is waited for first: what Reload loads is never older than the call. On a
// closed layer, and when it is closed, Reload returns net.ErrClosed.
func (l *TLS) Reload() error {
	if err := l.identity.reload(); err != nil {
		return fmt.Errorf("raftwire: TLS: %w", err)
	}
	return nil
}

// Refusals returns how many inbound connections were refused since the layer
// was made. It does not block.
func (l *TLS) Refusals() raftwire.Refusals { return raftwire.Refusals(l.reception.refusals.Counts()) }

// Close closes the layer under this one, ends handshakes under way, and waits
// for them, but not for files or a Load that are being read. It ends the looks at
// them. Connections that were accepted or dialled stay open.
func (l *TLS) Close() error {
	l.identity.close()
	return errors.Join(l.reception.close(), l.done.Close())
}

// Addr implements net.Listener: the address of the layer under this one.
func (l *TLS) Addr() net.Addr { return l.inner.Addr() }
