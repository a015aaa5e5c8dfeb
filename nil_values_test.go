package raftwire_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// An application may return nil, or a nil pointer in an interface. That is an error,
// never a panic.

func TestDial_TakesNoConnectionForAnError(t *testing.T) {
	ca := testca.New()
	for name, none := range noConns {
		dial := func(context.Context, raftwire.ServerAddress) (net.Conn, error) { return none, nil }
		mux := func(t *testing.T, tls *layers.TLSConfig, key layers.Key) raftwire.StreamLayer {
			mux, err := layers.NewMux(layers.MuxConfig{Listener: listenLocal(t), Dial: dial, TLS: tls, Logger: hclog.NewNullLogger()})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, mux.Close()) })
			return layerOf(t, mux, key)
		}
		for of, layer := range map[string]func(t *testing.T) raftwire.StreamLayer{
			"Dial": func(*testing.T) raftwire.StreamLayer {
				return &plainLayer{Dials: func() (net.Conn, error) { return none, nil }}
			},
			"DialContext": func(*testing.T) raftwire.StreamLayer { return nilDialLayer{&plainLayer{}, none} },
			"TCPConfig": func(t *testing.T) raftwire.StreamLayer {
				return newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0", Dial: func(context.Context, string, string) (net.Conn, error) { return none, nil }})
			},
			"a handoff": func(*testing.T) raftwire.StreamLayer {
				return layers.NewHandoff(&net.TCPAddr{}, dial)
			},
			"TLS": func(t *testing.T) raftwire.StreamLayer {
				return overTLS(t, nilDialLayer{&plainLayer{}, none}, ca)
			},
			"a mux by byte":     func(t *testing.T) raftwire.StreamLayer { return mux(t, nil, layers.FirstByte(7)) },
			"a mux, unprefixed": func(t *testing.T) raftwire.StreamLayer { return mux(t, nil, layers.Unprefixed()) },
			"a mux by ALPN": func(t *testing.T) raftwire.StreamLayer {
				security := tlsLayerConfig(ca.Issue(), ca)
				return mux(t, &security, layers.ALPN("x"))
			},
		} {
			t.Run(name+" of "+of, func(t *testing.T) {
				c := config(withStream(layer(t)))
				trans := raftwire.NewNetworkTransportWithConfig(c)
				require.ErrorContains(t, appendOnce(trans, "b:1"), "neither a connection nor an error")
				_, err := trans.AppendEntriesPipeline("b", "b:1")
				require.ErrorContains(t, err, "neither a connection nor an error")
				require.NoError(t, trans.Close())
			})
		}
	}
}

func TestAddr_MayBeNil(t *testing.T) {
	for name, addr := range map[string]net.Addr{"nil": nil, "a nil pointer": (*net.UnixAddr)(nil)} {
		for of, over := range map[string]func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer{
			"the layer": func(_ *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer { return layer },
			"a mux's": func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer {
				mux, err := layers.NewMux(layers.MuxConfig{Listener: layer, Logger: hclog.NewNullLogger()})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, mux.Close()) })
				return layerOf(t, mux, layers.Unprefixed())
			},
			"TLS's": func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer {
				return overTLS(t, layer, testca.New())
			},
		} {
			t.Run(name+" of "+of, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					layer := hostLayer(t, net, "b")
					b := transport(t, withStream(over(t, nilAddrLayer{layer, addr})))
					serve(t, b, accept)
					require.Empty(t, b.LocalAddr())
					conn := dialRaw(t, net, "a")
					if of != "TLS's" {
						introduce(t, conn)
					}
				})
			})
		}
	}
}

func TestConstructors_TakeANilPointerForNil(t *testing.T) {
	_, err := layers.NewTLS((*raftwire.TCPStreamLayer)(nil), layers.TLSConfig{})
	require.ErrorContains(t, err, "is nil")
	_, err = layers.NewMux(layers.MuxConfig{Listener: (*net.TCPListener)(nil)})
	require.ErrorContains(t, err, "Listener is nil")
	require.Panics(t, func() { layers.NewHandoff((*net.TCPAddr)(nil), nil) })
	layer := layers.NewHandoff(&net.TCPAddr{}, nil)
	require.ErrorContains(t, layer.Handoff((*net.TCPConn)(nil)), "the connection is nil")
	require.NoError(t, layer.Close())

	c := config(withStream(&plainLayer{Dials: func() (net.Conn, error) { return nil, net.ErrClosed }}))
	c.ServerAddressProvider = (*directory)(nil)
	trans := raftwire.NewNetworkTransportWithConfig(c)
	require.ErrorIs(t, appendOnce(trans, "b"), net.ErrClosed)
	require.NoError(t, trans.Close())
}

func TestSetDispatcher_TakesNoDispatcherForAnError(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return nil })
		require.Error(t, appendOnce(a, "b"))
		b.SetDispatcher(nil)
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b"))
	})
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := inmemPair(t)
			b.SetDispatcher(func(<-chan struct{}) raftwire.Dispatcher { return nil })
			require.Error(t, appendOnce(a, "b"))
			b.SetDispatcher(nil)
			serve(t, b, accept)
			require.NoError(t, appendOnce(a, "b"))
		})
	})
}

var noConns = map[string]net.Conn{"nil": nil, "a nil pointer": (*net.TCPConn)(nil)}

// nilDialLayer dials with DialContext.
type nilDialLayer struct {
	*plainLayer
	conn net.Conn
}

func (l nilDialLayer) DialContext(context.Context, raftwire.ServerAddress) (net.Conn, error) {
	return l.conn, nil
}

// nilAddrLayer has no address, nor have its connections.
type nilAddrLayer struct {
	*faultnet.Layer
	addr net.Addr
}

func (l nilAddrLayer) Addr() net.Addr { return l.addr }

func (l nilAddrLayer) Accept() (net.Conn, error) {
	conn, err := l.Layer.Accept()
	if err != nil {
		return nil, err
	}
	return nilAddrConn{conn, l.addr}, nil
}

type nilAddrConn struct {
	net.Conn
	addr net.Addr
}

func (c nilAddrConn) RemoteAddr() net.Addr { return c.addr }

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}
