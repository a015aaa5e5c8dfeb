package layers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

const (
	defaultHandshakeTimeout = 10 * time.Second

	defaultMaxHandshakes = 1024

	defaultReloadInterval = time.Second

	defaultLoadTimeout = 10 * time.Second

	// lingerTimeout is how long a refused peer is listened to, so that it reads
	// why. A connection that is closed with input unread is reset, and then the
	// reason may be lost on the way.
	lingerTimeout = time.Second
)

// TLSConfig configures a [TLS]. A constructor copies it.
//
// Set either the three files or Load. The certificate is used to accept and to
// dial: if it names extended key usages, it must have both, serverAuth and
// clientAuth. If your CA issues a certificate for each, set the one for servers
// there, and the one for clients as ClientCertFile or LoadClient.
//
// ServerNameFor and Authorize run on the goroutine of the dial or handshake that
// they decide about. One that blocks holds up that one alone, but neither a
// timeout nor Close ends it. A panic in a function of TLSConfig is not recovered:
// it ends the process.
type TLSConfig struct {
	// CertFile is a PEM file with the node's certificate, followed by the
	// intermediate ones if there are any.
	CertFile string

	// KeyFile is a PEM file with the private key of CertFile's certificate. It
	// may be the same file.
	KeyFile string

	// ClientCertFile and ClientKeyFile are PEM files like CertFile and KeyFile, with
	// the certificate that is shown to peers that are dialled. It needs clientAuth
	// only, and CertFile's needs serverAuth only. Empty means CertFile and KeyFile.
	ClientCertFile string
	ClientKeyFile  string

	// CAFile is a PEM file with the certificates of the CAs that peers are
	// signed by; the system's CAs play no part. To move to another CA, have both
	// in the file on every node first.
	CAFile string

	// Load returns certificate and CAs from elsewhere than files. It is called when
	// files would be read: by the constructor, then each ReloadInterval and for each
	// Reload, on a goroutine of its own. It is never called concurrently. It may
	// block: see LoadTimeout. What it returns must not be changed any more.
	Load func() (*tls.Certificate, *x509.CertPool, error)

	// LoadClient returns the certificate that is shown to peers that are dialled. It
	// is called after Load, on the same goroutine. nil means that Load's is shown.
	LoadClient func() (*tls.Certificate, error)

	// ReloadInterval is the time from one look at the files to the next, from the
	// constructor to Close. What has changed is used by the handshakes that begin
	// afterwards; connections that stand are not touched. If the files cannot be
	// read or used, what is in use stays in use, and the log says why: at once, and
	// every five minutes while it lasts. 0 means one second; negative means that only
	// [TLS.Reload] reads them again.
	ReloadInterval time.Duration

	// LoadTimeout is how long Reload waits for the files or Load. A look that takes
	// longer goes on, with a warning in the log; until it is over, no other begins
	// and handshakes use what is in use. 0 means 10 seconds; negative is an error.
	LoadTimeout time.Duration

	// ServerName is a name that the certificate of every peer must have, DNS
	// name or IP address, whether the peer dials or is dialled, and whatever
	// its address: "server.dc1.consul" or "server.global.nomad" for example.
	// Empty means the host in the address for a peer that is dialled, and any
	// certificate of the CAs for one that dials: set ServerName or Authorize if
	// the CAs sign for others than the peers as well. A node whose own certificate
	// lacks the name warns of that in its log: its peers may ask for it, too.
	ServerName string

	// ServerNameFor returns the name that the certificate of the peer at an
	// address must have, in place of ServerName and for peers that are dialled
	// only; "" means no other. It is called before each dial, by whoever dials, and
	// must not block: the dial would outlast its deadline.
	ServerNameFor func(address raftwire.ServerAddress) string

	// Authorize decides, after all else was verified, whether a peer is let in;
	// its error is why not. nil lets in everybody who got so far. It is called
	// concurrently, once for each handshake and sometimes again, and must not
	// block: it would hold up that peer, and Close for up to a second, but no other
	// peer. A panic in it ends the process, or is the caller's who dials. [AllowNames] and [AllowRole] make such functions.
	Authorize func(peer *TLSPeer) error

	// MinVersion is the oldest version of TLS that is spoken. 0 means
	// tls.VersionTLS13; the only other value allowed is tls.VersionTLS12.
	MinVersion uint16

	// NextProtos are the ALPN protocols that are offered to a peer, or accepted
	// from one. nil means none: then whatever a peer offers is ignored.
	NextProtos []string

	// HandshakeTimeout bounds a handshake, on either side; on the dialling side
	// the deadline of the dial does as well. 0 means 10 seconds; negative is an
	// error.
	HandshakeTimeout time.Duration

	// MaxHandshakes is how many inbound handshakes may be under way. One more
	// ends the oldest, so that a crowd of stalled ones keeps nobody out. 0 means
	// 1024; negative is an error.
	MaxHandshakes int

	// Logger takes a line for inbound connections that are refused and for
	// certificates that change or cannot be read. It does not take one each time
	// where anybody on the network could bring that about. nil means standard
	// error, level info.
	Logger hclog.Logger

	// Refused is called for each inbound connection that is refused, as
	// [raftwire.Hooks].Refused is by a transport: metrics take both. nil means that of
	// the transport's Hooks in [NewTLSTransport], and nothing elsewhere.
	Refused func(raftwire.RefusalEvent)
}

// check returns what is wrong with the configuration, and what to do about it.
// What the files hold is another matter.
func (c *TLSConfig) check() error {
	switch {
	case c.Load != nil && c.CertFile+c.KeyFile+c.ClientCertFile+c.ClientKeyFile+c.CAFile != "":
		return errors.New("raftwire: TLSConfig.Load is set, and so are files: use one or the other")
	case c.Load == nil && c.CAFile == "":
		return errors.New("raftwire: TLSConfig.CAFile is empty: set it to a PEM file with the CAs of your peers, without which none could be verified, or set Load")
	case c.Load == nil && c.CertFile == "":
		return errors.New("raftwire: TLSConfig.CertFile is empty: set it to a PEM file with this node's certificate, since peers verify each other, or set Load")
	case c.Load == nil && c.KeyFile == "":
		return errors.New("raftwire: TLSConfig.KeyFile is empty: set it to the PEM file with the private key of CertFile's certificate; if that is in CertFile, name it again")
	case (c.ClientCertFile == "") != (c.ClientKeyFile == ""):
		return errors.New("raftwire: of TLSConfig.ClientCertFile and ClientKeyFile only one is set: set both, or neither to dial with CertFile's certificate")
	case c.LoadClient != nil && c.Load == nil:
		return errors.New("raftwire: TLSConfig.LoadClient is set, and Load is not: set Load as well, or ClientCertFile and ClientKeyFile in place of LoadClient")
	case c.MinVersion != 0 && c.MinVersion != tls.VersionTLS12 && c.MinVersion != tls.VersionTLS13:
		return fmt.Errorf("raftwire: TLSConfig.MinVersion is %s: use 0 for TLS 1.3, or tls.VersionTLS12", tls.VersionName(c.MinVersion))
	case c.LoadTimeout < 0:
		return fmt.Errorf("raftwire: TLSConfig.LoadTimeout is %v: use 0 for the default, or a positive duration", c.LoadTimeout)
	case c.HandshakeTimeout < 0:
		return fmt.Errorf("raftwire: TLSConfig.HandshakeTimeout is %v: use 0 for the default, or a positive duration", c.HandshakeTimeout)
	case c.MaxHandshakes < 0:
		return fmt.Errorf("raftwire: TLSConfig.MaxHandshakes is %d: use 0 for the default, or a positive number", c.MaxHandshakes)
	}
	return nil
}

func (c *TLSConfig) setDefaults() {
	if c.ReloadInterval == 0 {
		c.ReloadInterval = defaultReloadInterval
	}
	if c.LoadTimeout == 0 {
		c.LoadTimeout = defaultLoadTimeout
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = defaultHandshakeTimeout
	}
	if c.MaxHandshakes == 0 {
		c.MaxHandshakes = defaultMaxHandshakes
	}
	if c.Logger == nil {
		c.Logger = logs.Default()
	}
}

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
