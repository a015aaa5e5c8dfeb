package layers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// dialer counts the dials of the layer that it is put over, and can make them slow or
// hang.
type dialer struct {
	*faultnet.Layer
	takes    time.Duration
	hangs    atomic.Bool // until the dial's context ends
	begun    atomic.Int32
	underWay atomic.Int32
}

func (d *dialer) DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error) {
	d.begun.Add(1)
	d.underWay.Add(1)
	defer d.underWay.Add(-1)
	var slow <-chan time.Time
	if !d.hangs.Load() {
		slow = time.NewTimer(max(1, d.takes)).C
	}
	select {
	case <-slow:
		return d.Layer.DialContext(ctx, addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *dialer) Dial(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, addr)
}

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

// dialRaw connects a host without a transport to b.
func dialRaw(t *testing.T, net *faultnet.Network, from string) net_ {
	t.Helper()
	conn, err := net.Host(from).Dial(t.Context(), "b")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say writes to a raw connection.
func say(t *testing.T, conn net_, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// pause lets fake time pass. It does not wait on a timer that is due already: in a
// bubble, under the race detector, that has crashed the runtime of Go 1.26.8.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	<-timer.C
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

func layerOf(t testing.TB, mux *layers.Mux, keys ...layers.Key) *layers.Handoff {
	t.Helper()
	layer, err := mux.Layer(keys...)
	require.NoError(t, err)
	return layer
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

// plainLayer is a StreamLayer as applications write them, without DialContext.
type plainLayer struct {
	dial   func() (net.Conn, error)
	accept func() (net.Conn, error)
	closed bool
}

func (l *plainLayer) Accept() (net.Conn, error) {
	if l.accept != nil {
		return l.accept()
	}
	return nil, errors.New("nobody comes")
}

func (l *plainLayer) Close() error { l.closed = true; return nil }

func (l *plainLayer) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (l *plainLayer) Dial(raftwire.ServerAddress, time.Duration) (net.Conn, error) {
	return l.dial()
}

func openPipeline(t *testing.T, trans raftwire.Transport, target raftwire.ServerAddress) raftwire.AppendPipeline {
	t.Helper()
	p, err := trans.AppendEntriesPipeline("b", target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func newLayer(t *testing.T, config raftwire.TCPConfig) *raftwire.TCPStreamLayer {
	t.Helper()
	layer, err := raftwire.NewTCPStreamLayer(config)
	require.NoError(t, err)
	return layer
}

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

// Tests run on fake time over faultnet wherever time or faults matter: a
// deadline is then exact, and what takes a minute takes no time.

// testTimeout is the transports' timeout in these tests.
const testTimeout = time.Second

// prompt is how soon something must happen that no deadline has to bring about.
const prompt = 100 * time.Millisecond

func TestMain(m *testing.M) {
	sockets := openSockets()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(sockets)
	}
	os.Exit(code)
}

// checkLeaks fails the run if a goroutine of this module is left over, or a
// socket beside those that there were before.
func checkLeaks(sockets int) int {
	deadline := time.NewTimer(5 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	for {
		leaked, open := leakedGoroutines(), openSockets()-sockets
		if leaked == "" && open <= 0 {
			return 0
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			fmt.Fprintf(os.Stderr, "leaked %d sockets, and goroutines:\n%s\n", open, leaked)
			return 1
		}
	}
}

// openSockets returns how many sockets the process has, where the system tells.
func openSockets() (count int) {
	descriptors, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range descriptors {
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

func leakedGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var leaked []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the first is this one
		if strings.Contains(stack, "raftwire") {
			leaked = append(leaked, stack)
		}
	}
	return strings.Join(leaked, "\n\n")
}

// onFakeTime runs test in a bubble with a network, and fails if a connection
// is left open.
func onFakeTime(t *testing.T, test func(t *testing.T, net *faultnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := faultnet.New(1)
		t.Cleanup(func() { require.Zero(t, net.OpenConns(), "connections left open") })
		test(t, net)
	})
}

type option func(*raftwire.NetworkTransportConfig)

func withTimeout(d time.Duration) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Timeout = d }
}

func withPool(n int) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxPool = n }
}

func config(options ...option) *raftwire.NetworkTransportConfig {
	c := &raftwire.NetworkTransportConfig{MaxPool: 3, Timeout: testTimeout, Logger: hclog.NewNullLogger()}
	for _, o := range options {
		o(c)
	}
	return c
}

// listen starts a transport on a host of net; it is closed when the test ends.
func listen(t *testing.T, net *faultnet.Network, host string, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	layer, err := net.Host(host).Listen()
	require.NoError(t, err)
	c := config(options...)
	c.Stream = layer
	trans := raftwire.NewNetworkTransportWithConfig(c)
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// serve answers what arrives at trans until the test ends, one at a time.
func serve(t *testing.T, trans raftwire.Transport, answer func(raftwire.RPC)) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case rpc := <-trans.Consumer():
				answer(rpc)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}

// accept is an answer of a healthy follower.
func accept(rpc raftwire.RPC) {
	switch command := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		rpc.Respond(&raftwire.AppendEntriesResponse{Term: command.Term, LastLog: command.PrevLogEntry, Success: true}, nil)
	case *raftwire.RequestVoteRequest:
		rpc.Respond(&raftwire.RequestVoteResponse{Term: command.Term, Granted: true}, nil)
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(&raftwire.RequestPreVoteResponse{Term: command.Term, Granted: true}, nil)
	case *raftwire.TimeoutNowRequest:
		rpc.Respond(&raftwire.TimeoutNowResponse{}, nil)
	case *raftwire.InstallSnapshotRequest:
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Term: command.Term, Success: err == nil}, err)
	}
}

// appendRequest returns a request that is no heartbeat. Its number comes back
// in LastLog.
func appendRequest(number uint64) *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{
		RPCHeader:    raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("leader"), Addr: []byte("a")},
		Term:         7,
		PrevLogEntry: number,
		PrevLogTerm:  7,
		Entries:      []*raftwire.Log{{Index: number + 1, Term: 7, Data: []byte("data")}},
	}
}

func appendOnce(trans raftwire.Transport, target raftwire.ServerAddress) error {
	var resp raftwire.AppendEntriesResponse
	return trans.AppendEntries("b", target, appendRequest(1), &resp)
}

func installSnapshot(trans raftwire.Transport, target raftwire.ServerAddress, body string) error {
	var resp raftwire.InstallSnapshotResponse
	args := &raftwire.InstallSnapshotRequest{Term: 7, Size: int64(len(body))}
	return trans.InstallSnapshot("b", target, args, &resp, bytes.NewReader([]byte(body)))
}

// caller is what both transports are.
type caller interface {
	raftwire.Transport
	raftwire.WithPreVote
}

// calls are the requests of a Transport, for promises that all of them keep.
var calls = map[string]func(trans caller, target raftwire.ServerAddress) error{
	"AppendEntries": func(trans caller, target raftwire.ServerAddress) error {
		return appendOnce(trans, target)
	},
	"RequestVote": func(trans caller, target raftwire.ServerAddress) error {
		return trans.RequestVote("b", target, &raftwire.RequestVoteRequest{Term: 7}, new(raftwire.RequestVoteResponse))
	},
	"RequestPreVote": func(trans caller, target raftwire.ServerAddress) error {
		return trans.RequestPreVote("b", target, &raftwire.RequestPreVoteRequest{Term: 7}, new(raftwire.RequestPreVoteResponse))
	},
	"TimeoutNow": func(trans caller, target raftwire.ServerAddress) error {
		return trans.TimeoutNow("b", target, &raftwire.TimeoutNowRequest{}, new(raftwire.TimeoutNowResponse))
	},
	"InstallSnapshot": func(trans caller, target raftwire.ServerAddress) error {
		return installSnapshot(trans, target, "body")
	},
}

// elapsed returns how long f takes.
func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// requireTimeout checks that err is a timeout for everybody.
func requireTimeout(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var netErr interface{ Timeout() bool }
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
}
