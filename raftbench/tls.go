package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
)

// credentials are what both ends show to each other, and trust. They are made
// at start and kept in memory.
type credentials struct {
	certificate *tls.Certificate
	trusted     *x509.CertPool
}

// credentialName is the name in the certificate.
const credentialName = "raftbench"

// newSecret returns a secret that nobody can guess.
func newSecret() string { return rand.Text() }

// newCredentials derives key and certificate from a secret, so that two
// processes that know it have the same without a file that goes from one to
// the other. Whoever knows the secret is let in.
func newCredentials(secret string) (*credentials, error) {
	seed := sha256.Sum256([]byte("raftbench: the key of its certificate\n" + secret))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{credentialName},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // of itself alone
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c := &credentials{
		certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		trusted:     x509.NewCertPool(),
	}
	c.trusted.AddCert(leaf)
	return c, nil
}

// layer listens for a transport, which dials through it as well.
func (c *credentials) layer(listen string) (*layers.TLS, error) {
	tcp, err := tcpLayer(listen)
	if err != nil {
		return nil, err
	}
	layer, err := layers.NewTLS(tcp, layers.TLSConfig{
		Load:           func() (*tls.Certificate, *x509.CertPool, error) { return c.certificate, c.trusted, nil },
		ReloadInterval: -1,
		ServerName:     credentialName,
		Logger:         silence,
	})
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return layer, nil
}

func tcpLayer(listen string) (raftwire.StreamLayer, error) {
	config := raftwire.TCPConfig{Bind: listen}
	if address := advertised(listen); address != nil {
		config.Advertise = address.String()
	}
	return raftwire.NewTCPStreamLayer(config)
}

// client and server return an end of a connection before its handshake, or
// conn itself if there are no credentials.
func (c *credentials) client(conn net.Conn) net.Conn {
	if c == nil {
		return conn
	}
	return tls.Client(conn, c.config())
}

func (c *credentials) server(conn net.Conn) net.Conn {
	if c == nil {
		return conn
	}
	return tls.Server(conn, c.config())
}

// shakeHands does the handshake of one end, if there is one to do.
func shakeHands(conn net.Conn, timeout time.Duration) error {
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := secured.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	return errors.Join(secured.Handshake(), secured.SetDeadline(time.Time{}))
}

// config is for either end, and such as the transports have it.
func (c *credentials) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		ServerName:                  credentialName,
		Certificates:                []tls.Certificate{*c.certificate},
		RootCAs:                     c.trusted,
		ClientCAs:                   c.trusted,
		ClientAuth:                  tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}
