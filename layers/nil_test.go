package layers_test

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

func TestTLS_TakesNilMaterialForAnError(t *testing.T) {
	ca := testca.New()
	own := *ca.Issue()
	own.PrivateKey = (*rsa.PrivateKey)(nil)
	for text, certificate := range map[string]*tls.Certificate{"no certificate": nil, "no private key": &own} {
		security := secure(nil, ca)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(ca), nil }
		_, err := layers.NewTLS(&plainLayer{}, security)
		require.ErrorContains(t, err, text)
	}
}
