package raftwire_test

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

func layerOf(t testing.TB, mux *layers.Mux, keys ...layers.Key) *layers.Handoff {
	t.Helper()
	layer, err := mux.Layer(keys...)
	require.NoError(t, err)
	return layer
}

func mutual(ca *testca.Authority, name string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{*ca.Issue(named(name))},
		RootCAs:      testca.Pool(ca),
		ClientCAs:    testca.Pool(ca),
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ServerName:   name,
		MinVersion:   tls.VersionTLS13,
	}
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}
