package layers

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// identity is a node's material, and makes of it what a handshake needs.
type identity struct {
	config   *TLSConfig
	material atomic.Pointer[material]  // in use
	begun    atomic.Pointer[time.Time] // when the load under way began; nil if there is none
	requests chan chan<- error         // by reload; each is told how a load ended
	closing  sync.Once
	done     chan struct{} // closed by close

	// Owned by run.
	told      time.Time // when the log was told of a failure; zero after a success
	ownExpiry expiryWarning
	caExpiry  expiryWarning
}

// newIdentity blocks while the material is loaded for the first time. The caller starts
// run.
func newIdentity(config TLSConfig, local net.Addr) (*identity, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config.setDefaults()
	config.Logger = config.Logger.With(logs.KeyLocal, local)
	first, err := config.load()
	if err != nil {
		return nil, fmt.Errorf("raftwire: TLS: %w", err)
	}
	i := &identity{config: &config, requests: make(chan chan<- error), done: make(chan struct{})}
	i.use(first)
	return i, nil
}

// Reload is that of a TLS and of a Mux.
func (i *identity) Reload() error {
	if err := i.reload(); err != nil {
		return fmt.Errorf("raftwire: TLS: %w", err)
	}
	return nil
}

// dial connects to address with dial, and verifies who is there.
func (i *identity) dial(ctx context.Context, address raftwire.ServerAddress, protocols []string, dial DialFunc) (net.Conn, error) {
	config, err := i.clientConfig(address, protocols)
	if err != nil {
		return nil, err
	}
	raw, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(sock.Timed(raw), config)
	ctx, cancel := context.WithTimeout(ctx, i.config.HandshakeTimeout)
	defer cancel()
	if err := handshake(ctx, conn); err != nil {
		if ctx.Err() != nil {
			err = dialing.Explain(ctx, err)
		}
		return nil, fmt.Errorf("TLS handshake: %w", explainDialled(err))
	}
	return conn, nil
}

// handshake closes conn if the handshake fails, or panics in a function of somebody
// else's.
func handshake(ctx context.Context, conn *tls.Conn) error {
	over := false
	defer func() {
		if !over {
			sock.Close(conn)
		}
	}()
	err := conn.HandshakeContext(ctx)
	over = err == nil
	return err
}

// clientConfig returns the configuration for dialling address.
func (i *identity) clientConfig(address raftwire.ServerAddress, protocols []string) (*tls.Config, error) {
	name := i.nameOf(address)
	if name == "" && !i.config.AuthorizeNames {
		return nil, fmt.Errorf("no name to verify in the address %q: set TLSConfig.ServerName", address)
	}
	material := i.material.Load()
	config := i.newConfig(protocols)
	config.RootCAs = material.cas
	// Not Certificates: of those, one would be shown only if it is of a CA that
	// the peer has named, and the peer could not say what it has against it.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return material.client, nil
	}
	if name != "" && !isURI(name) {
		config.ServerName = name
		config.VerifyConnection = func(state tls.ConnectionState) error {
			return i.authorize(&TLSPeer{Address: address, Chains: state.VerifiedChains}, name)
		}
		return config, nil
	}
	// crypto/tls verifies certificates by names of hosts only, or not at all.
	config.ServerName = hostOf(address) // for who forwards connections by it
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		chains, err := verify(state.PeerCertificates, material.cas, x509.ExtKeyUsageServerAuth, time.Now())
		if err != nil {
			return err
		}
		return i.authorize(&TLSPeer{Address: address, Chains: chains}, name)
	}
	return config, nil
}

// nameOf returns the name that the certificate of the peer at address must have. ""
// means that there is none, or that Authorize checks names.
func (i *identity) nameOf(address raftwire.ServerAddress) string {
	if i.config.AuthorizeNames {
		return ""
	}
	if i.config.ServerNameFor != nil {
		if name := i.config.ServerNameFor(address); name != "" {
			return name
		}
	}
	return cmp.Or(i.config.ServerName, hostOf(address))
}

// hostOf returns the host in an address, or "".
func hostOf(address raftwire.ServerAddress) string {
	if strings.HasPrefix(string(address), "unix:") {
		return "" // a path is no name
	}
	host, _, err := net.SplitHostPort(string(address))
	if err != nil {
		host = string(address)
	}
	host, _, _ = strings.Cut(host, "%") // a zone is no part of the identity
	return host
}

// accept does the handshake for an inbound connection. report is told if the peer does
// not hold when it is verified again.
func (i *identity) accept(next *door.Visit, protocols []string, report func(peer string, err error)) error {
	material, raw, before := i.material.Load(), next.Conn, next.Verify
	conn := tls.Server(sock.Timed(raw), i.serverConfig(material, next.Peer, protocols))
	if err := conn.Handshake(); err != nil {
		lingerClose(raw)
		return explainAccepted(next.Peer, err)
	}
	peer := next.Peer
	next.Conn, next.Identified = conn, true
	next.Verify = func() error {
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		err := i.verifyAgain(conn, peer, material)
		if err != nil {
			err = explainAccepted(peer, err)
			report(peer, err)
		}
		return err
	}
	return nil
}

// lingerClose lets a refused peer read what it was told, before it is closed.
func lingerClose(raw net.Conn) {
	if !sock.CloseWrite(raw) {
		return
	}
	_ = raw.SetReadDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.Copy(io.Discard, raw)
}

// serverConfig returns the configuration for a connection from address.
func (i *identity) serverConfig(material *material, peer string, protocols []string) *tls.Config {
	config := i.newConfig(protocols)
	config.Certificates = []tls.Certificate{*material.server}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = material.cas
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return i.authorizeInbound(peer, state.VerifiedChains)
	}
	return config
}

func (i *identity) newConfig(protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion: i.config.MinVersion,
		NextProtos: protocols,
		// A resumed session would be let in by what was verified before.
		SessionTicketsDisabled: true,
		// Small records would only help a browser to begin with half a page.
		DynamicRecordSizingDisabled: true,
	}
}

// authorize decides about a peer whose certificate was verified. It must have the name,
// unless that is "".
func (i *identity) authorize(peer *TLSPeer, name string) error {
	var err error
	if name != "" {
		err = AllowNames(name)(peer)
	}
	if err == nil && i.config.Authorize != nil {
		err = i.config.Authorize(peer)
	}
	if err != nil {
		return &unauthorizedError{peer, err}
	}
	return nil
}

// verifyAgain verifies the peer of an inbound connection once more if by, the
// material that it was verified by, is not in use any more: a handshake takes as long as the
// peer likes, and must not carry an old verdict past a Reload.
func (i *identity) verifyAgain(conn *tls.Conn, peer string, by *material) error {
	material := i.material.Load()
	if by == material {
		return nil
	}
	chains, err := verify(conn.ConnectionState().PeerCertificates, material.cas, x509.ExtKeyUsageClientAuth, time.Now())
	if err != nil {
		return err
	}
	return i.authorizeInbound(peer, chains)
}

func (i *identity) authorizeInbound(peer string, chains [][]*x509.Certificate) error {
	return i.authorize(&TLSPeer{Address: raftwire.ServerAddress(peer), Inbound: true, Chains: chains}, i.config.ServerName)
}

// verify returns the chains from a certificate, the first, to the CAs, which hold at a time.
func verify(certificates []*x509.Certificate, cas *x509.CertPool, usage x509.ExtKeyUsage, at time.Time) ([][]*x509.Certificate, error) {
	options := x509.VerifyOptions{
		Roots:         cas,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{usage},
		CurrentTime:   at,
	}
	for _, intermediate := range certificates[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	chains, err := certificates[0].Verify(options)
	if err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: certificates, Err: err}
	}
	return chains, nil
}
