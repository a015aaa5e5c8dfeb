package probe

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config says what is to be probed and how.
type Config struct {
	// Address is host:port.
	Address string
	// Via is what lies between TCP and Raft. nil finds out whether that is TLS.
	Via []Step
	// Protocols are offered by ALPN.
	Protocols []string
	// ServerName replaces the host of Address, in the handshake and when the certificate
	// is checked. A URI does so only when that is checked.
	ServerName string
	// Roots are the CAs that the certificate is checked with; nil checks nothing.
	Roots *x509.CertPool
	// Certificate is shown to a peer that asks for one. It may be nil.
	Certificate *tls.Certificate
	// Timeout bounds the connecting, each handshake, and the wait for each answer.
	Timeout time.Duration
}

// connection is one to the address.
type connection struct {
	*Config
	net.Conn
	took   time.Duration // to connect
	passed []Step
	tls    *TLS // of the last handshake, whether or not it was completed
}

// open connects and takes the steps. The connection is there even with a failure,
// unless nothing accepted it; the caller closes it.
func (c *Config) open(via []Step) (*connection, *failure) {
	began := time.Now()
	raw, err := net.DialTimeout("tcp", c.Address, c.Timeout)
	if err != nil {
		return nil, &failure{result: Unreachable, err: err}
	}
	conn := &connection{Config: c, Conn: raw, took: time.Since(began)}
	for _, step := range via {
		if err := conn.take(step); err != nil {
			f := fail(err)
			f.passed, f.handshake = conn.passed, step.TLS
			return conn, f
		}
		conn.passed = append(conn.passed, step)
	}
	return conn, nil
}

// take takes a step.
func (c *connection) take(step Step) error {
	_ = c.SetDeadline(time.Now().Add(c.Timeout))
	if step.TLS {
		return c.secure()
	}
	_, err := c.Write([]byte{step.Key})
	return err
}

// secure shakes hands. The certificate is checked afterwards: a probe tells about a
// bad one, too.
func (c *connection) secure() error {
	c.tls = &TLS{ClientCertificate: "not asked for"}
	secured := tls.Client(c.Conn, &tls.Config{
		ServerName:            c.host(),
		NextProtos:            c.Protocols,
		InsecureSkipVerify:    true, //nolint:gosec // see VerifyPeerCertificate
		GetClientCertificate:  c.clientCertificate,
		VerifyPeerCertificate: c.examine,
	})
	err := secured.Handshake()
	if err == nil {
		state := secured.ConnectionState()
		c.tls.Version, c.tls.Protocol = tls.VersionName(state.Version), state.NegotiatedProtocol
	}
	c.Conn = secured
	return err
}

// host returns the name that the handshake gives.
func (c *Config) host() string {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		host = c.Address
	}
	if isURI(c.ServerName) {
		return host
	}
	return cmp.Or(c.ServerName, host)
}

// isURI reports whether a name is none of a host.
func isURI(name string) bool {
	return strings.Contains(name, ":") && net.ParseIP(strings.Trim(name, "[]")) == nil
}

// checkName returns an error if a certificate does not have the name that the peer should
// have.
func (c *Config) checkName(certificate *x509.Certificate) error {
	if !isURI(c.ServerName) {
		return certificate.VerifyHostname(c.host())
	}
	if slices.ContainsFunc(certificate.URIs, func(uri *url.URL) bool { return uri.String() == c.ServerName }) {
		return nil
	}
	return fmt.Errorf("the certificate does not have the name %s", c.ServerName)
}

// clientCertificate is called if the peer asks for a certificate.
func (c *connection) clientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if c.Certificate == nil {
		c.tls.ClientCertificate = "asked for, none shown"
		return new(tls.Certificate), nil
	}
	c.tls.ClientCertificate = "shown"
	return c.Certificate, nil
}

// examine describes the peer's certificate, and checks it if that was asked for.
func (c *connection) examine(raw [][]byte, _ [][]*x509.Certificate) error {
	certificate, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	c.tls.Certificate = describe(certificate)
	if c.Roots == nil {
		return nil
	}
	c.tls.Certificate.Checked = true
	options := x509.VerifyOptions{Roots: c.Roots, Intermediates: x509.NewCertPool()}
	for _, der := range raw[1:] {
		if intermediate, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(intermediate)
		}
	}
	if _, err = certificate.Verify(options); err == nil {
		err = c.checkName(certificate)
	}
	if err != nil {
		c.tls.Certificate.Problem = err.Error()
	}
	return nil
}

// ask sends a request, and returns a reader that has the first byte of what comes
// back within limit.
func (c *connection) ask(request []byte, limit time.Duration) (*bufio.Reader, *failure) {
	_ = c.SetDeadline(time.Now().Add(limit))
	in := bufio.NewReader(c)
	_, err := c.Write(request)
	if err == nil {
		_, err = in.Peek(1)
	}
	if err == nil {
		if first, _ := in.Peek(in.Buffered()); !isString(first[0]) {
			return nil, c.failed(foreign(first[:min(len(first), 8)]))
		}
		return in, nil
	}
	return nil, c.failed(fail(err))
}

// failed adds to a failure how far it came.
func (c *connection) failed(f *failure) *failure {
	f.passed = c.passed
	return f
}
