package layers_test

import (
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

// One host that opens thousands of connections a second and says nothing locks nobody
// out: it makes room itself. Peers have a round trip of 200 ms here.
func TestFlood_OfOneHostKeepsNoPeerOut(t *testing.T) {
	const (
		peers     = 20
		flood     = 7000 // connections a second
		roundTrip = 200 * time.Millisecond
	)
	for name, over := range map[string]func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer{
		"TLS": func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
			return secureLayer(t, net, host, secure(ca.Issue(), ca))
		},
		"a mux": func(t *testing.T, net *faultnet.Network, host string, _ *testca.Authority) raftwire.StreamLayer {
			return layerOf(t, share(t, net, host), layers.FirstByte(7))
		},
		"TLS beside a mux": func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
			return layerOf(t, share(t, net, host, withTLS(secure(ca.Issue(), ca))), layers.ALPN("raft"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				b := transport(t, withStream(over(t, net, "b", ca)), withTimeout(5*time.Second))
				serve(t, b, accept)
				net.Link("peer", "b").SetLatency(roundTrip / 2)
				net.Link("b", "peer").SetLatency(roundTrip / 2)
				peer := transport(t, withStream(over(t, net, "peer", ca)), withTimeout(5*time.Second), withPool(peers))
				results := make(chan error, peers)
				for range peers {
					go func() { results <- appendOnce(peer, "b") }()
				}
				var crowd []net_
				for range 1500 { // milliseconds
					for range flood / 1000 {
						conn, err := net.Host("crowd").Dial(t.Context(), "b")
						require.NoError(t, err)
						crowd = append(crowd, conn)
					}
					pause(time.Millisecond)
				}
				for range peers {
					require.NoError(t, <-results)
				}
				for _, conn := range crowd {
					_ = conn.Close()
				}
				synctest.Wait()
			})
		})
	}
}

// An IPv6 network of 64 bits is one host.
func TestFlood_OfOneNetworkIsThatOfOneHost(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		mux := share(t, net, "b", func(c *layers.MuxConfig) { c.MaxUnsorted, c.Logger = 3, hclog.NewNullLogger() })
		layerOf(t, mux, layers.FirstByte(7))
		slow := dialRaw(t, net, "10.0.0.1:1")
		synctest.Wait()
		for _, host := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1"} {
			dialRaw(t, net, host)
			synctest.Wait()
		}
		require.True(t, isOpen(slow))
		require.EqualValues(t, 2, mux.Refusals().TooManyConns)
	})
}
