package layers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/raftwire/raftwire"
)

// dialer returns how to dial a layer with this key. A Handoff closes what is returned
// beside an error.
func (m *Mux) dialer(key Key) DialFunc {
	switch key.kind {
	case keyALPN:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return m.dialALPN(ctx, address, key.protocol)
		}
	case keyFirstByte:
		return func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
			return m.dialFirst(ctx, address, key.first)
		}
	}
	return m.dial
}

func (m *Mux) dialFirst(ctx context.Context, address raftwire.ServerAddress, first byte) (net.Conn, error) {
	conn, err := m.dial(ctx, address)
	if err == nil {
		err = writeByte(ctx, conn, first)
	}
	return conn, err
}

// writeByte writes until ctx ends, which closes the connection. The byte goes
// out by itself: to put it before the first message, every write would have to
// go through a wrapper, for which net.Buffers does not gather.
func writeByte(ctx context.Context, conn net.Conn, b byte) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, err := conn.Write([]byte{b})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return err
}

func (m *Mux) dialALPN(ctx context.Context, address raftwire.ServerAddress, protocol string) (net.Conn, error) {
	conn, err := m.dialSecured(ctx, address, protocol)
	if err != nil {
		return conn, err
	}
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return conn, fmt.Errorf("%v needs TLS: set MuxConfig.TLS, or a Dial that returns a *tls.Conn", ALPN(protocol))
	}
	if err := handshake(ctx, secured); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if got := secured.ConnectionState().NegotiatedProtocol; got != protocol {
		return conn, fmt.Errorf("the peer negotiated the protocol %q instead of %q: it has no such layer", got, protocol)
	}
	return conn, nil
}

// dialSecured dials with TLS, unless that is for the program's own Dial to do.
func (m *Mux) dialSecured(ctx context.Context, address raftwire.ServerAddress, protocol string) (net.Conn, error) {
	if secured, ok := m.under.(*TLS); ok {
		return secured.dial(ctx, address, []string{protocol})
	}
	if m.identity != nil {
		return m.identity.dial(ctx, address, []string{protocol}, m.dial)
	}
	return m.dial(ctx, address)
}
