package layers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/sock"
)

// TLSPeer is who is at the other end of a connection: its certificate was
// verified, and it is up to TLSConfig.Authorize whether that is enough.
type TLSPeer struct {
	// Address is the address that was dialled, or the one that an inbound
	// connection comes from.
	Address raftwire.ServerAddress

	// Inbound says that the peer has dialled.
	Inbound bool

	// Chains are the ways in which the peer's certificate was verified, at
	// least one: each begins with that certificate and ends with a CA's. They
	// must not be changed.
	Chains [][]*x509.Certificate
}

// Certificate returns the peer's own certificate.
func (p *TLSPeer) Certificate() *x509.Certificate { return p.Chains[0][0] }

// HasName reports whether the peer's certificate has a name among its
// subject alternative names: a DNS name or IP address, for which wildcards in
// the certificate count as usual, or a URI such as "spiffe://cluster/raft".
func (p *TLSPeer) HasName(name string) bool {
	if !strings.Contains(name, "://") {
		return p.Certificate().VerifyHostname(name) == nil
	}
	for _, uri := range p.Certificate().URIs {
		if uri.String() == name {
			return true
		}
	}
	return false
}

// AllowNames returns a function for TLSConfig.Authorize that lets in peers
// with any of the names; see [TLSPeer.HasName].
func AllowNames(names ...string) func(*TLSPeer) error {
	names = slices.Clone(names) // the caller may use its slice again
	return func(p *TLSPeer) error {
		if slices.ContainsFunc(names, p.HasName) {
			return nil
		}
		return fmt.Errorf("its certificate must have the name %s", strings.Join(names, " or "))
	}
}

// AllowRole returns a function for TLSConfig.Authorize that lets in peers with
// a role in any of the domains: AllowRole("server", "dc1.consul", "dc2.consul")
// those whose certificate has the name server.dc1.consul or server.dc2.consul.
// For a single name, TLSConfig.ServerName does it all.
func AllowRole(role string, domains ...string) func(*TLSPeer) error {
	names := make([]string, len(domains))
	for i, domain := range domains {
		names[i] = role + "." + domain
	}
	return AllowNames(names...)
}

// identity makes of a node's material what a handshake needs.
type identity struct{ loader }

// newIdentity blocks while the material is loaded for the first time.
func newIdentity(config *TLSConfig) (*identity, error) {
	i := new(identity)
	return i, i.start(config)
}

// clientConfig returns the configuration for dialling address.
func (i *identity) clientConfig(address raftwire.ServerAddress, protocols []string) (*tls.Config, error) {
	name := i.nameOf(address)
	if name == "" {
		return nil, fmt.Errorf("no name to verify in the address %q: set TLSConfig.ServerName", address)
	}
	material := i.current()
	config := i.newConfig(protocols)
	config.ServerName = name
	config.RootCAs = material.cas
	// Not Certificates: of those, one would be shown only if it is of a CA that
	// the peer has named, and the peer could not say what it has against it.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return material.client, nil
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return i.authorize(&TLSPeer{Address: address, Chains: state.VerifiedChains})
	}
	return config, nil
}

// nameOf returns the name that the certificate of the peer at address must have.
func (i *identity) nameOf(address raftwire.ServerAddress) string {
	if i.config.ServerNameFor != nil {
		if name := i.config.ServerNameFor(address); name != "" {
			return name
		}
	}
	if i.config.ServerName != "" {
		return i.config.ServerName
	}
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

// serverConfig returns the configuration for a connection from address.
func (i *identity) serverConfig(material *material, address raftwire.ServerAddress, protocols []string) *tls.Config {
	config := i.newConfig(protocols)
	config.Certificates = []tls.Certificate{*material.server}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = material.cas
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return i.authorize(&TLSPeer{Address: address, Inbound: true, Chains: state.VerifiedChains})
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

// unauthorizedError is why a peer with a valid certificate was not let in.
type unauthorizedError struct {
	peer *TLSPeer
	err  error
}

func (e *unauthorizedError) Error() string {
	return fmt.Sprintf("the peer with the certificate %s is not authorized: %v", describe(e.peer.Certificate()), e.err)
}

func (e *unauthorizedError) Unwrap() error { return e.err }

// authorize decides about a peer whose certificate was verified.
func (i *identity) authorize(peer *TLSPeer) error {
	var err error
	if peer.Inbound && i.config.ServerName != "" {
		err = AllowNames(i.config.ServerName)(peer)
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
func (i *identity) verifyAgain(conn *tls.Conn, by *material) error {
	material := i.current()
	if by == material {
		return nil
	}
	certificates := conn.ConnectionState().PeerCertificates
	options := x509.VerifyOptions{
		Roots:         material.cas,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, intermediate := range certificates[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	chains, err := certificates[0].Verify(options)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certificates, Err: err}
	}
	return i.authorize(&TLSPeer{Address: raftwire.ServerAddress(sock.RemoteAddress(conn)), Inbound: true, Chains: chains})
}
