package raftwire_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/transporttest"
	"github.com/stretchr/testify/require"
)

func TestInmemTransport_Conforms(t *testing.T) {
	transporttest.Run(t, transporttest.Maker{
		New:      newInmemTransports,
		NewAs:    inmemTransportsAs(newInmemTransports),
		Without:  transporttest.Windows,
		FakeTime: true,
	})
}

func TestInmemNetwork_Conforms(t *testing.T) {
	transporttest.Run(t, transporttest.Maker{
		New: func(_ testing.TB, n int, o transporttest.Options) []raftwire.Transport {
			return newNetworkOfInmemTransports(n, o, 0)
		},
		NewAs: inmemTransportsAs(func(_ testing.TB, n int, o transporttest.Options) []raftwire.Transport {
			return newNetworkOfInmemTransports(n, o, time.Millisecond)
		}),
		Without:  transporttest.Windows,
		FakeTime: true,
	})
}

func TestInmemNetwork_ConformsWithLatency(t *testing.T) {
	transporttest.Run(t, transporttest.Maker{
		New: func(_ testing.TB, n int, o transporttest.Options) []raftwire.Transport {
			return newNetworkOfInmemTransports(n, o, time.Millisecond)
		},
		Without:  transporttest.Windows,
		Differs:  map[string]string{"without a timeout a call waits for as long as it takes": "travelling takes time as well"},
		FakeTime: true,
	})
}

// The network transport conforms with every pool, window and network, also with one
// that delivers a few bytes at a time.
func TestNetworkTransport_Conforms(t *testing.T) {
	variants := []struct {
		name   string
		slice  int
		change func(config *raftwire.NetworkTransportConfig)
	}{
		{"with a pool", 0, func(c *raftwire.NetworkTransportConfig) { c.MaxPool = 3 }},
		{"without a pool", 0, func(c *raftwire.NetworkTransportConfig) { c.MaxPool = 0 }},
		{"one request at a time", 0, func(c *raftwire.NetworkTransportConfig) { c.MaxDispatchAhead = 1 }},
		{"in small pieces", 1000, func(c *raftwire.NetworkTransportConfig) { c.MsgpackUseNewTimeFormat = true }},
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			transporttest.Run(t, transporttest.Maker{
				New: func(t testing.TB, n int, o transporttest.Options) []raftwire.Transport {
					network := faultnet.New(1)
					network.Slice(v.slice)
					t.Cleanup(func() { requireNothingLeft(t, network) })
					return newStreamTransports(t, network, n, o, v.change)
				},
				NewAs:    streamTransportsAs(v.change),
				NewSlow:  slowStreamTransports(v.change),
				FakeTime: true,
			})
		})
	}
}

func TestTCPTransport_Conforms(t *testing.T) {
	t.Parallel() // waits for real time
	transporttest.Run(t, transporttest.Maker{New: newTCPTransports, NewAs: newTCPTransportsAs})
}

func newNetworkOfInmemTransports(n int, o transporttest.Options, latency time.Duration) (all []raftwire.Transport) {
	config := raftwire.InmemNetworkConfig{Timeout: o.Timeout, Latency: latency, Jitter: latency}
	if o.Timeout == 0 {
		config.Timeout = -1
	}
	network := raftwire.NewInmemNetwork(config)
	for range n {
		all = append(all, network.Add(""))
	}
	return all
}

// inmemTransportsAs returns a Maker's NewAs.
func inmemTransportsAs(make func(testing.TB, int, transporttest.Options) []raftwire.Transport) func(testing.TB, transporttest.Options, ...raftwire.Identity) []raftwire.Transport {
	return func(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
		all := make(t, len(identities), o)
		for i, identity := range identities {
			all[i].(*raftwire.InmemTransport).SetIdentity(identity)
		}
		return all
	}
}

func newInmemTransports(_ testing.TB, n int, o transporttest.Options) []raftwire.Transport {
	var all []raftwire.Transport
	for range n {
		_, transport := raftwire.NewInmemTransportWithTimeout("", o.Timeout)
		all = append(all, transport)
	}
	for _, one := range all {
		for _, other := range all {
			one.(raftwire.WithPeers).Connect(other.LocalAddr(), other)
		}
	}
	return all
}

func newStreamTransports(t testing.TB, network *faultnet.Network, n int, o transporttest.Options, change func(*raftwire.NetworkTransportConfig)) []raftwire.Transport {
	var all []raftwire.Transport
	for i := range n {
		layer := hostLayer(t, network, fmt.Sprintf("host-%d", i))
		config := newConfig(o)
		config.Stream = layer
		change(config)
		all = append(all, raftwire.NewNetworkTransportWithConfig(config))
	}
	return all
}

// streamTransportsAs returns a Maker's NewAs.
func streamTransportsAs(change func(*raftwire.NetworkTransportConfig)) func(testing.TB, transporttest.Options, ...raftwire.Identity) []raftwire.Transport {
	return func(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
		left := identities
		return newStreamTransports(t, faultnet.New(1), len(identities), o, func(config *raftwire.NetworkTransportConfig) {
			change(config)
			config.Identity, left = left[0], left[1:]
		})
	}
}

// slowStreamTransports returns a Maker's NewSlow. Without a pool no connection could
// be kept for the next call.
func slowStreamTransports(change func(*raftwire.NetworkTransportConfig)) func(testing.TB, int, transporttest.Options, time.Duration) []raftwire.Transport {
	return func(t testing.TB, n int, o transporttest.Options, connecting time.Duration) []raftwire.Transport {
		return newStreamTransports(t, faultnet.New(1), n, o, func(config *raftwire.NetworkTransportConfig) {
			config.Stream = &dialer{Layer: config.Stream.(*faultnet.Layer), Takes: connecting}
			change(config)
			config.MaxPool = max(1, config.MaxPool)
		})
	}
}

// requireNothingLeft checks that closed transports have closed all connections.
func requireNothingLeft(t testing.TB, network *faultnet.Network) {
	require.Zero(t, network.OpenConns(), "connections were left open")
	require.Zero(t, network.Bytes())
}

func newTCPTransports(t testing.TB, n int, o transporttest.Options) []raftwire.Transport {
	return newTCPTransportsAs(t, o, make([]raftwire.Identity, n)...)
}

func newTCPTransportsAs(t testing.TB, o transporttest.Options, identities ...raftwire.Identity) []raftwire.Transport {
	var all []raftwire.Transport
	for _, identity := range identities {
		config := newConfig(o)
		config.Identity = identity
		transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
		require.NoError(t, err)
		all = append(all, transport)
	}
	return all
}

func newConfig(o transporttest.Options) *raftwire.NetworkTransportConfig {
	return &raftwire.NetworkTransportConfig{
		Logger:          hclog.NewNullLogger(),
		MaxPool:         3,
		MaxRPCsInFlight: o.Window,
		Timeout:         o.Timeout,
	}
}
