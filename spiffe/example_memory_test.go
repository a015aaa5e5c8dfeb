package spiffe_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/url"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/spiffe"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// SVIDs and a bundle in memory, for a program without an agent. Workloads with another
// ID of the trust domain are no peers.
func ExampleTLSConfig() {
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	orders := spiffeid.RequireFromPath(domain, "/orders")
	ca := newCA()
	bundle := x509bundle.FromX509Authorities(domain, []*x509.Certificate{ca.certificate})
	listen := func(id spiffeid.ID) *raftwire.NetworkTransport {
		security := spiffe.TLSConfig(ca.issue(id), bundle, tlsconfig.AuthorizeID(orders))
		security.Logger = hclog.NewNullLogger()
		tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
		if err != nil {
			log.Fatal(err)
		}
		layer, err := layers.NewTLS(tcp, security)
		if err != nil {
			log.Fatal(err)
		}
		return raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
	}
	voter := listen(orders)
	defer voter.Close()
	go func() {
		rpc := <-voter.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()
	for _, id := range []spiffeid.ID{spiffeid.RequireFromPath(domain, "/web"), orders} {
		candidate := listen(id)
		var response raftwire.RequestVoteResponse
		_ = candidate.RequestVote("voter", voter.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, &response)
		fmt.Println(id, response.Granted)
		candidate.Close()
	}
	// Output:
	// spiffe://example.org/web false
	// spiffe://example.org/orders true
}

// authority is what SPIRE's server would be.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA() *authority {
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key := newKey()
	return &authority{sign(template, template, key, key), key}
}

func (a *authority) issue(id spiffeid.ID) *x509svid.SVID {
	template := &x509.Certificate{URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature}
	key := newKey()
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{sign(template, a.certificate, key, a.key)}, PrivateKey: key}
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		log.Fatal(err)
	}
	return certificate
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	return key
}
