package layers_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
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

// A mux accepts before it has a layer. What comes early waits for the first layer.
func TestMux_AcceptsBeforeTheFirstLayer(t *testing.T) {
	for name, c := range map[string]struct {
		mux func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux
		key layers.Key
	}{
		"by byte": {func(t *testing.T, net *faultnet.Network, host string, _ *testca.Authority) *layers.Mux {
			return share(t, net, host)
		}, layers.FirstByte(7)},
		"by ALPN": {func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux {
			return share(t, net, host, withTLS(secure(ca.Issue(), ca)))
		}, layers.ALPN("raft")},
		"by ALPN over TLS": {func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux {
			return secureMux(t, net, host, secure(ca.Issue(), ca))
		}, layers.ALPN("raft")},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				there := c.mux(t, net, "there", ca)
				called := make(chan error, 1)
				here := group(t, c.mux(t, net, "here", ca), c.key)
				go func() { called <- appendOnce(here, "there") }()
				pause(testTimeout / 2)
				serve(t, group(t, there, c.key), accept)
				require.NoError(t, <-called)
			})
		})
	}
}

func TestMux_RefusesWhoWaitsTooLongForTheFirstLayer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		there := share(t, net, "there")
		conn := connect(t, net, "there", "\x07")
		require.Equal(t, 10*time.Second, elapsed(func() { requireEnd(t, conn) }))
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Silent: 1}, there.Refusals())
	})
}

// If somebody else closes the listener, Accept of every layer ends, as that of the
// listener does, and a transport says so.
func TestLayers_EndWithTheirListener(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, port raftwire.StreamLayer) (top raftwire.StreamLayer, end func() error){
		"a mux": func(t *testing.T, port raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			mux := muxOf(t, port)
			return layerOf(t, mux, layers.FirstByte(7)), mux.Close
		},
		"TLS": func(t *testing.T, port raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			layer := tlsOver(t, port)
			return layer, layer.Close
		},
		"TLS over a mux": func(t *testing.T, port raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			mux := muxOf(t, port)
			layer := tlsOver(t, layerOf(t, mux, layers.FirstByte(7)))
			return layer, func() error { _ = layer.Close(); return mux.Close() }
		},
		"a mux over TLS": func(t *testing.T, port raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			mux := muxOf(t, tlsOver(t, port))
			return layerOf(t, mux, layers.FirstByte(7)), mux.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				port, err := network.Host("b").Listen()
				require.NoError(t, err)
				top, end := over(t, port)
				ended := make(chan error, 1)
				go func() { _, err := top.Accept(); ended <- err }()
				synctest.Wait()
				require.NoError(t, port.Close())
				require.ErrorIs(t, <-ended, net.ErrClosed)
				_ = end()

				port, err = network.Host("b").Listen()
				require.NoError(t, err)
				top, end = over(t, port)
				var log bytes.Buffer
				transport(t, withStream(top), func(c *raftwire.NetworkTransportConfig) { c.Logger = logTo(&log) })
				synctest.Wait()
				require.NoError(t, port.Close())
				synctest.Wait()
				require.Equal(t, 1, strings.Count(log.String(), "closed by somebody else"), log.String())
				_ = end()
			})
		})
	}
}

func muxOf(t *testing.T, listener net.Listener) *layers.Mux {
	mux, err := layers.NewMux(layers.MuxConfig{Listener: listener, Logger: hclog.NewNullLogger()})
	require.NoError(t, err)
	return mux
}

func tlsOver(t *testing.T, inner raftwire.StreamLayer) *layers.TLS {
	layer, err := layers.NewTLS(inner, newSecurity())
	require.NoError(t, err)
	return layer
}

// A connection that CloseConns ends is no news to the log of the transport that has it.
func TestMux_ClosesConnectionsWithoutWarnings(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		var log bytes.Buffer
		there, here := share(t, network, "there"), share(t, network, "here")
		layer := layerOf(t, there, layers.FirstByte(7))
		follower := transport(t, withStream(layer), func(c *raftwire.NetworkTransportConfig) { c.Logger = logTo(&log) })
		serve(t, follower, accept)
		require.NoError(t, appendOnce(group(t, here, layers.FirstByte(7)), "there"))

		there.CloseConns()
		synctest.Wait()
		require.NoError(t, follower.Close())
		require.Contains(t, log.String(), "[DEBUG] connection ended")
		require.NotContains(t, log.String(), "[WARN]")
	})
}

// A mux counts the connections that its layers have handed over, and can close them,
// whoever has them.
func TestMux_CountsAndClosesItsConnections(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New()
		security := withTLS(secure(ca.Issue(), ca))
		there, here := share(t, network, "there", security), share(t, network, "here", security)
		keys := []layers.Key{layers.FirstByte(7), layers.ALPN("raft"), layers.Unprefixed()}
		for _, key := range keys {
			serve(t, group(t, there, key), accept)
			require.NoError(t, appendOnce(group(t, here, key), "there"))
		}
		require.Equal(t, 3, there.Conns())

		var clients, accepted []net.Conn
		for key, secured := range map[layers.Key]bool{layers.FirstByte(8): false, layers.ALPN("web"): true} {
			dialling, accepting := layerOf(t, here, key), layerOf(t, there, key)
			for range 2 {
				client, err := dialling.Dial("there", time.Second)
				require.NoError(t, err)
				conn, err := accepting.Accept()
				require.NoError(t, err)
				if secured {
					require.IsType(t, new(tls.Conn), conn, "programs look for it")
				}
				clients, accepted = append(clients, client), append(accepted, conn)
			}
		}
		require.Equal(t, 7, there.Conns())
		_ = accepted[0].Close()
		_ = accepted[2].Close()
		require.Equal(t, 5, there.Conns())

		there.CloseConns()
		for i := range clients {
			_, err := clients[i].Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			_ = clients[i].Close()
			_ = accepted[i].Close()
		}
		synctest.Wait()
		require.Zero(t, there.Conns())
		for _, key := range keys { // it goes on
			require.NoError(t, appendOnce(group(t, share(t, network, "again-"+key.String(), security), key), "there"))
		}
	})
}

// A layer that was closed already ends what is put over it as one that is closed later.
func TestLayers_TellThatTheyAreClosedAlready(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, closed raftwire.StreamLayer) (top raftwire.StreamLayer, end func() error){
		"a transport": func(_ *testing.T, closed raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			return closed, closed.Close
		},
		"TLS": func(t *testing.T, closed raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			layer := tlsOver(t, closed)
			return layer, layer.Close
		},
		"closed TLS": func(t *testing.T, closed raftwire.StreamLayer) (raftwire.StreamLayer, func() error) {
			layer := tlsOver(t, closed)
			_ = layer.Close()
			return layer, layer.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				closed := layerOf(t, share(t, network, "b"), layers.FirstByte(7))
				require.NoError(t, closed.Close())
				top, end := over(t, closed)
				var log bytes.Buffer
				transport(t, withStream(top), func(c *raftwire.NetworkTransportConfig) { c.Logger = logTo(&log) })
				synctest.Wait()
				require.Equal(t, 1, strings.Count(log.String(), "closed by somebody else"), log.String())
				_ = end()
			})
		})
	}
	t.Run("a mux", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
			closed := layerOf(t, share(t, network, "b"), layers.FirstByte(7))
			require.NoError(t, closed.Close())
			mux := muxOf(t, closed)
			_, err := mux.Layer(layers.FirstByte(8))
			require.ErrorIs(t, err, net.ErrClosed)
			_ = mux.Close()
		})
	})
}

// Connections that wait for the first layer of a mux end with its listener, which need
// not wait for them.
func TestMux_WaitsForNoLayerOnceTheListenerIsClosed(t *testing.T) {
	for name, listener := range map[string]func(t *testing.T, port raftwire.StreamLayer) raftwire.StreamLayer{
		"a port": func(_ *testing.T, port raftwire.StreamLayer) raftwire.StreamLayer { return port },
		"TLS":    func(t *testing.T, port raftwire.StreamLayer) raftwire.StreamLayer { return tlsOver(t, port) },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				port, err := network.Host("b").Listen()
				require.NoError(t, err)
				under := listener(t, port)
				mux := muxOf(t, under)
				conn := connect(t, network, "b", "")
				synctest.Wait()
				require.Zero(t, elapsed(func() {
					require.NoError(t, under.Close())
					requireEnd(t, conn)
				}))
				synctest.Wait()
				require.Zero(t, mux.Refusals())
				_ = mux.Close()
			})
		})
	}
}

// A mux knows of the end of its connections also if a layer is put over one that
// accepts from its layer by itself.
func TestMux_CountsConnectionsThatPassTheAcceptOfAWrapper(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, layer raftwire.StreamLayer, security layers.TLSConfig) (raftwire.StreamLayer, func() error){
		"TLS": func(t *testing.T, layer raftwire.StreamLayer, security layers.TLSConfig) (raftwire.StreamLayer, func() error) {
			top, err := layers.NewTLS(layer, security)
			require.NoError(t, err)
			return top, top.Close
		},
		"a mux": func(t *testing.T, layer raftwire.StreamLayer, _ layers.TLSConfig) (raftwire.StreamLayer, func() error) {
			mux := muxOf(t, layer)
			return layerOf(t, mux, layers.FirstByte(8)), mux.Close
		},
		"a mux with TLS": func(t *testing.T, layer raftwire.StreamLayer, security layers.TLSConfig) (raftwire.StreamLayer, func() error) {
			mux, err := layers.NewMux(layers.MuxConfig{Listener: layer, Logger: hclog.NewNullLogger(), TLS: &security})
			require.NoError(t, err)
			return layerOf(t, mux, layers.ALPN("raft")), mux.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				security := newSecurity()
				there, here := share(t, network, "there"), share(t, network, "here")
				accepting, endThere := over(t, ownAccept{layerOf(t, there, layers.FirstByte(7))}, security)
				dialling, endHere := over(t, ownAccept{layerOf(t, here, layers.FirstByte(7))}, security)
				type accepted struct {
					net.Conn
					error
				}
				conns := make(chan accepted)
				go func() {
					conn, err := ownAccept{accepting}.Accept()
					conns <- accepted{conn, err}
				}()
				client, err := dialling.Dial("there", time.Second)
				require.NoError(t, err)
				conn := <-conns
				require.NoError(t, conn.error)
				require.Equal(t, 1, there.Conns())
				_ = conn.Close()
				_ = client.Close()
				synctest.Wait()
				require.Zero(t, there.Conns())
				require.NoError(t, endThere())
				require.NoError(t, endHere())
			})
		})
	}
}

// ownAccept is a layer that has one of ours embedded.
type ownAccept struct{ raftwire.StreamLayer }

// The Close of a connection that waits for Accept may block. Nobody waits for it, but
// Close of the layer under it, for a second.
func TestLayers_CloseDoesNotWaitForTheCloseOfAConnection(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, port raftwire.StreamLayer) (closing interface{ Close() error }, client func(net.Conn)){
		"a mux": func(t *testing.T, port raftwire.StreamLayer) (interface{ Close() error }, func(net.Conn)) {
			mux := muxOf(t, port)
			layerOf(t, mux, layers.FirstByte(7))
			return mux, func(conn net.Conn) { say(t, conn, "\x07") }
		},
		"TLS": func(t *testing.T, port raftwire.StreamLayer) (interface{ Close() error }, func(net.Conn)) {
			ca := testca.New()
			layer, err := layers.NewTLS(port, secure(ca.Issue(), ca))
			require.NoError(t, err)
			go func() {
				if conn, err := layer.Accept(); err == nil {
					_ = conn.Close()
				}
			}()
			return layer, func(conn net.Conn) {
				config := &tls.Config{RootCAs: testca.Pool(ca), ServerName: role, Certificates: []tls.Certificate{*ca.Issue()}}
				require.NoError(t, tls.Client(conn, config).Handshake())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				port, err := network.Host("b").Listen()
				require.NoError(t, err)
				release := make(chan struct{})
				closing, enter := over(t, slowCloses{port, release})
				for range 2 { // TLS needs an Accept to begin, which takes the first
					enter(dialRaw(t, network, "peer"))
				}
				synctest.Wait()
				result := make(chan error, 1)
				go func() { result <- closing.Close() }()
				pause(time.Second)
				synctest.Wait()
				blocks := len(result) == 0
				close(release)
				synctest.Wait()
				require.ErrorContains(t, <-result, "of a connection does not return")
				require.False(t, blocks)
			})
		})
	}
}

// slowCloses accepts connections whose Close blocks.
type slowCloses struct {
	raftwire.StreamLayer
	release chan struct{}
}

func (l slowCloses) Accept() (net.Conn, error) {
	conn, err := l.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return slowClose{conn, l.release}, nil
}

type slowClose struct {
	net.Conn
	release chan struct{}
}

func (c slowClose) Close() error { <-c.release; return c.Conn.Close() }
