package layers_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// A peer that has shown a certificate or a key may open a connection, and use it as
// late as it likes; nor is it the first to make room.
func TestFirstByteTimeout_SparesPeersThatHaveIdentifiedThemselves(t *testing.T) {
	for name, over := range map[string]func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer{
		"TLS": func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
			return secureLayer(t, net, host, secure(ca.Issue(), ca))
		},
		"a mux by byte": func(t *testing.T, net *faultnet.Network, host string, _ *testca.Authority) raftwire.StreamLayer {
			return layerOf(t, share(t, net, host), layers.FirstByte(7))
		},
		"a mux by ALPN": func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
			return layerOf(t, share(t, net, host, withTLS(secure(ca.Issue(), ca))), layers.ALPN("raft"))
		},
		"TLS of an application": func(t *testing.T, net *faultnet.Network, host string, ca *testca.Authority) raftwire.StreamLayer {
			layer, err := net.Host(host).Listen()
			require.NoError(t, err)
			return ownTLS{layer, mutual(ca, "node")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				a := transport(t, withStream(over(t, net, "a", ca)))
				b := transport(t, withStream(over(t, net, "b", ca)), withLimits(3, -1))
				serve(t, b, accept)
				p := openPipeline(t, a, "b")
				synctest.Wait()
				pause(24 * time.Hour)
				for range 10 {
					dialRaw(t, net, "stranger")
				}
				synctest.Wait()
				require.NoError(t, appendTo(p))
				require.Zero(t, b.Refusals().Silent)
			})
		})
	}
}
