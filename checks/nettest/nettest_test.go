package nettest

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/raftwire/raftwire/faultnet"
)

// networks are networks on which a connection works, though not at its best.
var networks = map[string]func(n *faultnet.Network){
	"without faults":     func(*faultnet.Network) {},
	"with small buffers": func(n *faultnet.Network) { n.SetBuffer(8) }, // a case writes so much before it reads
	"in small pieces":    func(n *faultnet.Network) { n.Slice(3) },
	"slow": func(n *faultnet.Network) {
		n.Link("client", "server").SetLatency(time.Millisecond)
		n.Link("server", "client").SetJitter(time.Millisecond)
		n.Link("server", "client").SetBandwidth(100 << 20)
	},
}

func TestConnectionsKeepTheContractOfNetConn(t *testing.T) {
	for name, prepare := range networks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nettest.TestConn(t, func() (_, _ net.Conn, _ func(), err error) {
				n := faultnet.New(1)
				prepare(n)
				return pipe(t, n)
			})
		})
	}
}

// pipe returns the two ends of a connection, and what to do at the end.
func pipe(t *testing.T, n *faultnet.Network) (client, server net.Conn, stop func(), err error) {
	layer, err := n.Host("server").Listen()
	if err != nil {
		return nil, nil, nil, err
	}
	if client, err = n.Host("client").Dial(t.Context(), "server"); err != nil {
		return nil, nil, nil, err
	}
	if server, err = layer.Accept(); err != nil {
		return nil, nil, nil, err
	}
	return client, server, func() {
		_, _, _ = client.Close(), server.Close(), layer.Close() // some cases have closed them
		require.Zero(t, n.OpenConns())
	}, nil
}
