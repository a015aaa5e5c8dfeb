package raftwire_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func listenTCP(t *testing.T, addr string, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	trans, err := raftwire.NewTCPTransportWithConfig(addr, nil, config(append([]option{withTimeout(10 * time.Second)}, options...)...))
	require.NoError(t, err)
	t.Cleanup(func() { _ = trans.Close() })
	return trans
}

// Smoke: every request over real sockets.
func TestTCPCarriesEveryRequest(t *testing.T) {
	a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	serve(t, b, accept)
	for kind, call := range calls {
		for range 3 {
			require.NoError(t, call(a, b.LocalAddr()), kind)
		}
	}
	require.NoError(t, openPipelineOnce(a, b.LocalAddr()))
}

// P7, over real sockets: a peer that was restarted on its port costs nothing.
func TestARestartedTCPPeerCostsNoFailedRequest(t *testing.T) {
	for _, size := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b := listenTCP(t, "127.0.0.1:0", withPool(size)), listenTCP(t, "127.0.0.1:0")
			fillPool(t, a, b, size)
			require.NoError(t, b.Close())
			serve(t, listenTCP(t, string(b.LocalAddr())), accept)
			for range size + 1 {
				require.NoError(t, appendOnce(a, b.LocalAddr()))
			}
			require.NoError(t, openPipelineOnce(a, b.LocalAddr()))
		})
	}
}

// P4: Close leaves no goroutine and no descriptor, with 1,000 inbound
// connections of every kind: silent, inside a message, waiting for an answer.
func TestCloseLeavesNothingOfAThousandInboundConnections(t *testing.T) {
	const connections = 1000
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	b := listenTCP(t, "127.0.0.1:0", withLimits(-1, -1))
	beginnings := []string{"", "\x00", "\x00\x89\xa4Addr\xdb\xff\xff\xff\xff", "\x03\x80"}
	peers := make([]net.Conn, connections)
	for i := range peers {
		peer, err := new(net.Dialer).DialContext(context.Background(), "tcp", string(b.LocalAddr()))
		require.NoError(t, err)
		_, err = peer.Write([]byte(beginnings[i%len(beginnings)]))
		require.NoError(t, err)
		peers[i] = peer
	}
	require.NoError(t, appendUnanswered(b)) // the last one has been accepted
	require.Greater(t, runtime.NumGoroutine(), goroutines+connections)

	require.Less(t, elapsed(func() { require.NoError(t, b.Close()) }), time.Second)
	for _, peer := range peers {
		require.NoError(t, peer.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := peer.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open")
		require.NoError(t, peer.Close())
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.LessOrEqual(t, openDescriptors(t), descriptors)
}

// appendUnanswered brings a request to b's consumer, and no further.
func appendUnanswered(b *raftwire.NetworkTransport) error {
	a, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config())
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() { result <- heartbeat(a, b.LocalAddr()) }()
	for rpc := range b.Consumer() {
		if _, ours := rpc.Command.(*raftwire.AppendEntriesRequest); ours {
			break
		}
	}
	err = a.Close()
	<-result
	return err
}

// openDescriptors counts the process's descriptors where the system tells.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	return len(entries)
}

// A bad address ends in an error that says what to do.
func TestBadTCPAddresses(t *testing.T) {
	taken := listenTCP(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		bind      string
		advertise net.Addr
		text      string
	}{
		"no IP":                     {":0", nil, "local bind address is not advertisable: peers need an IP"},
		"every IP":                  {"0.0.0.0:0", nil, "pass an advertise address"},
		"every IP advertised":       {"127.0.0.1:0", &net.TCPAddr{IP: net.IPv4zero, Port: 1}, "not advertisable"},
		"no TCP address":            {"127.0.0.1:0", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "not a TCP address: pass a *net.TCPAddr"},
		"a TCP address that is nil": {"127.0.0.1:0", (*net.TCPAddr)(nil), "not a TCP address"},
		"port in use":               {string(taken.LocalAddr()), nil, "cannot bind to"},
		"no address":                {"nonsense", nil, `cannot bind to "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := raftwire.NewTCPTransport(c.bind, c.advertise, 3, time.Second, nil)
			require.ErrorContains(t, err, c.text)
		})
	}
}

func TestTCPRefusesABadConfigurationBeforeItBinds(t *testing.T) {
	_, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, -1, 0, nil)
	require.ErrorContains(t, err, "MaxPool is -1")
	_, err = raftwire.NewTCPTransportWithConfig(":0", nil, nil)
	require.ErrorContains(t, err, "not advertisable")
}

func TestTCPAdvertisesAnotherAddress(t *testing.T) {
	advertise := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 8300}
	trans, err := raftwire.NewTCPTransportWithLogger("0.0.0.0:0", advertise, 3, time.Second, nil)
	require.NoError(t, err)
	require.Equal(t, raftwire.ServerAddress("10.1.2.3:8300"), trans.LocalAddr())
	require.NoError(t, trans.Close())
}

// One configuration may serve several transports.
func TestAConfigurationCanBeUsedTwice(t *testing.T) {
	c := config()
	c.Logger = nil
	for range 2 {
		trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, c)
		require.NoError(t, err)
		require.NotNil(t, c.Logger)
		require.Equal(t, raftwire.ServerAddress(c.Stream.Addr().String()), trans.LocalAddr())
		require.NoError(t, trans.Close())
	}
}

// The stream layer's own Dial, which the transport does not need.
func TestTCPStreamLayerDials(t *testing.T) {
	c := config()
	trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, c)
	require.NoError(t, err)
	conn, err := c.Stream.Dial(trans.LocalAddr(), time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, trans.Close())
}
