package layers_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// madeOf names what a connection is made of.
func madeOf(conn net.Conn) string {
	name := fmt.Sprintf("%T", conn)
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		name += " " + madeOf(under.NetConn())
	}
	return name
}

// In whatever order TLS and Mux come, a connection passes one accept loop, and has one
// wrapper at the most for each TLS and for a byte that is given back.
func TestHandover_PutsNoNeedlessWrapperAroundAConnection(t *testing.T) {
	const (
		raw = "*faultnet.Conn"
		tls = "*tls.Conn *sock.TimedConn " + raw
	)
	beside := func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux {
		return share(t, net, host, withTLS(secure(ca.Issue(), ca)))
	}
	over := func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux {
		return secureMux(t, net, host, secure(ca.Issue(), ca))
	}
	for name, c := range map[string]struct {
		mux  func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) *layers.Mux
		key  layers.Key
		want string
	}{
		"plain, by byte":           {beside, layers.FirstByte(7), raw},
		"plain, without a prefix":  {beside, layers.Unprefixed(), "*sock.UnreadConn " + raw},
		"TLS beside it":            {beside, layers.ALPN("raft"), tls},
		"TLS under it, by ALPN":    {over, layers.ALPN("raft"), tls},
		"TLS under it, by byte":    {over, layers.FirstByte(7), tls},
		"TLS under it, unprefixed": {over, layers.Unprefixed(), "*sock.UnreadConn " + tls},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				layer := layerOf(t, c.mux(t, net, "there", ca), c.key)
				require.Equal(t, c.want, handedOver(t, layer, layerOf(t, c.mux(t, net, "here", ca), c.key)))
			})
		})
	}
	t.Run("TLS over it", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			security := newSecurity()
			secured := func(host string) *layers.TLS {
				layer, err := layers.NewTLS(layerOf(t, share(t, net, host), layers.FirstByte(7)), security)
				require.NoError(t, err)
				t.Cleanup(func() { _ = layer.Close() })
				return layer
			}
			require.Equal(t, tls, handedOver(t, secured("there"), secured("here")))
		})
	})
}

// handedOver returns what a connection is made of that a layer hands over.
func handedOver(t *testing.T, layer, dialler raftwire.StreamLayer) string {
	t.Helper()
	handed := make(chan net.Conn, 1)
	require.True(t, door.HandTo(layer, door.Taker{Take: func(v *door.Visit) { handed <- v.Conn }, Closed: func() {}}))
	conn, err := dialler.Dial("there", testTimeout)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "\x03")
	require.NoError(t, err)
	synctest.Wait()
	accepted := <-handed
	require.NoError(t, accepted.Close())
	_ = conn.Close()
	return madeOf(accepted)
}

// A layer that has one of ours embedded keeps its own Accept.
func TestHandover_GoesNotPastTheAcceptOfAWrapper(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		layer := hidden{secureLayer(t, net, "b", secure(ca.Issue(), ca))}
		defer func() { require.NoError(t, layer.Close()) }()
		require.False(t, door.HandTo(layer, door.Taker{}))
		require.True(t, door.HandTo(layer.TLS, door.Taker{Closed: func() {}}))
	})
}
