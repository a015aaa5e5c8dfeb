package layers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/sock"
)

// identity makes of a node's material what a handshake needs.
type identity struct{ *loader }

// newIdentity blocks while the material is loaded for the first time.
func newIdentity(config *TLSConfig) (*identity, error) {
	l, err := newLoader(config)
	return &identity{l}, err
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
