package raftwire

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TLSPeer is who is at the other end of a connection: its certificate was
// verified, and it is up to TLSConfig.Authorize whether that is enough.
type TLSPeer struct {
	// Address is the address that was dialled, or the one that an inbound
	// connection comes from.
	Address ServerAddress

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

// tlsMaterial is what a node shows to its peers, and verifies them by.
type tlsMaterial struct {
	certificate *tls.Certificate // has its Leaf
	cas         *x509.CertPool
}

// tlsIdentity holds the material, keeps it up to date, and makes of it what a
// handshake needs.
type tlsIdentity struct {
	config   *TLSConfig
	material atomic.Pointer[tlsMaterial]

	mu        sync.Mutex // held while material is loaded; protects following
	lookAgain time.Time
	complaint string // why the last attempt failed
}

func newTLSIdentity(config *TLSConfig) (*tlsIdentity, error) {
	i := &tlsIdentity{config: config}
	return i, i.reload()
}

// current returns the material for a handshake, after a look whether there is
// something new if that is due.
func (i *tlsIdentity) current() *tlsMaterial {
	if i.config.ReloadInterval > 0 && i.mu.TryLock() { // else somebody looks already
		defer i.mu.Unlock()
		if !time.Now().Before(i.lookAgain) {
			i.look()
		}
	}
	return i.material.Load()
}

// look loads the material, and goes on with the old if that fails or if it is
// the same. It tells the log once.
func (i *tlsIdentity) look() {
	material, err := i.load()
	switch {
	case err != nil && err.Error() != i.complaint:
		i.complaint = err.Error()
		i.config.Logger.Error("cannot reload TLS certificates, going on with those in use", keyError, err)
	case err == nil:
		i.complaint = ""
		if !material.equal(i.material.Load()) {
			i.use(material)
		}
	}
}

func (i *tlsIdentity) use(material *tlsMaterial) {
	leaf := material.certificate.Leaf
	if i.material.Swap(material) != nil {
		i.config.Logger.Info("TLS certificates reloaded", keyCert, describe(leaf), keyExpires, leaf.NotAfter)
	}
	if name := i.config.ServerName; name != "" && leaf.VerifyHostname(name) != nil {
		i.config.Logger.Warn(fmt.Sprintf("this node's own certificate does not have the name %q: peers that ask for it will refuse this node", name), keyCert, describe(leaf))
	}
}

// reload loads the material and uses it, even if it is the same: whoever was
// verified by the old one and is not accepted yet is verified again.
func (i *tlsIdentity) reload() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	material, err := i.load()
	if err == nil {
		i.use(material)
	}
	return err
}

func (i *tlsIdentity) load() (*tlsMaterial, error) {
	i.lookAgain = time.Now().Add(i.config.ReloadInterval)
	if i.config.Load == nil {
		return i.config.loadFiles()
	}
	certificate, cas, err := i.config.Load()
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.Load: %w", err)
	}
	material, err := newTLSMaterial(certificate, cas)
	if err != nil {
		return nil, fmt.Errorf("what TLSConfig.Load returned: %w", err)
	}
	return material, nil
}

func (c *TLSConfig) loadFiles() (*tlsMaterial, error) {
	cas, err := readCAs(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.CAFile: %w", err)
	}
	certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.CertFile %q with KeyFile %q: %w", c.CertFile, c.KeyFile, err)
	}
	material, err := newTLSMaterial(&certificate, cas)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.CertFile %q: %w", c.CertFile, err)
	}
	return material, nil
}

// readCAs reads the certificates in a file. Unlike AppendCertsFromPEM it takes
// all of them or none: half a file must not lock half of the peers out.
func readCAs(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	cas, found := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%q holds a %s: only certificates of CAs belong there", file, block.Type)
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in %q: %w", found+1, file, err)
		}
		cas.AddCert(ca)
		found++
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, fmt.Errorf("%q is damaged or cut off after %d certificates", file, found)
	case found == 0:
		return nil, fmt.Errorf("%q holds no certificate: it must be PEM, beginning with -----BEGIN CERTIFICATE-----", file)
	}
	return cas, nil
}

// newTLSMaterial refuses what peers would refuse anyway, where it is easier to
// see why.
func newTLSMaterial(certificate *tls.Certificate, cas *x509.CertPool) (*tlsMaterial, error) {
	switch {
	case cas == nil || cas.Equal(x509.NewCertPool()):
		return nil, errors.New("no CAs: without one no peer could be verified")
	case certificate == nil || len(certificate.Certificate) == 0:
		return nil, errors.New("no certificate: peers verify each other, so each needs one")
	case isNil(certificate.PrivateKey):
		return nil, errors.New("no private key for the certificate")
	}
	copied := *certificate
	if copied.Leaf == nil {
		leaf, err := x509.ParseCertificate(copied.Certificate[0])
		if err != nil {
			return nil, err
		}
		copied.Leaf = leaf
	}
	if !ownsKey(copied.Leaf, copied.PrivateKey) {
		return nil, fmt.Errorf("the private key is of another certificate than %s", describe(copied.Leaf))
	}
	return &tlsMaterial{&copied, cas}, checkLeaf(copied.Leaf, time.Now())
}

func ownsKey(leaf *x509.Certificate, key crypto.PrivateKey) bool {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(leaf.PublicKey)
}

func checkLeaf(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate %s expired at %v: renew it", describe(leaf), leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate %s is not valid before %v: look at this machine's clock, or wait", describe(leaf), leaf.NotBefore)
	case !allowsUsage(leaf, x509.ExtKeyUsageServerAuth):
		return fmt.Errorf("the certificate %s lacks the extended key usage serverAuth: a node accepts and dials, so have it issued for both", describe(leaf))
	case !allowsUsage(leaf, x509.ExtKeyUsageClientAuth):
		return fmt.Errorf("the certificate %s lacks the extended key usage clientAuth: a node accepts and dials, so have it issued for both", describe(leaf))
	}
	return nil
}

func allowsUsage(leaf *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(leaf.ExtKeyUsage, usage) ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

func (m *tlsMaterial) equal(other *tlsMaterial) bool {
	return m.cas.Equal(other.cas) &&
		slices.EqualFunc(m.certificate.Certificate, other.certificate.Certificate, bytes.Equal)
}

// clientConfig returns the configuration for dialling address.
func (i *tlsIdentity) clientConfig(address ServerAddress, protocols []string) (*tls.Config, error) {
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
		return material.certificate, nil
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return i.authorize(&TLSPeer{Address: address, Chains: state.VerifiedChains})
	}
	return config, nil
}

// nameOf returns the name that the certificate of the peer at address must have.
func (i *tlsIdentity) nameOf(address ServerAddress) string {
	if i.config.ServerNameFor != nil {
		if name := i.config.ServerNameFor(address); name != "" {
			return name
		}
	}
	if i.config.ServerName != "" {
		return i.config.ServerName
	}
	if network, _ := networkOf(string(address)); network == "unix" {
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
func (i *tlsIdentity) serverConfig(material *tlsMaterial, address ServerAddress, protocols []string) *tls.Config {
	config := i.newConfig(protocols)
	config.Certificates = []tls.Certificate{*material.certificate}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = material.cas
	config.VerifyConnection = func(state tls.ConnectionState) error {
		return i.authorize(&TLSPeer{Address: address, Inbound: true, Chains: state.VerifiedChains})
	}
	return config
}

func (i *tlsIdentity) newConfig(protocols []string) *tls.Config {
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
func (i *tlsIdentity) authorize(peer *TLSPeer) error {
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

// verifyAgain verifies the peer of an inbound connection once more if the
// material is not what it was verified by: a handshake takes as long as the
// peer likes, and must not carry an old verdict past a Reload.
func (i *tlsIdentity) verifyAgain(v *vouched) error {
	material := i.material.Load()
	if v.by == material {
		return nil
	}
	certificates := v.secured.ConnectionState().PeerCertificates
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
	return i.authorize(&TLSPeer{Address: remoteAddress(v), Inbound: true, Chains: chains})
}
