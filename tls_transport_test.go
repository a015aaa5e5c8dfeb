package raftwire_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// role is the name of every node in these tests, wherever it runs.
const role = testca.Name

// secure returns the configuration of a node that shows certificate and trusts
// the authorities.
func secure(certificate *tls.Certificate, trusted ...*testca.Authority) layers.TLSConfig {
	return layers.TLSConfig{
		Load:       func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(trusted...), nil },
		ServerName: role,
		Logger:     hclog.NewNullLogger(),
	}
}

// secureLayer returns a layer on a host of net.
func secureLayer(t testing.TB, net *faultnet.Network, host string, config layers.TLSConfig) *layers.TLS {
	t.Helper()
	inner, err := net.Host(host).Listen()
	require.NoError(t, err)
	layer, err := layers.NewTLS(inner, config)
	require.NoError(t, err)
	return layer
}

func withStream(layer raftwire.StreamLayer) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Stream = layer }
}

// transport makes a transport that is closed when the test ends.
func transport(t testing.TB, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	trans := raftwire.NewNetworkTransportWithConfig(config(options...))
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

func logTo(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Debug})
}
