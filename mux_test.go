package raftwire_test

import (
	"net"
	"testing"

	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

func layerOf(t testing.TB, mux *layers.Mux, keys ...layers.Key) *layers.Handoff {
	t.Helper()
	layer, err := mux.Layer(keys...)
	require.NoError(t, err)
	return layer
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}
