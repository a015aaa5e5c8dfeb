package layers_test

import (
	"testing"
	"testing/synctest"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// carried is a layer for a transport, and what counts refusals under the transport.
type carried struct {
	raftwire.StreamLayer
	under interface{ Refusals() raftwire.Refusals }
}

var carriers = map[string]func(t *testing.T, net *faultnet.Network, host string, security layers.TLSConfig) carried{
	"TLS": func(t *testing.T, net *faultnet.Network, host string, security layers.TLSConfig) carried {
		layer := secureLayer(t, net, host, security)
		return carried{layer, layer}
	},
	"Mux": func(t *testing.T, net *faultnet.Network, host string, _ layers.TLSConfig) carried {
		mux := share(t, net, host)
		return carried{layerOf(t, mux, layers.FirstByte(7)), mux}
	},
	"Mux with TLS": func(t *testing.T, net *faultnet.Network, host string, security layers.TLSConfig) carried {
		mux := share(t, net, host, withTLS(security))
		return carried{layerOf(t, mux, layers.ALPN("raft")), mux}
	},
	"Mux over TLS": func(t *testing.T, net *faultnet.Network, host string, security layers.TLSConfig) carried {
		mux := secureMux(t, net, host, security)
		return carried{layerOf(t, mux, layers.FirstByte(7)), mux}
	},
}

// calls mean the node "b", which is at another address here.
func TestIdentity_RefusesOverEachLayer(t *testing.T) {
	silent := raftwire.Identity{}
	for name, c := range map[string]struct {
		sender, receiver raftwire.Identity
		want             error // nil: an error of the peer's
		refused          func(count uint64) raftwire.Refusals
	}{
		"wrong cluster": {
			raftwire.Identity{Cluster: "us", Node: "leader"}, raftwire.Identity{Cluster: "eu", Node: "b"}, raftwire.ErrWrongCluster,
			func(count uint64) raftwire.Refusals { return raftwire.Refusals{WrongCluster: count} },
		},
		"wrong node": {
			raftwire.Identity{Cluster: "eu", Node: "leader"}, raftwire.Identity{Cluster: "eu", Node: "c"}, raftwire.ErrWrongNode,
			func(count uint64) raftwire.Refusals { return raftwire.Refusals{WrongNode: count} },
		},
		"required of the sender": {
			silent, raftwire.Identity{Cluster: "eu", Node: "b", Require: true}, nil,
			func(count uint64) raftwire.Refusals { return raftwire.Refusals{NoIdentity: count} },
		},
		"required of the receiver": {
			raftwire.Identity{Cluster: "eu", Node: "leader", Require: true}, silent, raftwire.ErrNoIdentity,
			func(uint64) raftwire.Refusals { return raftwire.Refusals{} },
		},
	} {
		for carrier, over := range carriers {
			t.Run(name+"/"+carrier, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					security := newSecurity()
					here, there := over(t, net, "here", security), over(t, net, "there", security)
					sender, receiver := transport(t, withStream(here), as(c.sender)), transport(t, withStream(there), as(c.receiver))
					serve(t, receiver, func(rpc raftwire.RPC) {
						if c.receiver != silent {
							t.Errorf("the core got a %T", rpc.Command)
						}
						accept(rpc)
					})
					for kind, call := range calls {
						err := call(sender, "there")
						var remote *raftwire.RemoteError
						if c.want == nil {
							require.ErrorAs(t, err, &remote, kind)
							require.ErrorContains(t, err, `no identity: this is node "b" of cluster "eu"`, kind)
						} else {
							require.ErrorIs(t, err, c.want, kind)
						}
						synctest.Wait() // the next call is not to find the connection of this one
					}
					require.NoError(t, sender.Close())
					synctest.Wait()
					require.Equal(t, c.refused(uint64(len(calls))), receiver.Refusals())
					require.Zero(t, there.under.Refusals(), "counted twice")
				})
			})
		}
	}
}

// With an Identity on both sides, requests pass any layer.
func TestIdentity_LetsTheRightNodesTalkOverEachLayer(t *testing.T) {
	for carrier, over := range carriers {
		t.Run(carrier, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				security := newSecurity()
				here, there := over(t, net, "here", security), over(t, net, "there", security)
				sender := transport(t, withStream(here), as(raftwire.Identity{Cluster: "eu", Node: "leader", Require: true}))
				receiver := transport(t, withStream(there), as(raftwire.Identity{Cluster: "eu", Node: "b", Require: true}))
				serve(t, receiver, accept)
				for range 2 {
					for kind, call := range calls {
						require.NoError(t, call(sender, "there"), kind)
					}
				}
				require.Zero(t, receiver.Refusals())
			})
		})
	}
}

func as(identity raftwire.Identity) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Identity = identity }
}
