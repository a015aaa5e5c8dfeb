package layers_test

import (
	"net"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Any listener makes a layer. One of TCP or of a Unix socket can dial by itself.
func TestFromListener_DialsAsItListens(t *testing.T) {
	unix, err := net.Listen("unix", unixSocket(t))
	require.NoError(t, err)
	for target, listener := range map[string]net.Listener{"": listenLocal(t), "unix:": unix} {
		trans := transport(t, withStream(layers.FromListener(listener, nil)))
		serve(t, trans, accept)
		address := raftwire.ServerAddress(target + listener.Addr().String())
		for kind, call := range calls {
			require.NoError(t, call(trans, address), kind)
		}
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
