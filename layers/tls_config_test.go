package layers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Bad input ends in an error that says what is wrong and what to do.
func TestBadTLSConfigurationSaysWhatToDo(t *testing.T) {
	ca := testca.New()
	good := newFiles(t, ca.Issue(), ca)
	with := func(change func(*layers.TLSConfig)) layers.TLSConfig {
		c := good.secure()
		change(&c)
		return c
	}
	issued := func(changes ...func(*x509.Certificate)) layers.TLSConfig {
		return newFiles(t, ca.Issue(changes...), ca).secure()
	}
	loading := func(certificate *tls.Certificate, cas *x509.CertPool, err error) layers.TLSConfig {
		return layers.TLSConfig{Load: func() (*tls.Certificate, *x509.CertPool, error) { return certificate, cas, err }}
	}
	for text, c := range map[string]layers.TLSConfig{
		"CAFile is empty: set it to a PEM file with the CAs of your peers":     with(func(c *layers.TLSConfig) { c.CAFile = "" }),
		"CertFile is empty: set it to a PEM file with this node's certificate": with(func(c *layers.TLSConfig) { c.CertFile = "" }),
		"KeyFile is empty: set it to the PEM file with the private key":        with(func(c *layers.TLSConfig) { c.KeyFile = "" }),
		"TLSConfig.CAFile: open missing.pem: ":                                 with(func(c *layers.TLSConfig) { c.CAFile = "missing.pem" }),
		"holds a PRIVATE KEY: only certificates of CAs belong there":           with(func(c *layers.TLSConfig) { c.CAFile = c.KeyFile }),
		"tls: failed to find any PEM data in key input":                        with(func(c *layers.TLSConfig) { c.KeyFile = os.DevNull }),
		"holds no certificate: it must be PEM":                                 with(func(c *layers.TLSConfig) { c.CAFile = os.DevNull }),
		"Load is set, and so are files: use one or the other":                  with(func(c *layers.TLSConfig) { c.Load = loading(nil, nil, nil).Load }),
		"MinVersion is TLS 1.1: use 0 for TLS 1.3, or tls.VersionTLS12":        with(func(c *layers.TLSConfig) { c.MinVersion = tls.VersionTLS11 }),
		"NextProtos has \"\": the name of a protocol has 1 to 255 bytes":       with(func(c *layers.TLSConfig) { c.NextProtos = []string{"raft", ""} }),
		"xx\": the name of a protocol has 1 to 255 bytes":                      with(func(c *layers.TLSConfig) { c.NextProtos = []string{strings.Repeat("x", 256)} }),
		"HandshakeTimeout is -1s: use 0 for the default":                       with(func(c *layers.TLSConfig) { c.HandshakeTimeout = -time.Second }),
		"AuthorizeNames is set, and Authorize is not: set it to":               with(func(c *layers.TLSConfig) { c.AuthorizeNames, c.ServerName = true, "" }),
		"AuthorizeNames is set, and so is ServerName or ServerNameFor":         with(func(c *layers.TLSConfig) { c.AuthorizeNames, c.Authorize = true, layers.AllowNames("x") }),
		"MaxHandshakes is -1: use 0 for the default":                           with(func(c *layers.TLSConfig) { c.MaxHandshakes = -1 }),
		"expired at ":          issued(expiringIn(-time.Minute)),
		"is not valid before ": issued(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"lacks the extended key usage clientAuth: a node accepts and dials": issued(usedFor(x509.ExtKeyUsageServerAuth)),
		"lacks the extended key usage serverAuth: a node accepts and dials": issued(usedFor(x509.ExtKeyUsageClientAuth)),
		"TLSConfig.Load: no vault": loading(nil, nil, errors.New("no vault")),
		"what TLSConfig.Load returned: no certificate: peers verify each other":       loading(nil, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: no CAs: without one no peer could be verified": loading(ca.Issue(), nil, nil),
		"what TLSConfig.Load returned: no CAs: ":                                      loading(ca.Issue(), testca.Pool(), nil),
		"what TLSConfig.Load returned: no private key for the certificate":            loading(&tls.Certificate{Certificate: ca.Issue().Certificate}, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: the private key is of another certificate":     loading(&tls.Certificate{Certificate: ca.Issue().Certificate, PrivateKey: testca.NewKey()}, testca.Pool(ca), nil),
		"what TLSConfig.Load returned: x509: malformed":                               loading(&tls.Certificate{Certificate: [][]byte{{1}}, PrivateKey: testca.NewKey()}, testca.Pool(ca), nil),
	} {
		t.Run(text, func(t *testing.T) {
			_, err := layers.NewTLSTransport("127.0.0.1:0", nil, c, config())
			require.ErrorContains(t, err, "raftwire: ")
			require.ErrorContains(t, err, text)
		})
	}
	_, err := layers.NewTLSTransport("127.0.0.1:0", nil, good.secure(), config(withPool(-1)))
	require.ErrorContains(t, err, "MaxPool is -1")
	_, err = layers.NewTLSTransport("nonsense", nil, good.secure(), nil)
	require.ErrorContains(t, err, "cannot bind to")
	_, err = layers.NewTLS(nil, good.secure())
	require.ErrorContains(t, err, "the StreamLayer under TLS is nil: use NewTLSTransport for TCP")
}

// A node that its peers will refuse says so when it starts, and when a new
// certificate makes it one.
func TestANodeWithoutTheNameThatItAsksForWarns(t *testing.T) {
	ca := testca.New()
	inner, err := faultnet.New(1).Host("a").Listen()
	require.NoError(t, err)
	var log bytes.Buffer
	certificate := ca.Issue()
	config := secure(nil, ca)
	config.Load = func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(ca), nil }
	config.ReloadInterval = -1 // certificate changes
	config.Logger = logTo(&log)
	layer, err := layers.NewTLS(inner, config)
	require.NoError(t, err)
	require.NotContains(t, log.String(), "[WARN]")
	warning := fmt.Sprintf("[WARN]  this node's own certificate does not have the name %q: peers that ask for it will refuse this node: local=a certificate=another\n", role)
	certificate = ca.Issue(named("another"))
	require.NoError(t, layer.Reload())
	require.Equal(t, 1, strings.Count(log.String(), warning), log.String())
	require.NoError(t, layer.Close())

	config.ServerName = "10.1.2.3"
	log.Reset()
	layer, err = layers.NewTLS(inner, config)
	require.NoError(t, err)
	_ = layer.Close() // inner is closed
	require.Contains(t, log.String(), `does not have the name "10.1.2.3"`)

	config.ServerName = ""
	log.Reset()
	layer, err = layers.NewTLS(inner, config)
	require.NoError(t, err)
	_ = layer.Close() // inner is closed
	require.Empty(t, log.String())
}

// A certificate and its key may be in one file, and need not name key usages.
func TestUnusualFilesThatAreFine(t *testing.T) {
	ca := testca.New()
	f := newFiles(t, ca.Issue(usedFor()), ca)
	key, err := os.ReadFile(f.Key())
	require.NoError(t, err)
	certificate, err := os.ReadFile(f.Cert())
	require.NoError(t, err)
	spoil(t, f.Cert(), append(key, certificate...))
	c := f.secure()
	c.KeyFile = c.CertFile
	trans, err := layers.NewTLSTransport("127.0.0.1:0", nil, c, config())
	require.NoError(t, err)
	require.NoError(t, trans.Close())
}

// The caller may use its slice again.
func TestTLSConfig_KeepsItsProtocols(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca, protocols := testca.New(), []string{"raft"}
		security := secure(ca.Issue(), ca)
		security.NextProtos = protocols
		listenTLS(t, net, "b", security)
		protocols[0] = "another"
		raw, err := net.Host("peer").Dial(t.Context(), "b")
		require.NoError(t, err)
		conn := tls.Client(raw, &tls.Config{RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()}, NextProtos: []string{"raft"}})
		require.NoError(t, conn.Handshake())
		require.Equal(t, "raft", conn.ConnectionState().NegotiatedProtocol)
		require.NoError(t, conn.Close())
	})
}
