package hashicorpraft

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

var (
	_ closer                 = (*NetworkTransport)(nil)
	_ closer                 = (*InmemTransport)(nil)
	_ raft.LoopbackTransport = (*InmemTransport)(nil)
)

// requireCall sends one request from a transport to another.
func requireCall(t *testing.T, from, to raft.Transport) {
	t.Helper()
	defer serve(to, func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil) })()
	resp := new(raft.AppendEntriesResponse)
	require.NoError(t, from.AppendEntries("id", to.LocalAddr(), heartbeat(), resp))
	require.True(t, resp.Success)
}

func TestEveryConstructorMakesATransport(t *testing.T) {
	logger := hclog.NewNullLogger()
	for name, construct := range map[string]func() (*NetworkTransport, error){
		"TCP": func() (*NetworkTransport, error) {
			return NewTCPTransport("127.0.0.1:0", nil, 1, rpcTimeout, io.Discard)
		},
		"TCP with logger": func() (*NetworkTransport, error) {
			return NewTCPTransportWithLogger("127.0.0.1:0", nil, 1, rpcTimeout, logger)
		},
		"TCP with config": func() (*NetworkTransport, error) {
			return NewTCPTransportWithConfig("127.0.0.1:0", nil, networkConfig())
		},
		"TCP with nil config": func() (*NetworkTransport, error) {
			return NewTCPTransportWithConfig("127.0.0.1:0", nil, nil)
		},
		"stream": func() (*NetworkTransport, error) {
			return NewNetworkTransport(listen(t), 1, rpcTimeout, io.Discard), nil
		},
		"stream with logger": func() (*NetworkTransport, error) {
			return NewNetworkTransportWithLogger(listen(t), 1, rpcTimeout, logger), nil
		},
		"stream with config": func() (*NetworkTransport, error) {
			config := networkConfig()
			config.Stream = listen(t)
			return NewNetworkTransportWithConfig(config), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, err := construct()
			require.NoError(t, err)
			defer from.Close()
			to, err := construct()
			require.NoError(t, err)
			defer to.Close()
			requireCall(t, from, to)
			require.Equal(t, raft.DefaultTimeoutScale, from.TimeoutScale)
		})
	}
}

// listen returns a stream layer as an application would write one for
// hashicorp/raft.
func listen(t *testing.T) raft.StreamLayer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return tcpStream{listener}
}

func TestRefusalsAreCounted(t *testing.T) {
	transport, err := NewTCPTransport("127.0.0.1:0", nil, 1, rpcTimeout, io.Discard)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", string(transport.LocalAddr()))
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET /")
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, transport.Close())
	require.Equal(t, raftwire.Refusals{Foreign: 1}, transport.Refusals())
}

// nil is what it is for raftwire: the zero value where there is one.
func TestNilIsNoRiddle(t *testing.T) {
	require.Equal(t, new(raftwire.NetworkTransportConfig), WireConfig(nil))
	shut := NewNetworkTransportWithConfig(nil)
	require.True(t, shut.IsShutdown())
	require.NoError(t, shut.Close())
	secure, err := NewTLSTransport("127.0.0.1:0", nil, security(t, testca.New()), nil)
	require.NoError(t, err)
	require.NoError(t, secure.Close())
	for name, wrap := range map[string]func(){
		"Wrap":        func() { Wrap(nil) },
		"WrapNetwork": func() { WrapNetwork(nil) },
		"WrapInmem":   func() { WrapInmem(nil) },
	} {
		require.PanicsWithValue(t, "hashicorpraft: the transport to wrap is nil: look at the error of its constructor", wrap, name)
	}
}

// A transport that was not started leaves nobody to wait for it.
func TestARefusedConfigurationClosesItsStream(t *testing.T) {
	stream := listen(t)
	shut := NewNetworkTransport(stream, -1, rpcTimeout, io.Discard)
	require.True(t, shut.IsShutdown())
	_, err := net.Dial("tcp", stream.Addr().String())
	require.ErrorIs(t, err, errno.Refused)
	require.NoError(t, shut.Close())
}

func TestConstructorsReportWhatHashicorpRaftReports(t *testing.T) {
	_, err := NewTCPTransport("0.0.0.0:0", nil, 1, rpcTimeout, io.Discard)
	require.ErrorContains(t, err, "local bind address is not advertisable")
	_, err = NewTCPTransportWithConfig("127.0.0.1:0", &net.UnixAddr{}, networkConfig())
	require.ErrorContains(t, err, "local address is not a TCP address")
}

// One configuration may serve several transports, and what the constructors
// put there can be used with either package.
func TestConfigCanBeUsedAgain(t *testing.T) {
	config := &raft.NetworkTransportConfig{MaxPool: 1, Timeout: rpcTimeout}
	first, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	require.NotNil(t, config.Logger)
	require.Equal(t, string(first.LocalAddr()), config.Stream.Addr().String())
	second, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	require.NotEqual(t, first.LocalAddr(), second.LocalAddr())
	requireCall(t, first, second)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
}

// provider knows the address of one server.
type provider struct {
	id   raft.ServerID
	addr raft.ServerAddress
}

func (p provider) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if id != p.id {
		return "", errors.New("unknown server")
	}
	return p.addr, nil
}

func TestAddressProviderIsAsked(t *testing.T) {
	to := ours(t, networkConfig())
	defer to.Close()
	config := networkConfig()
	config.ServerAddressProvider = provider{"known", to.LocalAddr()}
	from := ours(t, config)
	defer from.Close()
	defer serve(to, func(rpc raft.RPC) { rpc.Respond(nil, nil) })()
	require.NoError(t, from.AppendEntries("known", "nowhere:1", heartbeat(), new(raft.AppendEntriesResponse)))
	require.Equal(t, to.LocalAddr(), from.DecodePeer(from.EncodePeer("known", "nowhere:1")))
	require.Equal(t, raft.ServerAddress("there:1"), from.DecodePeer(from.EncodePeer("unknown", "there:1")))
}

func TestPipeliningCanBeOff(t *testing.T) {
	config := networkConfig()
	config.MaxRPCsInFlight = 1
	transport := ours(t, config)
	defer transport.Close()
	_, err := transport.AppendEntriesPipeline("id", transport.LocalAddr())
	require.True(t, err == raft.ErrPipelineReplicationNotSupported, err)
}

func TestTimeoutScaleIsReadWithEverySnapshot(t *testing.T) {
	from, to := ours(t, networkConfig()).(*NetworkTransport), ours(t, networkConfig())
	defer from.Close()
	defer to.Close()
	defer serve(to, func(rpc raft.RPC) {
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(nil, nil)
	})()
	for _, scale := range []int{1 << 20, 1 << 10, 0} {
		from.TimeoutScale = scale
		require.NoError(t, from.InstallSnapshot("id", to.LocalAddr(), &raft.InstallSnapshotRequest{Size: 3},
			new(raft.InstallSnapshotResponse), bytes.NewReader(make([]byte, 3))))
		require.Equal(t, scale, from.Unwrap().(*raftwire.NetworkTransport).TimeoutScale)
	}
}

func TestCloseStreamsLeavesTheTransportAtWork(t *testing.T) {
	from, to := ours(t, networkConfig()).(*NetworkTransport), ours(t, networkConfig())
	defer to.Close()
	requireCall(t, from, to)
	from.CloseStreams()
	requireCall(t, from, to)
	require.False(t, from.IsShutdown())
	require.NoError(t, from.Close())
	require.True(t, from.IsShutdown())
}

// A transport listens before it can be wrapped. What comes meanwhile reaches the
// core all the same, and what comes later on the same connection.
func TestARequestThatCameBeforeTheWrapperIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New(1)
		over := func(host string) *raftwire.NetworkTransport {
			layer, err := network.Host(host).Listen()
			require.NoError(t, err)
			return raftwire.NewNetworkTransport(layer, 1, rpcTimeout, io.Discard)
		}
		from, inner := WrapNetwork(over("a")), over("b")
		defer from.Close()
		sent := make(chan error)
		call := func() {
			sent <- from.AppendEntries("id", raft.ServerAddress(inner.LocalAddr()), heartbeat(), new(raft.AppendEntriesResponse))
		}
		go call()
		synctest.Wait()
		to := WrapNetwork(inner)
		defer to.Close()
		defer serve(to, func(rpc raft.RPC) { rpc.Respond(new(raft.AppendEntriesResponse), nil) })()
		require.NoError(t, <-sent)
		go call()
		require.NoError(t, <-sent)
	})
}

// tcpStream is a stream layer of hashicorp/raft's type.
type tcpStream struct{ net.Listener }

func (s tcpStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// Nothing of the adapter's own is needed while raftwire's transports are at work.
func TestTheSeamIsUsed(t *testing.T) {
	next := inMemory(t)
	to := next()
	defer to.Close()
	for _, from := range []closer{next(), ours(t, networkConfig())} {
		target := to.LocalAddr()
		if network, ok := from.(*NetworkTransport); ok {
			target = from.LocalAddr()
			network.pump.stop()
			requireCall(t, network, network)
		}
		opened, err := from.AppendEntriesPipeline("id", target)
		require.NoError(t, err)
		require.IsType(t, new(pipeline), opened)
		require.NoError(t, opened.Close())
		require.NoError(t, from.Close())
	}
	require.Nil(t, to.(*InmemTransport).pump)
}

// ClosePeer reaches the transport that is wrapped.
func TestClosePeer_EndsACall(t *testing.T) {
	config := networkConfig()
	config.Timeout = time.Minute
	from, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	defer from.Close()
	to, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, networkConfig())
	require.NoError(t, err)
	defer to.Close()
	result := make(chan error, 1)
	go func() {
		result <- from.RequestVote("b", to.LocalAddr(), new(raft.RequestVoteRequest), new(raft.RequestVoteResponse))
	}()
	<-to.Consumer()
	from.ClosePeer(to.LocalAddr())
	require.ErrorIs(t, <-result, raftwire.ErrClosePeer)
}
