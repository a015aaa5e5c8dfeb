package layers_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// One port and TLS, in either order: a Mux over a TLS layer, whose layers
// are all as secure as that one, and a TLS layer over one layer of a Mux.

// Every kind of key works inside TLS, with peers verified as they are without a
// mux, and requests reach the group that they are for.
func TestMuxOverATLSLayer(t *testing.T) {
	keys := []layers.Key{layers.ALPN("a"), layers.ALPN("b"), layers.FirstByte(7), layers.FirstByte(8), layers.Unprefixed()}
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		own := secure(ca.Issue(), ca)
		own.NextProtos = []string{"of no layer"} // and so of no consequence
		here, there := secureMux(t, net, "here", own), secureMux(t, net, "there", own)
		wrongRole := secureMux(t, net, "client", secure(ca.Issue(named("client.dc1.consul")), ca))
		delivered := make(chan layers.Key, 1)
		for _, key := range keys {
			serve(t, group(t, there, key), func(rpc raftwire.RPC) { delivered <- key; accept(rpc) })
		}
		for _, key := range keys {
			trans, refused := group(t, here, key), group(t, wrongRole, key)
			for kind, call := range calls {
				require.NoError(t, call(trans, "there"), kind)
				require.Equal(t, key, <-delivered)
				require.Error(t, call(refused, "there"), kind)
			}
		}
		require.Empty(t, delivered)
	})
}

// MaxUnsorted holds for verified peers, too.
func TestMux_BoundsVerifiedPeersThatSayNothing(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		under := secureLayer(t, net, "there", secure(ca.Issue(), ca))
		there, err := layers.NewMux(layers.MuxConfig{Listener: under, MaxUnsorted: 3, Logger: hclog.NewNullLogger()})
		require.NoError(t, err)
		defer there.Close()
		layerOf(t, there, layers.FirstByte(7))
		here := secureLayer(t, net, "here", secure(ca.Issue(), ca))
		defer here.Close()
		for range 10 {
			conn, err := here.Dial("there", 0)
			require.NoError(t, err)
			defer conn.Close()
		}
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{TooManyConns: 7}, there.Refusals())
	})
}

// The protocols that are accepted are those of the layers there are.
func TestAProtocolGoesWithItsLayer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		here := secureMux(t, net, "here", secure(ca.Issue(), ca))
		there := secureMux(t, net, "there", secure(ca.Issue(), ca))
		trans := group(t, here, layers.ALPN("a"))
		layerOf(t, there, layers.FirstByte(7))
		require.ErrorContains(t, appendOnce(trans, "there"), `negotiated the protocol "" instead of "a": it has no such layer`)
		layerOf(t, there, layers.ALPN("b"))
		require.ErrorContains(t, appendOnce(trans, "there"), "no application protocol")
		server := group(t, there, layers.ALPN("a"))
		serve(t, server, accept)
		require.NoError(t, appendOnce(trans, "there"))
		require.NoError(t, server.Close())
		require.ErrorContains(t, appendOnce(trans, "there"), "no application protocol")
	})
}

// Each group on a port may have a CA of its own, beside groups without TLS.
func TestTLSOverALayerOfAMux(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		here, there := share(t, net, "here"), share(t, net, "there")
		cas := map[byte]*testca.Authority{7: testca.New(), 8: testca.New()}
		securedGroup := func(mux *layers.Mux, key byte, ca *testca.Authority) *raftwire.NetworkTransport {
			layer, err := layers.NewTLS(layerOf(t, mux, layers.FirstByte(key)), secure(ca.Issue(), ca))
			require.NoError(t, err)
			return transport(t, withStream(layer))
		}
		for key, ca := range cas {
			serve(t, securedGroup(there, key, ca), accept)
		}
		serve(t, group(t, there, layers.Unprefixed()), accept)

		of7 := securedGroup(here, 7, cas[7])
		for kind, call := range calls {
			require.NoError(t, call(of7, "there"), kind)
			require.NoError(t, call(group(t, share(t, net, "x"+kind), layers.Unprefixed()), "there"), kind)
		}
		require.ErrorContains(t, appendOnce(securedGroup(here, 8, cas[7]), "there"), "unknown authority")
		require.NoError(t, of7.Close()) // and frees the key
		require.NoError(t, appendOnce(securedGroup(here, 7, cas[7]), "there"))
	})
}

// Whoever was verified and then keeps a mux waiting, for its key or for its
// layer to be accepted from, does not slip past a revocation.
func TestWaitingForALayerDoesNotOutlastARevocation(t *testing.T) {
	const request = "\x03\x80" // TimeoutNow
	nested := func(t *testing.T, mux *layers.Mux) *layers.Mux {
		return muxOver(t, layerOf(t, mux, layers.FirstByte(1)))
	}
	itself := func(_ *testing.T, mux *layers.Mux) *layers.Mux { return mux }
	for name, c := range map[string]struct {
		key    layers.Key
		mux    func(*testing.T, *layers.Mux) *layers.Mux
		before string // what is sent before the revocation
		after  string
	}{
		"before its first byte":      {layers.FirstByte(7), itself, "", "\x07" + request},
		"after its first byte":       {layers.FirstByte(7), itself, "\x07", request},
		"before any byte":            {layers.Unprefixed(), itself, "", request},
		"after a byte of a request":  {layers.Unprefixed(), itself, request[:1], request[1:]},
		"after its handshake":        {layers.ALPN("a"), itself, "", request},
		"between two bytes of a key": {layers.FirstByte(7), nested, "\x01", "\x07" + request},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				w := newRevocation(t)
				secured := secureLayer(t, net, "b", w.secure(t))
				layer := layerOf(t, c.mux(t, muxOver(t, secured)), c.key)
				knock := func(from string, ca *testca.Authority, number int64) *tls.Conn {
					client := tls.Client(dialRaw(t, net, from), &tls.Config{
						RootCAs: testca.Pool(w.ours), ServerName: role, NextProtos: []string{"a"},
						Certificates: []tls.Certificate{*ca.Issue(serial(number))},
					})
					require.NoError(t, client.Handshake())
					say(t, client, c.before)
					return client
				}
				bad, good := knock("bad", w.theirs, 666), knock("good", w.ours, 1)
				synctest.Wait()
				w.denied = true
				require.NoError(t, secured.Reload())

				trans := transport(t, withStream(layer))
				serve(t, trans, accept)
				_, _ = io.WriteString(bad, c.after)
				say(t, good, c.after)
				_, err := good.Read(make([]byte, 1))
				require.NoError(t, err)
				_, err = bad.Read(make([]byte, 1))
				require.Error(t, err)
				require.NoError(t, bad.NetConn().Close())
				synctest.Wait() // it is counted after it was closed
				require.EqualValues(t, 1, secured.Refusals().Untrusted)
			})
		})
	}
}

// What a mux has taken a byte from, and given back, is closed without a
// goodbye as well.
func TestTLSPeersOfAMuxThatDoNotReadDoNotDelayTheEnd(t *testing.T) {
	const buffer = 1000
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		trans := group(t, secureMux(t, net, "b", secure(ca.Issue(), ca)), layers.Unprefixed())
		serve(t, trans, func(rpc raftwire.RPC) { rpc.Respond(nil, errors.New(strings.Repeat("x", buffer-40))) })
		net.SetBuffer(buffer)
		for range 10 {
			stuck := tls.Client(dialRaw(t, net, "a"), &tls.Config{
				RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()},
			})
			require.NoError(t, stuck.Handshake())
			say(t, stuck, "\x03\x80") // and does not read the answer
		}
		synctest.Wait()
		require.LessOrEqual(t, elapsed(func() { require.NoError(t, trans.Close()) }), prompt)
	})
}

func TestAMuxOverTLSNeedsNoOtherTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		layer := secureLayer(t, net, "a", secure(ca.Issue(), ca))
		defer func() { require.NoError(t, layer.Close()) }()
		security := newSecurity()
		_, err := layers.NewMux(layers.MuxConfig{Listener: layer, TLS: &security})
		require.ErrorContains(t, err, "MuxConfig.TLS is set, and Listener is a TLS layer, which has a configuration of its own: use one or the other")
	})
}

// A cluster is moved from plain connections to TLS one node at a time: first all
// accept both, then all dial with TLS, then none accepts anything else. Nodes of
// neighbouring steps talk to each other.
func TestAClusterCanBeMovedFromPlainToTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		accepting := func(dialling func(raftwire.StreamLayer) layers.DialFunc) func(c *layers.MuxConfig) {
			return func(c *layers.MuxConfig) {
				security := secure(ca.Issue(), ca)
				c.TLS = &security
				c.Dial = dialling(c.Listener.(raftwire.StreamLayer))
			}
		}
		inPlain := func(raftwire.StreamLayer) layers.DialFunc { return nil }
		withTLS := func(layer raftwire.StreamLayer) layers.DialFunc {
			secured, err := layers.NewTLS(layer, secure(ca.Issue(), ca))
			require.NoError(t, err)
			t.Cleanup(func() { _ = secured.Close() }) // its listener is the mux's
			return secured.DialContext
		}
		over, _ := listenTLS(t, net, "3", secure(ca.Issue(), ca))
		steps := []*raftwire.NetworkTransport{
			listen(t, net, "0"),
			group(t, share(t, net, "1", accepting(inPlain)), layers.Unprefixed()),
			group(t, share(t, net, "2", accepting(withTLS)), layers.Unprefixed()),
			over,
		}
		for _, node := range steps {
			serve(t, node, accept)
		}
		for i, from := range steps {
			for j, to := range steps {
				switch err := appendOnce(from, to.LocalAddr()); {
				case max(i-j, j-i) <= 1:
					require.NoError(t, err, "%d to %d", i, j)
				case i == 0 && j == 3, i == 3 && j == 0:
					require.Error(t, err, "%d to %d", i, j)
				}
			}
		}
	})
}

// What does not get as far as a transport is reported as well.
func TestRefusalsUnderATransportAreReported(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		var reported []string
		note := func(e raftwire.RefusalEvent) {
			reported = append(reported, e.Reason+" from "+e.Host)
			require.Error(t, e.Err)
			require.True(t, strings.HasPrefix(string(e.Peer), e.Host+":"))
		}
		security := secure(ca.Issue(), ca)
		security.Refused = note
		mux, err := layers.NewMux(layers.MuxConfig{
			Listener: secureLayer(t, net, "b", security), Refused: note, Logger: hclog.NewNullLogger(),
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, mux.Close()) }()
		layerOf(t, mux, layers.FirstByte(7))

		stranger, _ := listenTLS(t, net, "stranger", secure(testca.New().Issue(), ca))
		require.Error(t, appendOnce(stranger, "b"))
		synctest.Wait()
		lost, _ := listenTLS(t, net, "lost", secure(ca.Issue(), ca)) // sends no key
		require.Error(t, appendOnce(lost, "b"))
		synctest.Wait()
		require.Equal(t, []string{"Untrusted from stranger", "Foreign from lost"}, reported)
	})
}

func TestATLSTransportReportsRefusalsToItsHooks(t *testing.T) {
	ca := testca.New()
	refused := make(chan raftwire.RefusalEvent, 1)
	trans, err := layers.NewTLSTransport("127.0.0.1:0", nil, secure(ca.Issue(), ca), config(func(c *raftwire.NetworkTransportConfig) {
		c.Hooks.Refused = func(e raftwire.RefusalEvent) { refused <- e }
	}))
	require.NoError(t, err)
	plain := listenTCP(t, "127.0.0.1:0")
	require.Error(t, appendOnce(plain, trans.LocalAddr()))
	require.Equal(t, "Foreign", (<-refused).Reason)
	require.NoError(t, trans.Close())
}

// Where every peer is verified, nothing comes in that was not.
func TestALayerOverTLSTakesNoHandoff(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New()
		layer := layerOf(t, secureMux(t, network, "b", secure(ca.Issue(), ca)), layers.FirstByte(7))
		here, there := net.Pipe()
		require.ErrorContains(t, layer.Handoff(here), "takes only connections whose peers that has verified")
		_, err := there.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}
