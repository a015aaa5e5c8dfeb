package raftwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

var (
	errNotAdvertisable = errors.New("local bind address is not advertisable: peers need an IP to dial; bind to a specific one, or pass an advertise address; for a host name, use NewTCPStreamLayer")
	errNotTCP          = errors.New("local address is not a TCP address: pass a *net.TCPAddr as the advertise address; for a host name or a Unix socket, use NewTCPStreamLayer")
)

// A peer that is gone without a word is given up after 45 s, or 60 s where the
// system has no limit for unacknowledged data. Shorter times break
// connections over wide-area networks.
const defaultUserTimeout = 45 * time.Second

var defaultKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}

// unixPrefix begins the address of a Unix socket.
const unixPrefix = "unix:"

// TCPConfig configures a [TCPStreamLayer].
//
// An address is "host:port", where host is a name or an IP, or "unix:" and the
// path of a Unix socket. The name in a peer's address is resolved by each dial.
type TCPConfig struct {
	// Bind is the address to listen on. Port 0 picks one. Without a host it means
	// every address of the machine. A Unix socket that a dead process has left
	// behind is replaced.
	Bind string

	// Advertise is the address that peers are told. It is not resolved here;
	// port 0 stands for the one that was bound. Empty means Bind, which must
	// name a host then.
	Advertise string

	// Dial connects to peers; nil means a net.Dialer's DialContext. To dial from
	// a local address, set a net.Dialer's LocalAddr and use its DialContext. The
	// network is "tcp" or "unix".
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// KeepAlive probes the peers of idle connections. Zero means to begin after
	// 15 s, and to give up after 3 probes 15 s apart. Any other value is applied
	// as it is, so Enable must be set in one that is to probe.
	KeepAlive net.KeepAliveConfig

	// UserTimeout is how long sent bytes may stay unacknowledged, the peer may not
	// read, or probes may stay unanswered, before the connection ends
	// (TCP_USER_TIMEOUT). 0 means 45 s; negative leaves it to the system, which
	// waits about 15 minutes. It works on Linux only. If it is shorter than
	// KeepAlive.Idle, the first probe that gets lost ends the connection.
	//
	// It is a last resort. A NetworkTransport raises it to its Timeout, and on the
	// connections of snapshots to the time that these may take. If there is no such
	// limit, it switches it off; KeepAlive then still finds machines that are gone.
	UserTimeout time.Duration
}

func (c *TCPConfig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.Dial == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return c.Dial(ctx, network, address)
}

// TCPStreamLayer is a [StreamLayer] over plain TCP, or Unix sockets. Make one with
// [NewTCPStreamLayer]; of the zero value only Dial and DialContext may be called.
type TCPStreamLayer struct {
	config    TCPConfig
	listener  net.Listener
	advertise net.Addr
}

var _ StreamLayer = (*TCPStreamLayer)(nil)

// NewTCPStreamLayer listens on config.Bind. For a transport over the layer see
// [NewNetworkTransport].
func NewTCPStreamLayer(config TCPConfig) (*TCPStreamLayer, error) {
	listener, err := listenOn(config.Bind)
	if err != nil {
		return nil, err
	}
	advertise, err := config.advertised(listener)
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return &TCPStreamLayer{config: config, listener: listener, advertise: advertise}, nil
}

// NewTCPTransport listens on bindAddr ("host:port"; port 0 picks one) and
// returns a transport over TCP. advertise is the address that peers are told: nil
// means the one bound, and port 0 in it means the port that was bound. It must be a
// *net.TCPAddr with a specific IP. For the other parameters see [NewNetworkTransport].
func NewTCPTransport(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logOutput io.Writer) (*NetworkTransport, error) {
	return NewTCPTransportWithLogger(bindAddr, advertise, maxPool, timeout, logs.New(logOutput))
}

// NewTCPTransportWithLogger is [NewTCPTransport] with a logger.
func NewTCPTransportWithLogger(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logger hclog.Logger) (*NetworkTransport, error) {
	return NewTCPTransportWithConfig(bindAddr, advertise, &NetworkTransportConfig{
		MaxPool: maxPool, Timeout: timeout, Logger: logger,
	})
}

// NewTCPTransportWithConfig is [NewTCPTransport] with a configuration, whose
// Stream is set to the layer made here. A nil config means the zero value.
func NewTCPTransportWithConfig(bindAddr string, advertise net.Addr, config *NetworkTransportConfig) (*NetworkTransport, error) {
	if config == nil {
		config = new(NetworkTransportConfig)
	}
	stream, err := config.Listen(bindAddr, advertise)
	if err != nil {
		return nil, err
	}
	config.Stream = stream
	return NewNetworkTransportWithConfig(config), nil
}

// Listen checks the configuration and listens as [NewTCPTransportWithConfig] does, for
// a layer that is put over TCP. It ignores c.Stream.
func (c *NetworkTransportConfig) Listen(bindAddr string, advertise net.Addr) (*TCPStreamLayer, error) {
	stream := new(TCPStreamLayer)
	checked := *c
	checked.Stream = stream
	if err := checked.check(); err != nil {
		return nil, err
	}
	listener, err := listenOn(bindAddr)
	if err != nil {
		return nil, err
	}
	address, err := advertisable(advertise, listener.Addr())
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	stream.listener, stream.advertise = listener, address
	return stream, nil
}

// advertisable returns the address to tell peers: advertise, or the one bound.
func advertisable(advertise, bound net.Addr) (*net.TCPAddr, error) {
	given := !sock.IsNil(advertise)
	if !given {
		advertise = bound
	}
	tcp, ok := advertise.(*net.TCPAddr)
	switch {
	case !ok:
		return nil, errNotTCP
	case tcp.IP != nil && !tcp.IP.IsUnspecified():
	case given:
		return nil, fmt.Errorf("raftwire: the advertise address %v is not advertisable: peers need an IP to dial; for a host name, use NewTCPStreamLayer", tcp)
	default:
		return nil, errNotAdvertisable
	}
	if bound, ok := bound.(*net.TCPAddr); ok && tcp.Port == 0 {
		tcp = &net.TCPAddr{IP: tcp.IP, Port: bound.Port, Zone: tcp.Zone}
	}
	return tcp, nil
}

func listenOn(bind string) (net.Listener, error) {
	network, address := networkOf(bind)
	if bind == unixPrefix { // the system would pick a name that nobody is told
		return nil, fmt.Errorf("raftwire: cannot bind to %q: the path of a socket must follow", bind)
	}
	listener, err := net.Listen(network, address)
	if network == "unix" && errors.Is(err, errno.AddressInUse) && isAbandoned(address) {
		_ = os.Remove(address)
		listener, err = net.Listen(network, address)
	}
	if err != nil {
		return nil, fmt.Errorf("raftwire: cannot bind to %q: %w", bind, err)
	}
	return listener, nil
}

// networkOf returns the network and the address in it.
func networkOf(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		return "unix", path
	}
	return "tcp", address
}

// isAbandoned reports whether path is a Unix socket that nobody listens on.
func isAbandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return false
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, errno.Refused)
}

// advertised returns the address to tell peers.
func (c *TCPConfig) advertised(listener net.Listener) (net.Addr, error) {
	field, address := "Advertise", c.Advertise
	if address == "" {
		field, address = "Bind", c.Bind
	}
	switch network, path := networkOf(address); {
	case network == "unix" && path == "":
		return nil, fmt.Errorf("raftwire: TCPConfig.%s is %q: the path of a socket must follow", field, address)
	case network == "unix":
		return namedAddr{network, address}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf(`raftwire: TCPConfig.%s is %q: use "host:port" or "unix:path": %w`, field, address, err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return nil, fmt.Errorf(`raftwire: TCPConfig.%s %q is not advertisable, since it names no host: set Advertise to the "host:port" where peers reach this node, by name or IP`, field, address)
	}
	if bound, ok := listener.Addr().(*net.TCPAddr); ok && (port == "0" || port == "") {
		port = strconv.Itoa(bound.Port)
	}
	return namedAddr{"tcp", net.JoinHostPort(host, port)}, nil
}

// namedAddr is an address that is not resolved.
type namedAddr struct{ network, address string }

// Network returns "tcp" or "unix".
func (a namedAddr) Network() string { return a.network }

// String returns the address as peers dial it.
func (a namedAddr) String() string { return a.address }

// Dial is [TCPStreamLayer.DialContext] with a limit of its own; 0 means no
// limit.
func (t *TCPStreamLayer) Dial(address ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(t.DialContext, address, timeout)
}

// DialContext connects to address, and gives up when ctx is done.
func (t *TCPStreamLayer) DialContext(ctx context.Context, address ServerAddress) (net.Conn, error) {
	network, rest := networkOf(string(address))
	conn, err := sock.CheckConn(t.config.dial(ctx, network, rest))
	return t.tuned(conn), err
}

// Accept implements net.Listener.
func (t *TCPStreamLayer) Accept() (c net.Conn, err error) {
	conn, err := t.listener.Accept()
	return t.tuned(conn), err
}

// tuned returns conn, with its socket's options set if it is TCP. They are not
// set before it is connected, so that they hold for connections of every Dial.
func (t *TCPStreamLayer) tuned(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok && tcp != nil {
		_ = tcp.SetKeepAliveConfig(cmp.Or(t.config.KeepAlive, defaultKeepAlive))
		sock.SetUserTimeout(tcp, cmp.Or(t.config.UserTimeout, defaultUserTimeout))
	}
	return conn
}

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
