package layers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newDialer(t *testing.T, network *faultnet.Network, host string) *dialer {
	layer, err := network.Host(host).Listen()
	require.NoError(t, err)
	return &dialer{Layer: layer}
}

func overTLS(t *testing.T, inner raftwire.StreamLayer, ca *testca.Authority) raftwire.StreamLayer {
	layer, err := layers.NewTLS(inner, secure(ca.Issue(), ca))
	require.NoError(t, err)
	return layer
}

// fillPool leaves count idle connections from a to b.
func fillPool(t *testing.T, a, b *raftwire.NetworkTransport, count int) {
	t.Helper()
	errs := make(chan error, count)
	for range count {
		go func() { errs <- appendOnce(a, b.LocalAddr()) }()
	}
	rpcs := make([]raftwire.RPC, count)
	for i := range rpcs { // hold them all, so that each needs a connection
		rpcs[i] = <-b.Consumer()
	}
	for i := range rpcs {
		accept(rpcs[i])
		require.NoError(t, <-errs)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// hidden is a layer of another make over TLS: its connections do not show that.
type hidden struct{ *layers.TLS }

func (h hidden) Accept() (net.Conn, error) {
	conn, err := h.TLS.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{conn}, nil
}

func (h hidden) DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error) {
	conn, err := h.TLS.DialContext(ctx, addr)
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{conn}, nil
}

// TLS does not go on where a deadline has interrupted a write.
func TestInstallSnapshot_OutlastsAStallOverTLSOfAnotherMake(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New()
		over := func(host string) raftwire.StreamLayer {
			return hidden{overTLS(t, newDialer(t, network, host), ca).(*layers.TLS)}
		}
		a, b := transport(t, withStream(over("a"))), transport(t, withStream(over("b")))
		b.SetHeartbeatHandler(accept)
		defer heartbeats(t, a, testTimeout/2)()
		serve(t, b, func(rpc raftwire.RPC) {
			pause(testTimeout * 7 / 2)
			accept(rpc)
		})
		const size = 4 << 20
		resp, err := install(a, size, io.LimitReader(zeros{}, size))
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

// Wherever a bit is flipped on the way, in the handshake or after it, the
// request fails, and is not delivered in another form. The one exception is the
// version in the header of each side's first record, which TLS ignores
// (RFC 8446 §5.1): the request is what it was.
func TestAFlippedBitIsAlwaysDetected(t *testing.T) {
	const (
		stride = 11 // saves time, and has no factor in common with 8 bits
		vary   = 8  // by so many bytes do the lengths of signatures
	)
	for _, outgoing := range []bool{true, false} {
		t.Run(fmt.Sprint("outgoing ", outgoing), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				inner, err := net.Host("a").Listen()
				require.NoError(t, err)
				flipping := &flippingLayer{StreamLayer: inner, outgoing: outgoing, at: -1}
				layer, err := layers.NewTLS(flipping, secure(ca.Issue(), ca))
				require.NoError(t, err)
				a := transport(t, withStream(layer), withPool(0))
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				serve(t, b, func(rpc raftwire.RPC) {
					assert.Equal(t, appendRequest(1), rpc.Command)
					accept(rpc)
				})
				ask := func() error {
					var resp raftwire.AppendEntriesResponse
					err := a.AppendEntries("b", "b", appendRequest(1), &resp)
					if err == nil {
						require.Equal(t, raftwire.AppendEntriesResponse{Term: 7, LastLog: 1, Success: true}, resp)
					}
					return err
				}
				require.NoError(t, ask())
				total := flipping.carried()
				for at := 0; at < total-vary; at++ {
					inFirstHeader := at < 5
					if !inFirstHeader && at%stride != 0 {
						continue
					}
					flipping.flipAt(at)
					if err := ask(); at != 1 && at != 2 {
						require.Error(t, err, "byte %d of %d", at, total)
					}
					pause(2 * time.Second) // what is left of the connection goes
				}
			})
		})
	}
}

// flippingLayer flips a bit in byte number at of what a connection that it has
// dialled carries in one direction.
type flippingLayer struct {
	raftwire.StreamLayer
	outgoing bool

	mu   sync.Mutex // protects following, and the connections' counts
	at   int
	last *flippingConn
}

func (l *flippingLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.StreamLayer.Dial(address, timeout)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = &flippingConn{Conn: conn, layer: l}
	return l.last, err
}

func (l *flippingLayer) flipAt(at int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
}

// carried returns how many bytes the last connection has carried.
func (l *flippingLayer) carried() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.passed
}

type flippingConn struct {
	net.Conn
	layer  *flippingLayer
	passed int
}

func (c *flippingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.layer.outgoing {
		c.flip(p[:n])
		c.count(n)
	}
	return n, err
}

func (c *flippingConn) Write(p []byte) (int, error) {
	if !c.layer.outgoing {
		return c.Conn.Write(p)
	}
	p = bytes.Clone(p)
	c.flip(p)
	n, err := c.Conn.Write(p)
	c.count(n) // without the goodbye, which comes when conn is closed
	return n, err
}

func (c *flippingConn) flip(p []byte) {
	c.layer.mu.Lock()
	defer c.layer.mu.Unlock()
	if i := c.layer.at - c.passed; 0 <= i && i < len(p) {
		p[i] ^= 1 << (c.layer.at % 8)
	}
}

func (c *flippingConn) count(n int) {
	c.layer.mu.Lock()
	defer c.layer.mu.Unlock()
	c.passed += n
}

// A TLS connection has a goodbye to say, for which a peer that does not
// read would have seconds. However many of them there are, the end is prompt.
func TestTLSPeersThatDoNotReadDoNotDelayTheEnd(t *testing.T) {
	const (
		buffer   = 1000
		overhead = 5 + 1 + 16 + 4 // of the record, RFC 8446 §5.2, and of the answer in it
		goodbye  = 5 + 2 + 1 + 16 // a record as well
	)
	for name, end := range map[string]func(*raftwire.NetworkTransport){
		"Close":        func(trans *raftwire.NetworkTransport) { require.NoError(t, trans.Close()) },
		"CloseStreams": (*raftwire.NetworkTransport).CloseStreams,
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				serve(t, b, func(rpc raftwire.RPC) {
					rpc.Respond(nil, errors.New(strings.Repeat("x", buffer-overhead-goodbye/2)))
				})
				net.SetBuffer(buffer)
				for range 100 {
					stuck := tls.Client(dialRaw(t, net, "a"), &tls.Config{
						RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()},
					})
					require.NoError(t, stuck.Handshake())
					say(t, stuck, "\x03\x80") // and does not read the answer
				}
				synctest.Wait()
				require.LessOrEqual(t, elapsed(func() { end(b) }), prompt)
			})
		})
	}
}

// layers over which a pooled connection has to be known for dead or alive: a
// system's socket is looked at, other connections are watched, and a layer of
// somebody else may resume sessions, so that bytes arrive which belong to no
// answer.
var tlsLayers = map[string]func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer{
	"over sockets": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		layer, err := layers.NewTLS(listenSocket(t, addr), secure(ca.Issue(), ca))
		require.NoError(t, err)
		return layer
	},
	"over something else": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		layer, err := layers.NewTLS(unknownLayer{listenSocket(t, addr)}, secure(ca.Issue(), ca))
		require.NoError(t, err)
		return layer
	},
	"with tickets": func(t *testing.T, addr string, ca *testca.Authority) raftwire.StreamLayer {
		return ticketLayer{listenSocket(t, addr), &tls.Config{
			Certificates: []tls.Certificate{*ca.Issue()}, ServerName: role, RootCAs: testca.Pool(ca),
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: testca.Pool(ca),
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		}}
	},
}

// socketLayer is the least that a stream layer over TCP can be.
type socketLayer struct{ net.Listener }

func listenSocket(t *testing.T, addr string) socketLayer {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	require.NoError(t, err)
	return socketLayer{listener}
}

func (socketLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// unknownLayer hides that its connections are sockets.
type unknownLayer struct{ socketLayer }

type unknownConn struct{ net.Conn }

func (l unknownLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.socketLayer.Dial(address, timeout)
	return unknownConn{conn}, err
}

type ticketLayer struct {
	socketLayer
	config *tls.Config
}

func (l ticketLayer) Accept() (net.Conn, error) {
	conn, err := l.socketLayer.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, l.config), nil
}

func (l ticketLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := l.socketLayer.Dial(address, timeout)
	if err != nil {
		return nil, err
	}
	return tls.Client(conn, l.config), nil
}

// countedLayer counts dials.
type countedLayer struct {
	raftwire.StreamLayer
	dials atomic.Int32
}

func (l *countedLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	l.dials.Add(1)
	return l.StreamLayer.Dial(address, timeout)
}

// Over TLS, an idle connection is used again, and one whose peer was
// restarted costs no failed request.
func TestIdleTLSConnectionsAreReusedWhileTheyAreAlive(t *testing.T) {
	for name, newLayer := range tlsLayers {
		t.Run(name, func(t *testing.T) {
			ca := testca.New()
			counted := &countedLayer{StreamLayer: newLayer(t, "127.0.0.1:0", ca)}
			a := transport(t, withStream(counted), withTimeout(10*time.Second))
			b := transport(t, withStream(newLayer(t, "127.0.0.1:0", ca)))
			target := b.LocalAddr()
			for range 5 {
				fillPool(t, a, b, 1)
				pause(3 * time.Millisecond) // beyond the time that it is taken for alive
			}
			require.EqualValues(t, 1, counted.dials.Load())
			p := openPipeline(t, a, target)
			require.NoError(t, p.Close())
			require.EqualValues(t, 1, counted.dials.Load())
			fillPool(t, a, b, 3)

			require.NoError(t, b.Close())
			serve(t, transport(t, withStream(newLayer(t, string(target), ca))), accept)
			for range 5 {
				require.NoError(t, appendOnce(a, target))
			}
		})
	}
}

// TLS reads ahead: what comes with an answer, but in a record of
// its own, is in neither the socket nor the buffer.
func TestASurplusRecordIsNeverTakenForAnAnswer(t *testing.T) {
	ca := testca.New()
	counted := &countedLayer{StreamLayer: tlsLayers["over sockets"](t, "127.0.0.1:0", ca)}
	a := transport(t, withStream(counted))
	listener := listenSocket(t, "127.0.0.1:0")
	defer func() { require.NoError(t, listener.Close()) }()
	config := &tls.Config{Certificates: []tls.Certificate{*ca.Issue()}, ClientAuth: tls.RequireAnyClientCert}
	answered := make(chan struct{})
	go func() {
		for range 2 {
			answerInTwoRecords(t, listener, config)
			answered <- struct{}{}
		}
	}()
	for i := range int32(2) { // on a connection each
		require.NoError(t, appendOnce(a, raftwire.ServerAddress(listener.Addr().String())))
		require.Equal(t, i+1, counted.dials.Load())
		<-answered
	}
}

// answerInTwoRecords answers the first request on a connection twice, with one
// write of two records.
func answerInTwoRecords(t *testing.T, listener net.Listener, config *tls.Config) {
	raw, err := listener.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = raw.Close() }()
	gathered := &gatheringConn{Conn: raw}
	conn := tls.Server(gathered, config)
	_, _ = conn.Read(make([]byte, 4096))
	gathered.held = new(bytes.Buffer)
	_, _ = io.WriteString(conn, "\xa0\xc0") // no error, no response
	_, _ = io.WriteString(conn, "\xa0\xc0")
	_, _ = raw.Write(gathered.held.Bytes())
	_, _ = conn.Read(make([]byte, 1)) // until the peer closes
}

// gatheringConn holds what is written.
type gatheringConn struct {
	net.Conn
	held *bytes.Buffer // nil: nothing is held
}

func (c *gatheringConn) Write(p []byte) (int, error) {
	if c.held == nil {
		return c.Conn.Write(p)
	}
	return c.held.Write(p)
}

// Over TLS, too, a snapshot may be slow, although a write that its deadline
// has interrupted cannot go on.
func TestASlowSnapshotOverTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		a, _ := listenTLS(t, net, "a", secure(ca.Issue(), ca))
		b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b"))
		net.Link("a", "b").SetBandwidth(30_000)
		require.NoError(t, installSnapshot(a, "b", string(make([]byte, 1<<20))))
	})
}

// Also one that stalls for a while, as long as the peer answers other requests; and
// one that is compressed under way.
func TestInstallSnapshot_OverTLS(t *testing.T) {
	for name, c := range map[string]struct {
		size, length int
		stall        time.Duration
	}{
		"a stall": {1 << 20, 1 << 20, testTimeout * 7 / 2},
		"shorter": {1 << 20, 1000, 0},
		"longer":  {1 << 20, 2 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				a, _ := listenTLS(t, net, "a", secure(ca.Issue(), ca))
				b, _ := listenTLS(t, net, "b", secure(ca.Issue(), ca))
				b.SetHeartbeatHandler(accept)
				defer heartbeats(t, a, testTimeout/2)()
				serve(t, b, func(rpc raftwire.RPC) {
					pause(c.stall)
					n, err := io.Copy(io.Discard, rpc.Reader)
					assert.EqualValues(t, min(c.size, c.length), n)
					assert.Equal(t, c.length < c.size, errors.Is(err, io.ErrUnexpectedEOF), err)
					rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
				})
				took := elapsed(func() {
					resp, err := install(a, int64(c.size), io.LimitReader(zeros{}, int64(c.length)))
					require.NoError(t, err)
					require.True(t, resp.Success)
				})
				require.Equal(t, c.stall, took)
			})
		})
	}
}
