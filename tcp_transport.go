package raftwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
)

var (
	errNotAdvertisable = errors.New("local bind address is not advertisable: peers need an IP to dial; bind to a specific one, or pass an advertise address")
	errNotTCP          = errors.New("local address is not a TCP address: pass a *net.TCPAddr as the advertise address")
)

// TCPStreamLayer is a [StreamLayer] over plain TCP.
type TCPStreamLayer struct {
	advertise net.Addr
	listener  *net.TCPListener
}

var _ StreamLayer = (*TCPStreamLayer)(nil)

// NewTCPTransport listens on bindAddr ("host:port"; port 0 picks one) and
// returns a transport over TCP. advertise is the address that peers are told,
// nil means the one bound; either way it must be a *net.TCPAddr with a
// specific IP. For the other parameters see [NewNetworkTransport].
func NewTCPTransport(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logOutput io.Writer) (*NetworkTransport, error) {
	return NewTCPTransportWithLogger(bindAddr, advertise, maxPool, timeout, newLogger(logOutput))
}

// NewTCPTransportWithLogger is [NewTCPTransport] with a logger.
func NewTCPTransportWithLogger(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logger hclog.Logger) (*NetworkTransport, error) {
	return NewTCPTransportWithConfig(bindAddr, advertise, &NetworkTransportConfig{
		MaxPool: maxPool, Timeout: timeout, Logger: logger,
	})
}

// NewTCPTransportWithConfig is [NewTCPTransport] with a configuration, whose
// Stream is set to the layer made here.
func NewTCPTransportWithConfig(bindAddr string, advertise net.Addr, config *NetworkTransportConfig) (*NetworkTransport, error) {
	if config == nil {
		config = new(NetworkTransportConfig)
	}
	stream := &TCPStreamLayer{advertise: advertise}
	checked := *config
	checked.Stream = stream
	if err := checked.check(); err != nil {
		return nil, err
	}
	if err := stream.listen(bindAddr); err != nil {
		return nil, err
	}
	config.Stream = stream
	return NewNetworkTransportWithConfig(config), nil
}

func (t *TCPStreamLayer) listen(bindAddr string) error {
	listener, err := net.Listen("tcp", bindAddr)
	if err != nil {
		return fmt.Errorf("raftwire: cannot bind to %q: %w", bindAddr, err)
	}
	t.listener = listener.(*net.TCPListener)
	if err := checkAdvertisable(t.Addr()); err != nil {
		_ = listener.Close()
		return err
	}
	return nil
}

func checkAdvertisable(addr net.Addr) error {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp == nil {
		return errNotTCP
	}
	if tcp.IP == nil || tcp.IP.IsUnspecified() {
		return errNotAdvertisable
	}
	return nil
}

// Dial implements [StreamLayer].
func (t *TCPStreamLayer) Dial(address ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// DialContext dials until ctx ends.
func (t *TCPStreamLayer) DialContext(ctx context.Context, address ServerAddress) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", string(address))
}

// Accept implements net.Listener.
func (t *TCPStreamLayer) Accept() (c net.Conn, err error) { return t.listener.Accept() }

// Close implements net.Listener. It closes the listener, not the connections.
func (t *TCPStreamLayer) Close() (err error) { return t.listener.Close() }

// Addr implements net.Listener: the advertised address if there is one, else
// the one bound.
func (t *TCPStreamLayer) Addr() net.Addr {
	if t.advertise != nil {
		return t.advertise
	}
	return t.listener.Addr()
}
