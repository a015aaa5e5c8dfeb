package layers_test

import (
	"net"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Any listener makes a layer. One of TCP or of a Unix socket can dial by itself, and so
// can a stream layer.
func TestFromListener_DialsAsItListens(t *testing.T) {
	unix, err := net.Listen("unix", unixSocket(t))
	require.NoError(t, err)
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "unix:" + unixSocket(t)})
	require.NoError(t, err)
	for _, listener := range []net.Listener{listenLocal(t), unix, layer} {
		trans := transport(t, withStream(layers.FromListener(listener, nil)))
		serve(t, trans, accept)
		for kind, call := range calls {
			require.NoError(t, call(trans, trans.LocalAddr()), kind)
		}
	}
}

func TestMux_DialsAsItListens(t *testing.T) {
	unix, err := net.Listen("unix", unixSocket(t))
	require.NoError(t, err)
	for _, listener := range []net.Listener{listenLocal(t), unix} {
		mux, err := layers.NewMux(layers.MuxConfig{Listener: listener})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, mux.Close()) })
		trans := group(t, mux, layers.FirstByte(7))
		serve(t, trans, accept)
		require.NoError(t, appendOnce(trans, trans.LocalAddr()))
	}
}

func TestFromListener_SaysWhatItLacks(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		port, err := network.Host("b").Listen()
		require.NoError(t, err)
		b := transport(t, withStream(layers.FromListener(struct{ net.Listener }{port}, nil)))
		serve(t, b, accept)
		require.ErrorContains(t, appendOnce(b, "b"), "this layer cannot dial: give FromListener a DialFunc")

		other, err := network.Host("a").Listen()
		require.NoError(t, err)
		a := transport(t, withStream(layers.FromListener(struct{ net.Listener }{other}, other.DialContext)))
		require.NoError(t, appendOnce(a, "b"))
	})
	require.Panics(t, func() { layers.FromListener((*net.TCPListener)(nil), nil) })
}
