// Package testca is a certificate authority for tests. What cannot fail there
// but for a mistake in the test panics.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Name is the name of every node, wherever it runs, unless a change says
// otherwise.
const Name = "server.dc1.consul"

// Authority is a CA.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	shown       [][]byte // after each certificate that it issues: its own, if it is no root
}

// New returns a CA that nobody trusts yet, or what changes make of it.
func New(changes ...func(*x509.Certificate)) *Authority { return newRoot(NewKey(), changes) }

// Renew returns the same CA with another certificate.
func (a *Authority) Renew(changes ...func(*x509.Certificate)) *Authority {
	return newRoot(a.key, changes)
}

// Cross returns another CA's certificate of this one, for nodes to show beside their own.
func (a *Authority) Cross(other *Authority) []byte {
	return sign(newCA(other.Certificate.Subject.CommonName, nil), a.Certificate, other.key, a.key)
}

// Intermediate returns a CA that this one has signed, whose certificate nodes show
// beside their own.
func (a *Authority) Intermediate(changes ...func(*x509.Certificate)) *Authority {
	key, template := NewKey(), newCA("test intermediate CA", changes)
	der := sign(template, a.Certificate, key, a.key)
	return &Authority{must(x509.ParseCertificate(der)), key, append([][]byte{der}, a.shown...)}
}

func newRoot(key *ecdsa.PrivateKey, changes []func(*x509.Certificate)) *Authority {
	template := newCA("test CA", changes)
	return &Authority{must(x509.ParseCertificate(sign(template, template, key, key))), key, nil}
}

func newCA(name string, changes []func(*x509.Certificate)) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	for _, change := range changes {
		change(template)
	}
	return template
}

// Issue signs the certificate of a node, or of what changes make of one.
func (a *Authority) Issue(changes ...func(*x509.Certificate)) *tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		DNSNames:     []string{Name},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, change := range changes {
		change(template)
	}
	key := NewKey()
	own := sign(template, a.Certificate, key, a.key)
	return &tls.Certificate{Certificate: append([][]byte{own}, a.shown...), PrivateKey: key}
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	return must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
}

// NewKey returns a key of no certificate.
func NewKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func newSerial() *big.Int { return must(rand.Int(rand.Reader, big.NewInt(1<<62))) }

// Pool returns the certificates of authorities.
func Pool(authorities ...*Authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AddCert(a.Certificate)
	}
	return pool
}

// Files are a node's certificate and key, and the CAs that it trusts, in PEM.
type Files struct{ Dir string }

// WriteFiles makes files in a folder.
func WriteFiles(dir string, certificate *tls.Certificate, trusted ...*Authority) Files {
	f := Files{dir}
	f.Certify(certificate)
	f.Trust(trusted...)
	return f
}

// The paths of the three files.
func (f Files) Cert() string { return filepath.Join(f.Dir, "cert.pem") }
func (f Files) Key() string  { return filepath.Join(f.Dir, "key.pem") }
func (f Files) CA() string   { return filepath.Join(f.Dir, "ca.pem") }

// Certify replaces certificate and key.
func (f Files) Certify(certificate *tls.Certificate) {
	f.write(f.Key(), PEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(certificate.PrivateKey))))
	f.write(f.Cert(), PEM("CERTIFICATE", certificate.Certificate...))
}

// Trust replaces the CAs.
func (f Files) Trust(trusted ...*Authority) {
	var all [][]byte
	for _, a := range trusted {
		all = append(all, a.Certificate.Raw)
	}
	f.write(f.CA(), PEM("CERTIFICATE", all...))
}

func (f Files) write(path string, content []byte) {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		panic(err)
	}
}

// PEM returns blocks of a kind.
func PEM(kind string, blocks ...[]byte) (all []byte) {
	for _, block := range blocks {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: block})...)
	}
	return all
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
