package spiffe_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/internal/testnode"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/spiffe"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	onFakeTime = testnode.OnFakeTime
	pause      = testnode.Pause
)

var (
	ours   = spiffeid.RequireTrustDomainFromString("ours.example")
	theirs = spiffeid.RequireTrustDomainFromString("theirs.example")
	raftID = spiffeid.RequireFromString("spiffe://ours.example/raft")
)

// source is an X509Source in memory, of a node with raftID.
type source struct {
	mu      sync.Mutex // protects following
	svid    *x509svid.SVID
	bundles *x509bundle.Set
	err     error // what both methods return, unless nil
}

func newSource(certificate *tls.Certificate, trusted ...*testca.Authority) *source {
	s := &source{bundles: x509bundle.NewSet()}
	s.show(certificate)
	s.trust(ours, trusted...)
	return s
}

func (s *source) GetX509SVID() (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.svid, s.err
}

func (s *source) GetX509BundleForTrustDomain(domain spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	return s.bundles.GetX509BundleForTrustDomain(domain)
}

// show replaces the SVID. The source does not look at it.
func (s *source) show(certificate *tls.Certificate) {
	svid := &x509svid.SVID{ID: raftID, PrivateKey: certificate.PrivateKey.(crypto.Signer)}
	for _, raw := range certificate.Certificate {
		svid.Certificates = append(svid.Certificates, parse(raw))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.svid = svid
}

// trust replaces a bundle.
func (s *source) trust(domain spiffeid.TrustDomain, trusted ...*testca.Authority) {
	bundle := x509bundle.New(domain)
	for _, ca := range trusted {
		bundle.AddX509Authority(ca.Certificate)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundles.Add(bundle)
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// issue makes an SVID without any name but its ID, or what changes make of it.
func issue(ca *testca.Authority, id string, changes ...func(*x509.Certificate)) *tls.Certificate {
	return ca.Issue(append([]func(*x509.Certificate){onlyURIs(id)}, changes...)...)
}

func onlyURIs(names ...string) func(*x509.Certificate) {
	var uris []*url.URL
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			panic(err)
		}
		uris = append(uris, uri)
	}
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses, c.URIs = nil, nil, uris }
}

func expired(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Minute) }

func asCA(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }

func serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// issueBelow makes an SVID that an intermediate CA has signed.
func issueBelow(ca *testca.Authority, id string) *tls.Certificate {
	middle := issue(ca, "spiffe://"+ours.String(), asCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	leaf := issue(ca, id)
	raw, err := x509.CreateCertificate(rand.Reader, parse(leaf.Certificate[0]), parse(middle.Certificate[0]),
		leaf.PrivateKey.(crypto.Signer).Public(), middle.PrivateKey)
	if err != nil {
		panic(err)
	}
	leaf.Certificate = [][]byte{raw, middle.Certificate[0]}
	return leaf
}

func parse(raw []byte) *x509.Certificate {
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		panic(err)
	}
	return certificate
}

// secure returns the configuration of a node that logs to log, or nowhere if it is nil.
func secure(s *source, authorize tlsconfig.Authorizer, log io.Writer) layers.TLSConfig {
	security := spiffe.TLSConfig(s, s, authorize)
	security.Logger = hclog.NewNullLogger()
	if log != nil {
		security.Logger = hclog.New(&hclog.LoggerOptions{Output: log})
	}
	return security
}

// listen starts a transport on a host of net, which keeps no connections. It is closed
// when the test ends.
func listen(t *testing.T, net *faultnet.Network, host string, security layers.TLSConfig) (*raftwire.NetworkTransport, *layers.TLS) {
	t.Helper()
	inner, err := net.Host(host).Listen()
	require.NoError(t, err)
	layer, err := layers.NewTLS(inner, security)
	require.NoError(t, err)
	transport := raftwire.NewNetworkTransport(layer, 0, 10*time.Second, io.Discard)
	t.Cleanup(func() { require.NoError(t, transport.Close()) })
	return transport, layer
}

// serve answers what arrives until the test ends.
func serve(t *testing.T, transport *raftwire.NetworkTransport) {
	t.Helper()
	testnode.Serve(t, transport, answer)
}

func answer(rpc raftwire.RPC) {
	switch command := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		rpc.Respond(&raftwire.AppendEntriesResponse{Term: command.Term, Success: true}, nil)
	case *raftwire.InstallSnapshotRequest:
		body, err := io.ReadAll(rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Term: command.Term, Success: string(body) == snapshot}, err)
	default:
		rpc.Respond(nil, errors.New("an unexpected request"))
	}
}

func appendOnce(transport *raftwire.NetworkTransport, target raftwire.ServerAddress) error {
	var response raftwire.AppendEntriesResponse
	request := &raftwire.AppendEntriesRequest{Term: 7, Entries: []*raftwire.Log{{Index: 1, Term: 7, Data: []byte("data")}}}
	return transport.AppendEntries("peer", target, request, &response)
}

const snapshot = "snapshot"

func installSnapshot(transport *raftwire.NetworkTransport, target raftwire.ServerAddress) error {
	var response raftwire.InstallSnapshotResponse
	request := &raftwire.InstallSnapshotRequest{Term: 7, Size: int64(len(snapshot))}
	err := transport.InstallSnapshot("peer", target, request, &response, bytes.NewReader([]byte(snapshot)))
	if err == nil && !response.Success {
		err = errors.New("another snapshot arrived")
	}
	return err
}

// dialAs connects as one who trusts anybody, and waits to be refused.
func dialAs(t *testing.T, net *faultnet.Network, certificate *tls.Certificate, address string) {
	t.Helper()
	raw, err := net.Host("intruder").Dial(t.Context(), address)
	require.NoError(t, err)
	require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
	conn := tls.Client(raw, insecure(certificate))
	require.NoError(t, conn.Handshake(), "the client is done before the server has its certificate")
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "remote error: tls: ")
	require.NoError(t, raw.Close())
}

// listenAs accepts one connection as one who trusts anybody.
func listenAs(t *testing.T, net *faultnet.Network, certificate *tls.Certificate, host string) {
	t.Helper()
	listener, err := net.Host(host).Listen()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		_, _ = tls.Server(raw, insecure(certificate)).Read(make([]byte, 1))
	}()
}

func insecure(certificate *tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*certificate}, ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true}
}

// serialOf returns the serial number of the SVID that a host shows.
func serialOf(t *testing.T, net *faultnet.Network, certificate *tls.Certificate, host string) int64 {
	t.Helper()
	raw, err := net.Host("client").Dial(t.Context(), host)
	require.NoError(t, err)
	conn := tls.Client(raw, insecure(certificate))
	require.NoError(t, conn.Handshake())
	require.NoError(t, conn.Close())
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
