package hashicorpraft

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

func TestStreamsGoToAndFro(t *testing.T) {
	config := networkConfig()
	transport, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	require.NoError(t, err)
	defer transport.Close()
	require.IsType(t, new(raftwire.TCPStreamLayer), WireStream(config.Stream), "wrapped twice")
	conn, err := config.Stream.Dial(transport.LocalAddr(), rpcTimeout)
	require.NoError(t, err)
	require.NoError(t, conn.Close())

	for _, own := range []raft.StreamLayer{tcpStream{}, contextStream{}} {
		require.Equal(t, own, RaftStream(WireStream(own)))
	}
	require.Nil(t, WireStream(nil))
	require.Nil(t, RaftStream(nil))
}

// A nil pointer in an interface is what a constructor returns beside an error.
func TestNilPointers_AreTakenForNil(t *testing.T) {
	require.Nil(t, WireStream((*ownStream)(nil)))
	require.Nil(t, RaftStream((*raftwire.TCPStreamLayer)(nil)))
	require.Panics(t, func() { Wrap((*raftwire.NetworkTransport)(nil)) })
	require.Nil(t, wireProviderOf((*provider)(nil)))
	transport := NewNetworkTransport((*ownStream)(nil), 1, time.Second, nil)
	require.ErrorContains(t, transport.AppendEntries("id", "there:1", heartbeat(), new(raft.AppendEntriesResponse)), "Stream is nil")
	require.NoError(t, transport.Close())
}

// ownStream is a stream layer of an application's.
type ownStream struct{ net.Listener }

func (*ownStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return nil, nil }

// A layer of an application's that dials nothing, without an error, is an error.
func TestDial_TakesNoConnectionForAnError(t *testing.T) {
	stream := &ownStream{listen(t).(tcpStream).Listener}
	transport := NewNetworkTransport(stream, 1, time.Second, nil)
	require.ErrorContains(t, transport.AppendEntries("id", "there:1", heartbeat(), new(raft.AppendEntriesResponse)), "neither a connection nor an error")
	require.NoError(t, transport.Close())
}

// streams are layers of raftwire, in all the ways in which they combine.
var streams = map[string]func(t *testing.T, ca *testca.Authority) raftwire.StreamLayer{
	"TCP": func(t *testing.T, _ *testca.Authority) raftwire.StreamLayer { return tcpLayer(t) },
	"TLS": func(t *testing.T, ca *testca.Authority) raftwire.StreamLayer { return secured(t, tcpLayer(t), ca) },
	"a mux's, by byte": func(t *testing.T, _ *testca.Authority) raftwire.StreamLayer {
		return muxed(t, tcpLayer(t), layers.FirstByte(7))
	},
	"a mux's, unprefixed": func(t *testing.T, _ *testca.Authority) raftwire.StreamLayer {
		return muxed(t, tcpLayer(t), layers.Unprefixed())
	},
	"a mux's over TLS": func(t *testing.T, ca *testca.Authority) raftwire.StreamLayer {
		return muxed(t, secured(t, tcpLayer(t), ca), layers.ALPN("raft"))
	},
	"TLS over a mux's": func(t *testing.T, ca *testca.Authority) raftwire.StreamLayer {
		return secured(t, muxed(t, tcpLayer(t), layers.FirstByte(7)), ca)
	},
	"connections handed in": func(t *testing.T, _ *testca.Authority) raftwire.StreamLayer { return handedOver(t) },
}

func tcpLayer(t *testing.T) raftwire.StreamLayer {
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	require.NoError(t, err)
	return layer
}

func secured(t *testing.T, inner raftwire.StreamLayer, ca *testca.Authority) raftwire.StreamLayer {
	layer, err := layers.NewTLS(inner, security(t, ca))
	require.NoError(t, err)
	return layer
}

func security(t *testing.T, ca *testca.Authority) layers.TLSConfig {
	files := testca.WriteFiles(t.TempDir(), ca.Issue(), ca)
	return layers.TLSConfig{
		CertFile: files.Cert(), KeyFile: files.Key(), CAFile: files.CA(),
		ServerName: testca.Name, Logger: hclog.NewNullLogger(),
	}
}

func muxed(t *testing.T, inner raftwire.StreamLayer, key layers.Key) raftwire.StreamLayer {
	mux, err := layers.NewMux(layers.MuxConfig{Listener: inner, Logger: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, mux.Close()) })
	layer, err := mux.Layer(key)
	require.NoError(t, err)
	return layer
}

// Stats tell when certificates expire, also those of an application's own layer.
func TestStats_TellWhenCertificatesExpire(t *testing.T) {
	ca := testca.New()
	ours, err := NewTLSTransport("127.0.0.1:0", nil, security(t, ca), networkConfig())
	require.NoError(t, err)
	defer ours.Close()
	require.Equal(t, ca.Certificate.NotAfter, ours.Stats().CAExpires)
	require.WithinRange(t, ours.Stats().CertificateExpires, time.Now(), ca.Certificate.NotAfter)

	stream := certifiedStream{contextStream{tcpStream: listen(t).(tcpStream)}}
	theirs := NewNetworkTransport(stream, 1, time.Second, nil)
	defer theirs.Close()
	require.Equal(t, time.Unix(1, 0), theirs.Stats().CertificateExpires)
	require.Equal(t, time.Unix(2, 0), theirs.Stats().CAExpires)

	plain := NewNetworkTransport(listen(t), 1, time.Second, nil)
	defer plain.Close()
	require.Zero(t, plain.Stats().CertificateExpires)
}

// certifiedStream is a stream layer of an application's with TLS of its own.
type certifiedStream struct{ contextStream }

func (certifiedStream) Expires() (certificate, ca time.Time) { return time.Unix(1, 0), time.Unix(2, 0) }

// Nodes of a cluster whose transports differ may have the layer under them in
// common, whatever that is.
func TestEitherTransportRunsOverEveryLayer(t *testing.T) {
	kinds := map[string]func(raft.StreamLayer) closer{
		"ours":   func(s raft.StreamLayer) closer { return NewNetworkTransportWithConfig(withStream(s)) },
		"theirs": func(s raft.StreamLayer) closer { return raft.NewNetworkTransportWithConfig(withStream(s)) },
	}
	for name, layer := range streams {
		for from, makeFrom := range kinds {
			for to, makeTo := range kinds {
				t.Run(fmt.Sprintf("%s, %s to %s", name, from, to), func(t *testing.T) {
					ca := testca.New()
					a, b := makeFrom(RaftStream(layer(t, ca))), makeTo(RaftStream(layer(t, ca)))
					requireCall(t, a, b)
					closeAll(t, a, b)
				})
			}
		}
	}
}

func withStream(stream raft.StreamLayer) *raft.NetworkTransportConfig {
	config := networkConfig()
	config.Stream = stream
	return config
}

// closeAll closes transports of either kind, with the connections that a
// *raft.NetworkTransport leaves open.
func closeAll(t *testing.T, transports ...closer) {
	t.Helper()
	for _, transport := range transports {
		require.NoError(t, transport.Close())
		transport.(interface{ CloseStreams() }).CloseStreams()
	}
}

func TestTLSTransport(t *testing.T) {
	ca := testca.New()
	config := networkConfig()
	config.Logger = nil
	a, err := NewTLSTransport("127.0.0.1:0", nil, security(t, ca), config)
	require.NoError(t, err)
	require.NotNil(t, config.Logger)
	require.Equal(t, string(a.LocalAddr()), config.Stream.Addr().String())
	require.NoError(t, a.Reload())

	peer := networkConfig()
	peer.Stream = RaftStream(secured(t, tcpLayer(t), ca))
	b := raft.NewNetworkTransportWithConfig(peer)
	requireCall(t, a, b)
	requireCall(t, b, a)
	plain, err := NewTCPTransportWithConfig("127.0.0.1:0", nil, networkConfig())
	require.NoError(t, err)
	require.Error(t, plain.AppendEntries("id", a.LocalAddr(), heartbeat(), new(raft.AppendEntriesResponse)))
	require.ErrorContains(t, plain.Reload(), "call Reload on its layer")
	closeAll(t, a, b, plain)
	require.ErrorIs(t, a.Reload(), net.ErrClosed)

	_, err = NewTLSTransport("127.0.0.1:0", nil, layers.TLSConfig{}, networkConfig())
	require.ErrorContains(t, err, "TLSConfig.CAFile is empty")
}

// contextStream is a stream layer of an application's whose dials end with a
// context, and only with that.
type contextStream struct {
	tcpStream
	dialling, ended chan struct{}
}

func (s contextStream) DialContext(ctx context.Context, _ raft.ServerAddress) (net.Conn, error) {
	close(s.dialling)
	<-ctx.Done()
	close(s.ended)
	return nil, ctx.Err()
}

func TestCloseEndsADialOfAnApplicationsLayer(t *testing.T) {
	stream := contextStream{listen(t).(tcpStream), make(chan struct{}), make(chan struct{})}
	transport := NewNetworkTransport(stream, 1, time.Hour, nil)
	called := make(chan error)
	go func() {
		called <- transport.AppendEntries("id", "there:1", heartbeat(), new(raft.AppendEntriesResponse))
	}()
	<-stream.dialling
	require.NoError(t, transport.Close())
	<-stream.ended
	require.True(t, <-called == raft.ErrTransportShutdown)
}

// A field that a later hashicorp/raft adds is noticed here.
func TestWireConfigTakesEverythingOver(t *testing.T) {
	require.Equal(t, 7, reflect.TypeFor[raft.NetworkTransportConfig]().NumField())
	config := &raft.NetworkTransportConfig{
		ServerAddressProvider:   provider{"known", "there:1"},
		Logger:                  hclog.NewNullLogger(),
		Stream:                  tcpStream{},
		MaxPool:                 1,
		MaxRPCsInFlight:         2,
		Timeout:                 3,
		MsgpackUseNewTimeFormat: true,
	}
	require.Equal(t, &raftwire.NetworkTransportConfig{
		ServerAddressProvider:   wireProvider{config.ServerAddressProvider},
		Logger:                  config.Logger,
		Stream:                  wireStream{config.Stream},
		MaxPool:                 1,
		MaxRPCsInFlight:         2,
		Timeout:                 3,
		MsgpackUseNewTimeFormat: true,
	}, WireConfig(config))
}
