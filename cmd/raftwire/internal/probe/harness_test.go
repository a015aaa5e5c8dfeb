package probe

import (
	"bufio"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// Every test closes what it opened, and nothing may be left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a probe waits in tests where an answer comes, and brief where none
// does.
const (
	patience = 30 * time.Second
	brief    = 3 * time.Second
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// serve has each connection handled on a goroutine of its own, and awaits them.
func serve(t *testing.T, listener net.Listener, handle func(net.Conn)) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go func() {
				handle(conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
}

// transport returns one over a layer, whose core answers pre-votes with an error or
// term 7.
func transport(t *testing.T, layer raftwire.StreamLayer, answer error) *raftwire.NetworkTransport {
	t.Helper()
	return configured(t, layer, raftwire.NetworkTransportConfig{}, answer)
}

// configured is transport with what config has besides.
func configured(t *testing.T, layer raftwire.StreamLayer, config raftwire.NetworkTransportConfig, answer error) *raftwire.NetworkTransport {
	t.Helper()
	config.Stream, config.MaxPool, config.Timeout, config.Logger = layer, 3, patience, hclog.NewNullLogger()
	node := raftwire.NewNetworkTransportWithConfig(&config)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case rpc := <-node.Consumer():
				header := raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("node1"), Addr: []byte("10.0.0.1:8300")}
				rpc.Respond(&raftwire.RequestPreVoteResponse{RPCHeader: header, Term: 7}, answer)
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = node.Close()
		close(done)
		<-ended
	})
	return node
}

// mux returns a Mux that is closed after the transports over its layers.
func mux(t *testing.T, config layers.MuxConfig) *layers.Mux {
	t.Helper()
	config.Logger = hclog.NewNullLogger()
	m, err := layers.NewMux(config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// security returns a TLS configuration of a CA, and the CA's certificates.
func security(t *testing.T, ca *testca.Authority) layers.TLSConfig {
	t.Helper()
	files := testca.WriteFiles(t.TempDir(), ca.Issue(), ca)
	return layers.TLSConfig{
		CertFile: files.Cert(), KeyFile: files.Key(), CAFile: files.CA(),
		ServerName: testca.Name, ReloadInterval: -1, Logger: hclog.NewNullLogger(),
	}
}

// node is one of hashicorp/raft over its own transport.
type node struct {
	*raft.Raft
	store   *raft.InmemStore
	address raft.ServerAddress
}

func newNode(t *testing.T, bootstrapped bool) *node {
	t.Helper()
	network, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, patience, hclog.NewNullLogger())
	require.NoError(t, err)
	n := &node{store: raft.NewInmemStore(), address: network.LocalAddr()}
	config := raft.DefaultConfig()
	config.LocalID, config.Logger = "node1", hclog.NewNullLogger()
	n.Raft, err = raft.NewRaft(config, &raft.MockFSM{}, n.store, n.store, raft.NewInmemSnapshotStore(), network)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, n.Shutdown().Error())
		require.NoError(t, network.Close())
	})
	if bootstrapped {
		servers := []raft.Server{{ID: config.LocalID, Address: network.LocalAddr()}}
		require.NoError(t, n.BootstrapCluster(raft.Configuration{Servers: servers}).Error())
		require.True(t, <-n.LeaderCh())
		require.NoError(t, n.Barrier(patience).Error())
	}
	return n
}

// state is all that a probe must leave as it is.
func (n *node) state(t *testing.T) map[string]string {
	t.Helper()
	leader, id := n.LeaderWithID()
	state := map[string]string{"leader": string(leader), "leader ID": string(id), "state": n.State().String()}
	for _, key := range []string{"term", "last_log_index", "last_log_term", "commit_index", "latest_configuration"} {
		state[key] = n.Stats()[key]
	}
	for _, key := range []string{"CurrentTerm", "LastVoteTerm"} {
		value, _ := n.store.GetUint64([]byte(key))
		state[key] = strconv.FormatUint(value, 10)
	}
	candidate, _ := n.store.Get([]byte("LastVoteCand"))
	state["LastVoteCand"] = string(candidate)
	return state
}

// before17 handles a connection as hashicorp/raft before 1.7 does: it knows four kinds
// of request, and closes the connection on another.
func before17(conn net.Conn) {
	in := bufio.NewReader(conn)
	decoder := codec.NewDecoder(in, &codec.MsgpackHandle{})
	for {
		kind, err := in.ReadByte()
		if err != nil || kind >= kindRequestPreVote {
			return
		}
		var request raftwire.RequestVoteRequest
		if decoder.Decode(&request) != nil {
			return
		}
		panic("a whole request reached the core")
	}
}
