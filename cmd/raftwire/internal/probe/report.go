// Package probe finds out what answers at an address where a Raft node should.
package probe

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Result says in a word what was found.
type Result string

const (
	// Raft: the Raft core answered.
	Raft Result = "raft"
	// Unreachable: nothing accepts connections at the address.
	Unreachable Result = "unreachable"
	// Silent: connections are accepted, and nothing is answered.
	Silent Result = "silent"
	// Refused: TLS is spoken there, and this client is not let in.
	Refused Result = "tls-refused"
	// Untrusted: the core answered, but the certificate does not pass the check
	// that was asked for.
	Untrusted Result = "tls-untrusted"
	// Foreign: something else than Raft answers.
	Foreign Result = "foreign"
	// Closed: connections are closed without an answer.
	Closed Result = "closed"
	// Before17 is hashicorp/raft before 1.7, which knows no pre-votes.
	Before17 Result = "before-1.7"
	// CoreSilent: Raft requests are read, but the core does not answer.
	CoreSilent Result = "core-silent"
	// CoreError: the core answered with an error.
	CoreError Result = "core-error"
	// IdentityRequired: the node refuses peers that do not say who they are.
	IdentityRequired Result = "identity-required"
)

// Report is what a probe has found.
type Report struct {
	Address string `json:"address"`
	Result  Result `json:"result"`
	// Detail explains the result in a sentence.
	Detail string `json:"detail"`
	// Connect is the time in which TCP connected.
	Connect Millis `json:"connect_ms,omitempty"`
	// TLS is nil if TLS was not tried or is not spoken there.
	TLS *TLS `json:"tls,omitempty"`
	// Via is what lies between TCP and Raft, outermost first: "tls" and first bytes.
	Via []string `json:"via"`
	// Identity is nil unless the node says who it is.
	Identity *Identity `json:"identity,omitempty"`
	// Node is nil unless the core answered without an error.
	Node *Node `json:"node,omitempty"`
	// Notes are what the reader should know besides.
	Notes []string `json:"notes,omitempty"`
}

// TLS describes the TLS of a port.
type TLS struct {
	Version  string `json:"version,omitempty"`
	Protocol string `json:"alpn,omitempty"`
	// ClientCertificate says what became of the client's certificate: "not asked for",
	// "asked for, none shown" or "shown".
	ClientCertificate string       `json:"client_certificate,omitempty"`
	Certificate       *Certificate `json:"certificate,omitempty"`
}

// Certificate describes the certificate of the peer.
type Certificate struct {
	Subject   string    `json:"subject,omitempty"`
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Checked says whether the certificate was checked with CAs and a name.
	Checked bool `json:"checked"`
	// Problem is why it did not pass, or "".
	Problem string `json:"problem,omitempty"`
}

// Identity is what a transport with a raftwire.Identity says of itself.
type Identity struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

// Node is what the core says of itself.
type Node struct {
	ID       string `json:"id,omitempty"`
	Address  string `json:"address,omitempty"`
	Protocol int    `json:"protocol_version"`
	Term     uint64 `json:"term"`
	Granted  bool   `json:"granted"`
	// RoundTrip is the time from sending the request to its answer.
	RoundTrip Millis `json:"round_trip_ms"`
}

// Millis is a duration that JSON shows in milliseconds.
type Millis time.Duration

// MarshalJSON returns a number with three places.
func (m Millis) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", float64(m)/float64(time.Millisecond)), nil
}

// String returns the duration in milliseconds.
func (m Millis) String() string { return fmt.Sprintf("%.1f ms", float64(m)/float64(time.Millisecond)) }

// describe returns what a certificate says.
func describe(c *x509.Certificate) *Certificate {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	return &Certificate{
		Subject: c.Subject.String(), Names: names, Issuer: c.Issuer.String(),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}
