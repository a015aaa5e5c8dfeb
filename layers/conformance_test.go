package layers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/transporttest"
	"github.com/stretchr/testify/require"
)

func newStreamTransports(t testing.TB, network *faultnet.Network, n int, o transporttest.Options, change func(*raftwire.NetworkTransportConfig)) []raftwire.Transport {
	var all []raftwire.Transport
	for i := range n {
		layer, err := network.Host(fmt.Sprintf("host-%d", i)).Listen()
		require.NoError(t, err)
		config := newConfig(o)
		config.Stream = layer
		change(config)
		all = append(all, raftwire.NewNetworkTransportWithConfig(config))
	}
	return all
}

// slowStreamTransports returns a Maker's NewSlow. Without a pool nothing could be
// kept for the next call.
func slowStreamTransports(change func(*raftwire.NetworkTransportConfig)) func(testing.TB, int, transporttest.Options, time.Duration) []raftwire.Transport {
	return func(t testing.TB, n int, o transporttest.Options, connecting time.Duration) []raftwire.Transport {
		return newStreamTransports(t, faultnet.New(1), n, o, func(config *raftwire.NetworkTransportConfig) {
			config.Stream = &dialer{Layer: config.Stream.(*faultnet.Layer), Takes: connecting}
			change(config)
			config.MaxPool = max(1, config.MaxPool)
		})
	}
}

// requireNothingLeft checks that closed transports have closed everything.
func requireNothingLeft(t testing.TB, network *faultnet.Network) {
	require.Zero(t, network.OpenConns(), "connections were left open")
	require.Zero(t, network.Bytes())
}

func TestTLSTransportConforms(t *testing.T) {
	for name, slice := range map[string]int{"as it comes": 0, "in small pieces": 1000} {
		t.Run(name, func(t *testing.T) {
			newAs := func(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
				network := faultnet.New(1)
				network.Slice(slice)
				t.Cleanup(func() { requireNothingLeft(t, network) })
				return newTLSTransports(t, network, o, identities)
			}
			transporttest.Run(t, transporttest.Maker{New: withoutIdentity(newAs), NewAs: newAs, NewSlow: slowTLSTransports, FakeTime: true})
		})
	}
}

// withoutIdentity returns a Maker's New for its NewAs.
func withoutIdentity(newAs func(testing.TB, transporttest.Options, ...raftwire.Identity) []raftwire.Transport) func(testing.TB, int, transporttest.Options) []raftwire.Transport {
	return func(t testing.TB, n int, o transporttest.Options) []raftwire.Transport {
		return newAs(t, o, make([]raftwire.Identity, n)...)
	}
}

func newTLSTransports(t testing.TB, network *faultnet.Network, o transporttest.Options, identities []raftwire.Identity) []raftwire.Transport {
	ca := testca.New()
	var all []raftwire.Transport
	for i, identity := range identities {
		config := newConfig(o)
		config.Identity = identity
		config.Stream = secureLayer(t, network, fmt.Sprintf("host-%d", i), secure(ca.Issue(), ca))
		all = append(all, raftwire.NewNetworkTransportWithConfig(config))
	}
	return all
}

func slowTLSTransports(t testing.TB, n int, o transporttest.Options, connecting time.Duration) []raftwire.Transport {
	ca := testca.New()
	return slowStreamTransports(func(config *raftwire.NetworkTransportConfig) {
		secured, err := layers.NewTLS(config.Stream, secure(ca.Issue(), ca))
		require.NoError(t, err)
		config.Stream = secured
	})(t, n, o, connecting)
}

func TestTLSOverTCPConforms(t *testing.T) {
	t.Parallel() // waits for real time
	newAs := func(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
		ca := testca.New()
		var all []raftwire.Transport
		for _, identity := range identities {
			config := newConfig(o)
			config.Identity = identity
			transport, err := layers.NewTLSTransport("127.0.0.1:0", nil, secure(ca.Issue(), ca), config)
			require.NoError(t, err)
			all = append(all, transport)
		}
		return all
	}
	transporttest.Run(t, transporttest.Maker{New: withoutIdentity(newAs), NewAs: newAs})
}

func newConfig(o transporttest.Options) *raftwire.NetworkTransportConfig {
	return &raftwire.NetworkTransportConfig{
		Logger:          hclog.NewNullLogger(),
		MaxPool:         3,
		MaxRPCsInFlight: o.Window,
		Timeout:         o.Timeout,
	}
}

// A transport over a mux is as good as one with a port of its own, also with
// TLS in between, by the mux on some hosts and under it on others.
func TestMuxedTransportConforms(t *testing.T) {
	newAs := func(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
		network := faultnet.New(1)
		network.Slice(1000)
		t.Cleanup(func() { requireNothingLeft(t, network) })
		ca := testca.New()
		var all []raftwire.Transport
		for i, identity := range identities {
			host := string(rune('a' + i))
			config := newConfig(o)
			config.Identity = identity
			if i%2 == 0 {
				config.Stream = layerOf(t, share(t, network, host, withTLS(secure(ca.Issue(), ca))), layers.ALPN("raft"))
			} else {
				config.Stream = layerOf(t, secureMux(t, network, host, secure(ca.Issue(), ca)), layers.ALPN("raft"))
			}
			all = append(all, raftwire.NewNetworkTransportWithConfig(config))
		}
		return all
	}
	transporttest.Run(t, transporttest.Maker{New: withoutIdentity(newAs), NewAs: newAs, FakeTime: true})
}
