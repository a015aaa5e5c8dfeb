// Package testnode has what the tests of the root and of layers share: nodes on a
// network in memory and on fake time, requests and answers, and stand-ins for healthy
// layers and peers.
package testnode

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Timeout is the transports' timeout.
const Timeout = time.Second

// Prompt is how soon something must happen that needs no deadline.
const Prompt = 100 * time.Millisecond

// Option changes a configuration.
type Option func(*raftwire.NetworkTransportConfig)

// Config returns the configuration of a node that logs nothing.
func Config(options ...Option) *raftwire.NetworkTransportConfig {
	c := &raftwire.NetworkTransportConfig{MaxPool: 3, Timeout: Timeout, Logger: hclog.NewNullLogger()}
	for _, o := range options {
		o(c)
	}
	return c
}

// HostLayer returns a layer that listens on a host of net.
func HostLayer(t testing.TB, net *faultnet.Network, host string) *faultnet.Layer {
	t.Helper()
	layer, err := net.Host(host).Listen()
	require.NoError(t, err)
	return layer
}

// Listen starts a transport on a host of net; it is closed when the test ends.
func Listen(t *testing.T, net *faultnet.Network, host string, options ...Option) *raftwire.NetworkTransport {
	t.Helper()
	c := Config(options...)
	c.Stream = HostLayer(t, net, host)
	trans := raftwire.NewNetworkTransportWithConfig(c)
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// Transport makes a transport that is closed when the test ends.
func Transport(t testing.TB, options ...Option) *raftwire.NetworkTransport {
	t.Helper()
	trans := raftwire.NewNetworkTransportWithConfig(Config(options...))
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// ListenTCP starts a transport on a real socket, which may be slow.
func ListenTCP(t *testing.T, addr string, options ...Option) *raftwire.NetworkTransport {
	t.Helper()
	trans, err := raftwire.NewTCPTransportWithConfig(addr, nil, Config(append([]Option{WithTimeout(10 * time.Second)}, options...)...))
	require.NoError(t, err)
	t.Cleanup(func() { _ = trans.Close() })
	return trans
}

// NewLayer returns a layer over TCP.
func NewLayer(t *testing.T, config raftwire.TCPConfig) *raftwire.TCPStreamLayer {
	t.Helper()
	layer, err := raftwire.NewTCPStreamLayer(config)
	require.NoError(t, err)
	return layer
}

// Secure returns the configuration of a node that shows certificate and trusts the
// authorities.
func Secure(certificate *tls.Certificate, trusted ...*testca.Authority) layers.TLSConfig {
	return layers.TLSConfig{
		Load:       func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(trusted...), nil },
		ServerName: testca.Name,
		Logger:     hclog.NewNullLogger(),
	}
}

// LayerOf returns a layer of a Mux.
func LayerOf(t testing.TB, mux *layers.Mux, keys ...layers.Key) *layers.Handoff {
	t.Helper()
	layer, err := mux.Layer(keys...)
	require.NoError(t, err)
	return layer
}

// WithStream sets the layer.
func WithStream(layer raftwire.StreamLayer) Option {
	return func(c *raftwire.NetworkTransportConfig) { c.Stream = layer }
}

// WithTimeout sets Timeout.
func WithTimeout(d time.Duration) Option {
	return func(c *raftwire.NetworkTransportConfig) { c.Timeout = d }
}

// WithPool sets MaxPool.
func WithPool(n int) Option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxPool = n }
}

// WithLimits sets MaxConns and MaxConnsPerHost.
func WithLimits(conns, perHost int) Option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxConns, c.MaxConnsPerHost = conns, perHost }
}

// WithHooks sets Hooks.
func WithHooks(hooks raftwire.Hooks) Option {
	return func(c *raftwire.NetworkTransportConfig) { c.Hooks = hooks }
}

// Serve answers the requests that arrive at trans, one at a time, until the test ends.
func Serve(t *testing.T, trans raftwire.Transport, answer func(raftwire.RPC)) {
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

// Accept answers as a healthy follower does.
func Accept(rpc raftwire.RPC) {
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

// Caller is what both transports can do.
type Caller interface {
	raftwire.Transport
	raftwire.WithPreVote
}

// Calls are the requests of a Transport, for promises that hold for all of them.
var Calls = map[string]func(trans Caller, target raftwire.ServerAddress) error{
	"AppendEntries": func(trans Caller, target raftwire.ServerAddress) error {
		return AppendOnce(trans, target)
	},
	"RequestVote": func(trans Caller, target raftwire.ServerAddress) error {
		return trans.RequestVote("b", target, &raftwire.RequestVoteRequest{Term: 7}, new(raftwire.RequestVoteResponse))
	},
	"RequestPreVote": func(trans Caller, target raftwire.ServerAddress) error {
		return trans.RequestPreVote("b", target, &raftwire.RequestPreVoteRequest{Term: 7}, new(raftwire.RequestPreVoteResponse))
	},
	"TimeoutNow": func(trans Caller, target raftwire.ServerAddress) error {
		return trans.TimeoutNow("b", target, &raftwire.TimeoutNowRequest{}, new(raftwire.TimeoutNowResponse))
	},
	"InstallSnapshot": func(trans Caller, target raftwire.ServerAddress) error {
		return InstallSnapshot(trans, target, "body")
	},
}

// AppendRequest returns a request that is no heartbeat. Its number comes back in
// LastLog.
func AppendRequest(number uint64) *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{
		RPCHeader:    raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("leader"), Addr: []byte("a")},
		Term:         7,
		PrevLogEntry: number,
		PrevLogTerm:  7,
		Entries:      []*raftwire.Log{{Index: number + 1, Term: 7, Data: []byte("data")}},
	}
}

// AppendOnce sends one request.
func AppendOnce(trans raftwire.Transport, target raftwire.ServerAddress) error {
	var resp raftwire.AppendEntriesResponse
	return trans.AppendEntries("b", target, AppendRequest(1), &resp)
}

// InstallSnapshot sends a snapshot with this body.
func InstallSnapshot(trans raftwire.Transport, target raftwire.ServerAddress, body string) error {
	var resp raftwire.InstallSnapshotResponse
	args := &raftwire.InstallSnapshotRequest{Term: 7, Size: int64(len(body))}
	return trans.InstallSnapshot("b", target, args, &resp, bytes.NewReader([]byte(body)))
}

// Install sends a snapshot from data, and announces its size.
func Install(trans raftwire.Transport, announced int64, data io.Reader) (raftwire.InstallSnapshotResponse, error) {
	var resp raftwire.InstallSnapshotResponse
	err := trans.InstallSnapshot("b", "b", &raftwire.InstallSnapshotRequest{Term: 7, Size: announced}, &resp, data)
	return resp, err
}

// OpenPipeline opens a pipeline that is closed when the test ends.
func OpenPipeline(t *testing.T, trans raftwire.Transport, target raftwire.ServerAddress) raftwire.AppendPipeline {
	t.Helper()
	p, err := trans.AppendEntriesPipeline("b", target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// Send sends count requests and returns the futures; none may fail.
func Send(t *testing.T, p raftwire.AppendPipeline, count int) []raftwire.AppendFuture {
	t.Helper()
	futures := make([]raftwire.AppendFuture, count)
	for i := range futures {
		f, err := p.AppendEntries(AppendRequest(uint64(i)), new(raftwire.AppendEntriesResponse))
		require.NoError(t, err)
		futures[i] = f
	}
	return futures
}

// Heartbeats sends heartbeats, as a leader does beside a snapshot, until stop is
// called.
func Heartbeats(t *testing.T, from raftwire.Transport, interval time.Duration) (stop func()) {
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			beat := &raftwire.AppendEntriesRequest{Term: 7, Leader: []byte("a")}
			if err := from.AppendEntries("b", "b", beat, new(raftwire.AppendEntriesResponse)); err != nil {
				t.Error("heartbeat:", err)
			}
			select {
			case <-ticker.C:
			case <-stopping:
				return
			}
		}
	}()
	return func() { close(stopping); <-stopped }
}

// RequireTimeout checks that err is a timeout, to errors.Is and as a net.Error.
func RequireTimeout(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var netErr interface{ Timeout() bool }
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
}
