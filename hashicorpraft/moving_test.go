package hashicorpraft

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
)

// What docs/moving.md says of stream layers that applications have written
// themselves: they are used as they are, or replaced, one node at a time.

const (
	rpcRaft      = 1 // the byte of an application's protocol that means Raft
	raftProtocol = "raft_storage_v1"
)

// shape is a stream layer as an application has it, and what replaces it.
type shape struct {
	own         func(t *testing.T, ca *testca.Authority) raft.StreamLayer
	replacement func(t *testing.T, ca *testca.Authority) raft.StreamLayer
}

var shapes = map[string]shape{
	"one TCP port": {
		own: func(t *testing.T, _ *testca.Authority) raft.StreamLayer { return listen(t) },
		replacement: func(t *testing.T, _ *testca.Authority) raft.StreamLayer {
			return RaftStream(tcpLayer(t))
		},
	},
	"one TCP port, to be shared": {
		own: func(t *testing.T, _ *testca.Authority) raft.StreamLayer { return listen(t) },
		replacement: func(t *testing.T, _ *testca.Authority) raft.StreamLayer {
			return RaftStream(muxed(t, tcpLayer(t), layers.Unprefixed()))
		},
	},
	"connections handed over, as in Consul": {
		own: ownByByte,
		replacement: func(t *testing.T, _ *testca.Authority) raft.StreamLayer {
			return RaftStream(handedOver(t))
		},
	},
	"ALPN, as in Vault": {
		own: ownByALPN,
		replacement: func(t *testing.T, ca *testca.Authority) raft.StreamLayer {
			return RaftStream(muxed(t, secured(t, tcpLayer(t), ca), layers.ALPN(raftProtocol)))
		},
	},
	"a byte mux, as in rqlite": {
		own: ownByByte,
		replacement: func(t *testing.T, _ *testca.Authority) raft.StreamLayer {
			return RaftStream(muxed(t, tcpLayer(t), layers.FirstByte(rpcRaft)))
		},
	},
	"TLS": {
		own: ownOverTLS,
		replacement: func(t *testing.T, ca *testca.Authority) raft.StreamLayer {
			return RaftStream(secured(t, tcpLayer(t), ca))
		},
	},
}

// ownLayer is a layer as an application would write one: accepted and dialled
// make of a connection what it is for.
type ownLayer struct {
	net.Listener
	accepted, dialled func(net.Conn) (net.Conn, error)
}

func (l ownLayer) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.accepted(conn)
}

func (l ownLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	if err != nil {
		return nil, err
	}
	return l.dialled(conn)
}

func ownByByte(t *testing.T, _ *testca.Authority) raft.StreamLayer {
	return ownLayer{
		Listener: listen(t),
		accepted: func(conn net.Conn) (net.Conn, error) {
			_, err := io.ReadFull(conn, make([]byte, 1))
			return conn, err
		},
		dialled: func(conn net.Conn) (net.Conn, error) {
			_, err := conn.Write([]byte{rpcRaft})
			return conn, err
		},
	}
}

func ownByALPN(t *testing.T, ca *testca.Authority) raft.StreamLayer {
	return overTLS(t, ca, raftProtocol)
}

func ownOverTLS(t *testing.T, ca *testca.Authority) raft.StreamLayer { return overTLS(t, ca) }

func overTLS(t *testing.T, ca *testca.Authority, protocols ...string) raft.StreamLayer {
	config := &tls.Config{
		Certificates: []tls.Certificate{*ca.Issue()},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    testca.Pool(ca),
		RootCAs:      testca.Pool(ca),
		ServerName:   testca.Name,
		NextProtos:   protocols,
	}
	return ownLayer{
		Listener: listen(t),
		accepted: func(conn net.Conn) (net.Conn, error) { return tls.Server(conn, config), nil },
		dialled:  func(conn net.Conn) (net.Conn, error) { return tls.Client(conn, config), nil },
	}
}

// handedOver is a Handoff for a listener that reads the byte itself.
func handedOver(t *testing.T) raftwire.StreamLayer {
	listener := listen(t)
	t.Cleanup(func() { _ = listener.Close() })
	layer := layers.NewHandoff(listener.Addr(), func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", string(address))
		if err == nil {
			_, err = conn.Write([]byte{rpcRaft})
		}
		return conn, err
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 1))
			_ = layer.Handoff(conn)
		}
	}()
	return layer
}

// The steps of a move. What a node of any step says, one of any other step
// understands.
var steps = map[string]func(t *testing.T, s shape, ca *testca.Authority) closer{
	"before": func(t *testing.T, s shape, ca *testca.Authority) closer {
		return raft.NewNetworkTransportWithConfig(withStream(s.own(t, ca)))
	},
	"with the transport changed": func(t *testing.T, s shape, ca *testca.Authority) closer {
		return NewNetworkTransportWithConfig(withStream(s.own(t, ca)))
	},
	"with the layer changed": func(t *testing.T, s shape, ca *testca.Authority) closer {
		return raft.NewNetworkTransportWithConfig(withStream(s.replacement(t, ca)))
	},
	"with both changed": func(t *testing.T, s shape, ca *testca.Authority) closer {
		return NewNetworkTransportWithConfig(withStream(s.replacement(t, ca)))
	},
}

func TestANodeOfAnyStepOfAMoveTalksToAnyOther(t *testing.T) {
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			ca := testca.New()
			var nodes []closer
			for _, step := range steps {
				nodes = append(nodes, step(t, s, ca))
			}
			for _, from := range nodes {
				for _, to := range nodes {
					requireCall(t, from, to)
				}
			}
			closeAll(t, nodes...)
		})
	}
}

// TLS, or a mux, of raftwire goes over a layer that stays the application's.
func TestLayersOfRaftwireGoOverAnApplicationsOwn(t *testing.T) {
	ca := testca.New()
	over := func() closer {
		layer := muxed(t, secured(t, WireStream(ownByByte(t, ca)), ca), layers.FirstByte(7))
		return NewNetworkTransportWithConfig(withStream(RaftStream(layer)))
	}
	a, b := over(), over()
	requireCall(t, a, b)
	closeAll(t, a, b)
}
