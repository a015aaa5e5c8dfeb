package layers

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/raftwire/raftwire"
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
func (p *TLSPeer) HasName(name string) bool { return hasName(p.Certificate(), name) }

func hasName(certificate *x509.Certificate, name string) bool {
	if !isURI(name) {
		return certificate.VerifyHostname(name) == nil
	}
	return slices.ContainsFunc(certificate.URIs, func(uri *url.URL) bool { return uri.String() == name })
}

// isURI reports whether a name is none of a host, but a URI: "urn:raft:a" is one, too.
func isURI(name string) bool {
	return strings.Contains(name, ":") && net.ParseIP(strings.Trim(name, "[]")) == nil
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
