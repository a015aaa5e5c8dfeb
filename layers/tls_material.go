package layers

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

// material is what a node shows to its peers, and verifies them by.
type material struct {
	server *tls.Certificate // is shown to peers that dial; has its Leaf
	client *tls.Certificate // is shown to peers that are dialled; may be the same
	cas    *x509.CertPool

	ca *x509.Certificate // what findCA returns; set when the material is used
}

// source returns what of the configuration a load needs.
func (c *TLSConfig) source() *TLSConfig {
	return &TLSConfig{
		CertFile: c.CertFile, KeyFile: c.KeyFile,
		ClientCertFile: c.ClientCertFile, ClientKeyFile: c.ClientKeyFile,
		CAFile: c.CAFile,
		Load:   c.Load, LoadClient: c.LoadClient,
	}
}

// sourceName says what a load reads.
func (c *TLSConfig) sourceName() string {
	if c.Load == nil {
		return fmt.Sprintf("reading %q, %q or %q", c.CAFile, c.CertFile, c.KeyFile)
	}
	return "TLSConfig.Load"
}

// load loads the material of a source.
func (c *TLSConfig) load() (*material, error) {
	if c.Load == nil {
		return c.loadFiles()
	}
	return c.callLoad()
}

func (c *TLSConfig) loadFiles() (*material, error) {
	cas, err := readCAs(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.CAFile: %w", err)
	}
	split := c.ClientCertFile != ""
	server, err := readCertificate("", c.CertFile, c.KeyFile, usesOf(split))
	if err != nil || !split {
		return &material{server: server, client: server, cas: cas}, err
	}
	client, err := readCertificate("Client", c.ClientCertFile, c.ClientKeyFile, toDial)
	return &material{server: server, client: client, cas: cas}, err
}

func (c *TLSConfig) callLoad() (*material, error) {
	certificate, cas, err := c.Load()
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.Load: %w", err)
	}
	split := c.LoadClient != nil
	server, err := checkCertificate(certificate, usesOf(split))
	if cas == nil || cas.Equal(x509.NewCertPool()) {
		err = errors.New("no CAs: without one no peer could be verified")
	}
	if err != nil {
		return nil, fmt.Errorf("what TLSConfig.Load returned: %w", err)
	}
	if !split {
		return &material{server: server, client: server, cas: cas}, nil
	}
	certificate, err = c.LoadClient()
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.LoadClient: %w", err)
	}
	client, err := checkCertificate(certificate, toDial)
	if err != nil {
		return nil, fmt.Errorf("what TLSConfig.LoadClient returned: %w", err)
	}
	return &material{server: server, client: client, cas: cas}, nil
}

// readCAs reads the certificates in a file. Unlike AppendCertsFromPEM it takes
// all of them or none: half a file must not lock half of the peers out.
func readCAs(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if whole, damaged := findDamage(rest); damaged {
		return nil, fmt.Errorf("%q is damaged or cut off after %d certificates", file, whole)
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
	if found == 0 {
		return nil, fmt.Errorf("%q holds no certificate: it must be PEM, beginning with -----BEGIN CERTIFICATE-----", file)
	}
	return cas, nil
}

// readCertificate reads the two files of TLSConfig whose names begin with prefix.
func readCertificate(prefix, certFile, keyFile string, uses certificateUses) (*tls.Certificate, error) {
	pair, err := loadPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.%sCertFile %q with %sKeyFile %q: %w", prefix, certFile, prefix, keyFile, err)
	}
	certificate, err := checkCertificate(&pair, uses)
	if err != nil {
		return nil, fmt.Errorf("TLSConfig.%sCertFile %q: %w", prefix, certFile, err)
	}
	return certificate, nil
}

// loadPair is tls.LoadX509KeyPair, but takes all of the certificates in a file or none:
// without those above it, peers would refuse the first.
func loadPair(certFile, keyFile string) (pair tls.Certificate, err error) {
	certificates, err := os.ReadFile(certFile)
	if err != nil {
		return pair, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return pair, err
	}
	if pair, err = tls.X509KeyPair(certificates, key); err != nil {
		return pair, err
	}
	if whole, damaged := findDamage(certificates); damaged {
		return pair, fmt.Errorf("the file of certificates is damaged or cut off after %d", whole)
	}
	return pair, nil
}

// blockBegins matches where a block of PEM begins, also one that pem.Decode passes over: it
// is indented, or its line begins with a mark of UTF-8 or with the end of another.
var blockBegins = regexp.MustCompile(`(?m)^[ \t\x{feff}]*-----BEGIN|-----END.*-----BEGIN`)

// findDamage reports whether pem.Decode passes over a block that is damaged or cut off, and
// how many are whole before it.
func findDamage(text []byte) (whole int, damaged bool) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(text) {
		if len(blockBegins.FindAll(text[:len(text)-len(rest)], 2)) > 1 {
			return whole, true
		}
		whole, text = whole+1, rest
	}
	return whole, blockBegins.Match(text)
}

// certificateUses is what a certificate is for, and why.
type certificateUses struct {
	usages []x509.ExtKeyUsage
	why    string
}

var (
	toAccept = certificateUses{[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, "it is shown to peers that dial this node"}
	toDial   = certificateUses{[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, "it is shown to peers that this node dials"}
	toDoBoth = certificateUses{slices.Concat(toAccept.usages, toDial.usages), "a node accepts and dials, so have it issued for both, or have a second certificate for TLSConfig.ClientCertFile or LoadClient"}
)

// usesOf returns what the certificate is for that there always is; split says
// that there is another one to dial with.
func usesOf(split bool) certificateUses {
	if split {
		return toAccept
	}
	return toDoBoth
}

// checkCertificate returns a certificate with its Leaf. It refuses what peers
// would refuse anyway, where it is easier to see why.
func checkCertificate(certificate *tls.Certificate, uses certificateUses) (*tls.Certificate, error) {
	switch {
	case certificate == nil || len(certificate.Certificate) == 0:
		return nil, errors.New("no certificate: peers verify each other, so each needs one")
	case sock.IsNil(certificate.PrivateKey):
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
	if err := checkDates(copied.Leaf, time.Now()); err != nil {
		return nil, err
	}
	return &copied, uses.check(copied.Leaf)
}

func ownsKey(leaf *x509.Certificate, key crypto.PrivateKey) bool {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(leaf.PublicKey)
}

func checkDates(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate %s expired at %v: renew it", describe(leaf), leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate %s is not valid before %v: look at this machine's clock, or wait", describe(leaf), leaf.NotBefore)
	}
	return nil
}

func (u certificateUses) check(leaf *x509.Certificate) error {
	names := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth"}
	for _, usage := range u.usages {
		if !allowsUsage(leaf, usage) {
			return fmt.Errorf("the certificate %s lacks the extended key usage %s: %s", describe(leaf), names[usage], u.why)
		}
	}
	return nil
}

func allowsUsage(leaf *x509.Certificate, usage x509.ExtKeyUsage) bool {
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(leaf.ExtKeyUsage, usage) ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// certificates returns the one or the two that there are.
func (m *material) certificates() []*tls.Certificate {
	if m.client == m.server {
		return []*tls.Certificate{m.server}
	}
	return []*tls.Certificate{m.server, m.client}
}

func (m *material) equal(other *material) bool {
	return m.cas.Equal(other.cas) && slices.EqualFunc(m.certificates(), other.certificates(), func(a, b *tls.Certificate) bool {
		return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
	})
}

// names names the certificates.
func (m *material) names() string {
	names := namesIn(m.server.Leaf)
	if m.client != m.server {
		names += ", to dial " + namesIn(m.client.Leaf)
	}
	return names
}

// first returns the certificate that expires first.
func (m *material) first() *x509.Certificate {
	if m.client.Leaf.NotAfter.Before(m.server.Leaf.NotAfter) {
		return m.client.Leaf
	}
	return m.server.Leaf
}
