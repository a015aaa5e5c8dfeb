package layers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/internal/testnode"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// ownTLS is TLS as applications have it: the handshake is left to the first read.
type ownTLS struct {
	*faultnet.Layer
	config *tls.Config
}

func (l ownTLS) Accept() (net.Conn, error) {
	conn, err := l.Layer.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, l.config), nil
}

func (l ownTLS) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	raw, err := l.Layer.DialContext(ctx, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, l.config)
	return conn, conn.HandshakeContext(ctx)
}

// appendTo sends a request on a pipeline and consumes its future.
func appendTo(p raftwire.AppendPipeline) error {
	_, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
	if err != nil {
		return err
	}
	return (<-p.Consumer()).Error()
}

type muxOption func(*layers.MuxConfig)

func withTLS(config layers.TLSConfig) muxOption {
	return func(c *layers.MuxConfig) { c.TLS = &config }
}

// newSecurity makes the configuration of a cluster.
func newSecurity() layers.TLSConfig {
	ca := testca.New()
	return secure(ca.Issue(), ca)
}

// share starts a mux on a host of network; it is closed when the test ends.
func share(t testing.TB, network *faultnet.Network, host string, options ...muxOption) *layers.Mux {
	t.Helper()
	layer, err := network.Host(host).Listen()
	require.NoError(t, err)
	config := layers.MuxConfig{Listener: layer, Logger: hclog.NewNullLogger()}
	for _, o := range options {
		o(&config)
	}
	mux, err := layers.NewMux(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, mux.Close()) })
	return mux
}

// group starts a transport over the layer of a mux.
func group(t testing.TB, mux *layers.Mux, keys ...layers.Key) *raftwire.NetworkTransport {
	t.Helper()
	c := config()
	c.Stream = layerOf(t, mux, keys...)
	trans := raftwire.NewNetworkTransportWithConfig(c)
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// newTLS makes the configuration of a cluster: mutual, and every node is called
// "node".
func newTLS() *tls.Config { return mutual(testca.New(), "node") }

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

// muxOver starts a mux over a layer; it is closed when the test ends.
func muxOver(t testing.TB, layer raftwire.StreamLayer) *layers.Mux {
	t.Helper()
	mux, err := layers.NewMux(layers.MuxConfig{Listener: layer, Logger: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, mux.Close()) })
	return mux
}

// secureMux starts a mux over TLS on a host of net.
func secureMux(t testing.TB, net *faultnet.Network, host string, security layers.TLSConfig) *layers.Mux {
	t.Helper()
	return muxOver(t, secureLayer(t, net, host, security))
}

// net_ is net.Conn: the tests' networks are called net.
type net_ = net.Conn

// role is the name of every node in these tests, wherever it runs.
const role = testca.Name

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func expiringIn(d time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(d) }
}

func usedFor(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
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

// listenTLS starts a transport over TLS on a host of net.
func listenTLS(t testing.TB, net *faultnet.Network, host string, security layers.TLSConfig, options ...option) (*raftwire.NetworkTransport, *layers.TLS) {
	t.Helper()
	layer := secureLayer(t, net, host, security)
	return transport(t, append(options, withStream(layer))...), layer
}

func logTo(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Debug})
}

// timedLog notes when lines with a text come.
type timedLog struct {
	bytes.Buffer
	text  string
	times []time.Time
}

func newTimedLog(text string) *timedLog { return &timedLog{text: text} }

func (l *timedLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.text) {
		l.times = append(l.times, time.Now())
	}
	return l.Buffer.Write(p)
}

// before returns the times as those that are left to an end.
func (l *timedLog) before(end time.Time) (left []time.Duration) {
	for _, at := range l.times {
		left = append(left, end.Sub(at))
	}
	return left
}

// after returns the times since a start.
func (l *timedLog) after(start time.Time) (passed []time.Duration) {
	for _, at := range l.times {
		passed = append(passed, at.Sub(start))
	}
	return passed
}

// onFakeTLS is onFakeTime with a CA, a node b that serves, and its log.
func onFakeTLS(t *testing.T, test func(t *testing.T, w *tlsWorld)) *tlsWorld {
	t.Helper()
	w := &tlsWorld{log: new(bytes.Buffer)}
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w.net, w.ca = net, testca.New()
		security := secure(w.ca.Issue(), w.ca)
		security.Logger = hclog.New(&hclog.LoggerOptions{Output: w.log, Level: hclog.Debug})
		w.b, w.layer = listenTLS(t, net, "b", security)
		serve(t, w.b, accept)
		test(t, w)
	})
	return w
}

type tlsWorld struct {
	net   *faultnet.Network
	ca    *testca.Authority
	b     *raftwire.NetworkTransport
	layer *layers.TLS   // of b
	log   *bytes.Buffer // to be read after the test
}

// node starts another node, with a certificate of the CA.
func (w *tlsWorld) node(t *testing.T, host string, changes ...func(*x509.Certificate)) *raftwire.NetworkTransport {
	t.Helper()
	node, _ := listenTLS(t, w.net, host, secure(w.ca.Issue(changes...), w.ca))
	return node
}

// requireOneWarning checks that the log has one line that matters, with text.
func (w *tlsWorld) requireOneWarning(t *testing.T, text string) {
	t.Helper()
	require.Equal(t, 1, strings.Count(w.log.String(), "[WARN]"), w.log)
	require.NotContains(t, w.log.String(), "[ERROR]")
	require.Contains(t, w.log.String(), text)
	require.Contains(t, w.log.String(), "peer=a:")
}

// files are a node's certificate, key and CAs on disk.
type files struct{ testca.Files }

func newFiles(t testing.TB, certificate *tls.Certificate, trusted ...*testca.Authority) files {
	return files{testca.WriteFiles(t.TempDir(), certificate, trusted...)}
}

func spoil(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}

func (f files) secure() layers.TLSConfig {
	return layers.TLSConfig{
		CertFile: f.Cert(), KeyFile: f.Key(), CAFile: f.CA(),
		ServerName: role, Logger: hclog.NewNullLogger(),
	}
}

func serial(n int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
}

// serialOf returns the serial number of the certificate that a host shows.
func serialOf(t *testing.T, net *faultnet.Network, ca *testca.Authority, host string) int64 {
	t.Helper()
	raw, err := net.Host("peer").Dial(t.Context(), host)
	require.NoError(t, err)
	conn := tls.Client(raw, &tls.Config{RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()}})
	require.NoError(t, conn.Handshake())
	require.NoError(t, conn.Close())
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// revocation is what a node trusts, while that changes.
type revocation struct {
	ours, theirs *testca.Authority
	trusted      []*testca.Authority
	denied       bool // the node with the serial number 666
}

func newRevocation(t *testing.T) *revocation {
	w := &revocation{ours: testca.New(), theirs: testca.New()}
	w.trusted = []*testca.Authority{w.ours, w.theirs}
	return w
}

func (w *revocation) secure(t *testing.T) layers.TLSConfig {
	own := w.ours.Issue()
	return layers.TLSConfig{
		Load:           func() (*tls.Certificate, *x509.CertPool, error) { return own, testca.Pool(w.trusted...), nil },
		ReloadInterval: -1,
		ServerName:     role,
		Authorize: func(p *layers.TLSPeer) error {
			if w.denied && p.Certificate().SerialNumber.Int64() == 666 {
				return errors.New("revoked")
			}
			return nil
		},
		Logger: hclog.NewNullLogger(),
	}
}

// What the tests of the root and of layers share.
type (
	option     = testnode.Option
	dialer     = testnode.Dialer
	plainLayer = testnode.PlainLayer
)

var (
	config          = testnode.Config
	listen          = testnode.Listen
	transport       = testnode.Transport
	listenTCP       = testnode.ListenTCP
	newLayer        = testnode.NewLayer
	secure          = testnode.Secure
	layerOf         = testnode.LayerOf
	withStream      = testnode.WithStream
	withTimeout     = testnode.WithTimeout
	withPool        = testnode.WithPool
	withLimits      = testnode.WithLimits
	withHooks       = testnode.WithHooks
	serve           = testnode.Serve
	accept          = testnode.Accept
	calls           = testnode.Calls
	appendRequest   = testnode.AppendRequest
	appendOnce      = testnode.AppendOnce
	installSnapshot = testnode.InstallSnapshot
	install         = testnode.Install
	openPipeline    = testnode.OpenPipeline
	send            = testnode.Send
	heartbeats      = testnode.Heartbeats
	requireTimeout  = testnode.RequireTimeout
	onFakeTime      = testnode.OnFakeTime
	pause           = testnode.Pause
	elapsed         = testnode.Elapsed
	dialRaw         = testnode.DialRaw
	say             = testnode.Say
	introduce       = testnode.Introduce
	isOpen          = testnode.IsOpen
	openSockets     = testnode.OpenSockets
	checkLeaks      = testnode.CheckLeaks
)

// Tests run on fake time over faultnet wherever time or faults matter: a
// deadline is then exact, and what takes a minute takes no time.

// testTimeout is the transports' timeout in these tests.
const testTimeout = testnode.Timeout

// prompt is how soon something must happen that no deadline has to bring about.
const prompt = testnode.Prompt

func TestMain(m *testing.M) {
	sockets := openSockets()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(sockets)
	}
	os.Exit(code)
}
