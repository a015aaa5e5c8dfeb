package raftwire_test

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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

// An application's listeners, connections, hooks and loggers may block. They must
// not hold up the accept loop, other peers or Close.

func TestClose_DoesNotWaitForAnAcceptThatStays(t *testing.T) {
	for name, over := range overStaying {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				layer := hostLayer(t, net, "b")
				closeIt := over(t, stayingLayer{layer}, logTo(&log, hclog.Debug))
				synctest.Wait()
				require.LessOrEqual(t, elapsed(func() { require.NoError(t, closeIt()) }), prompt)
				late := dialRaw(t, net, "a")
				synctest.Wait()
				require.False(t, isOpen(late), "what comes late is closed")
				dialRaw(t, net, "a")
				synctest.Wait()
				require.Equal(t, 3, net.OpenConns(), "the end of the first, and a second that nobody accepts")
				require.NoError(t, layer.Close())
			})
			require.Len(t, linesWith(log.String(), "[INFO]", "Accept did not return"), 1, log.String())
		})
	}
}

// The goroutine that stays in Accept holds no memory of the transport.
func TestClose_LeavesNothingBesideAnAcceptThatStays(t *testing.T) {
	accepting, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	freed := new(atomic.Bool)
	func() {
		c := config()
		c.Stream = &plainLayer{Accepts: func() (net.Conn, error) {
			close(accepting)
			<-release
			return nil, net.ErrClosed
		}}
		trans := raftwire.NewNetworkTransportWithConfig(c)
		runtime.AddCleanup(trans, func(freed *atomic.Bool) { freed.Store(true) }, freed)
		<-accepting
		require.NoError(t, trans.Close())
	}()
	for i := 0; i < 1000 && !freed.Load(); i++ {
		runtime.GC()
	}
	require.True(t, freed.Load())
}

// Close waits a while for the layer's Close, then returns without it.
func TestClose_DoesNotWaitForALayersCloseForEver(t *testing.T) {
	for name, over := range overStaying {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				layer := hostLayer(t, net, "b")
				hanging := make(chan struct{})
				closeIt := over(t, hangingCloseLayer{layer, hanging}, hclog.NewNullLogger())
				synctest.Wait()
				require.LessOrEqual(t, elapsed(func() { require.ErrorContains(t, closeIt(), "have not ended") }), time.Second)
				close(hanging)
				synctest.Wait()
			})
		})
	}
}

func TestAccept_IsNotHeldUpByAnAddressThatIsAwaited(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listenForHeaders(t, net)
		serve(t, b, accept)
		silent := dialRaw(t, net, "silent")
		synctest.Wait()
		require.Zero(t, elapsed(func() {
			peer := dialRaw(t, net, "proxy")
			say(t, peer, "10.1.1.1:8300\n")
			introduce(t, peer)
		}))
		require.Equal(t, []raftwire.HostStats{{Host: "", Conns: 1}, {Host: "10.1.1.1", Conns: 1}}, b.Stats().Inbound)
		require.True(t, isOpen(silent))
	})
}

// The wait for the address is part of the wait for the first byte.
func TestFirstByteTimeout_CoversTheWaitForTheAddress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listenForHeaders(t, net, withFirstByte(5*time.Second))
		silent, slow := dialRaw(t, net, "silent"), dialRaw(t, net, "slow")
		pause(4 * time.Second)
		say(t, slow, "10.1.1.1:8300\n")
		synctest.Wait()
		for _, conn := range []net_{silent, slow} {
			require.LessOrEqual(t, elapsed(func() { _, _ = conn.Read(make([]byte, 1)) }), time.Second)
			require.False(t, isOpen(conn))
		}
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Silent: 2}, b.Refusals())
	})
}

// Connections without an address count. The oldest of them make room first.
func TestMaxConns_CountsConnectionsWhoseAddressIsAwaited(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		before := runtime.NumGoroutine()
		b := listenForHeaders(t, net, withLimits(3, -1))
		serve(t, b, accept)
		var silent []net_
		for range 10 {
			silent = append(silent, dialRaw(t, net, "silent"))
			synctest.Wait()
		}
		require.LessOrEqual(t, runtime.NumGoroutine()-before, 3+strayGoroutines)
		peer := dialRaw(t, net, "proxy")
		say(t, peer, "10.1.1.1:8300\n")
		introduce(t, peer)
		for i, conn := range silent {
			require.Equal(t, i >= 8, isOpen(conn), i)
		}
		require.Equal(t, raftwire.Refusals{TooManyConns: 8}, b.Refusals())
	})
}

// The limit for a host holds once the address is known.
func TestMaxConnsPerHost_HoldsWhenTheAddressIsKnown(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listenForHeaders(t, net, withLimits(-1, 2))
		var conns []net_
		for range 4 {
			conns = append(conns, dialRaw(t, net, "proxy"))
		}
		synctest.Wait()
		for i := range conns { // the youngest is known first
			say(t, conns[3-i], "10.1.1.1:8300\n")
			synctest.Wait()
		}
		for i, conn := range conns {
			require.Equal(t, i >= 2, isOpen(conn), i)
		}
		require.Equal(t, raftwire.Refusals{TooManyConnsOfHost: 2}, b.Refusals())
	})
}

// CloseStreams and Close end connections whose address is awaited.
func TestCloseStreams_ClosesConnectionsWhoseAddressIsAwaited(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listenForHeaders(t, net)
		first := dialRaw(t, net, "silent")
		b.CloseStreams()
		require.False(t, isOpen(first))
		second := dialRaw(t, net, "silent")
		synctest.Wait()
		require.LessOrEqual(t, elapsed(func() { require.NoError(t, b.Close()) }), prompt)
		require.False(t, isOpen(second))
	})
}

// The number of goroutines for stuck connections is bounded.
func TestAccept_BoundsGoroutinesOfConnectionsThatDoNotEnd(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		layer := hostLayer(t, network, "b")
		stuck := make(chan struct{})
		c := config(withLimits(10, -1))
		c.Stream = &plainLayer{Accepts: func() (net.Conn, error) {
			conn, err := layer.Accept()
			if err != nil {
				return nil, err
			}
			return stuckConn{conn, stuck}, nil
		}}
		before := runtime.NumGoroutine()
		b := raftwire.NewNetworkTransportWithConfig(c)
		go func() {
			pause(time.Second)
			close(stuck)
		}()
		for range 3000 {
			dialRaw(t, network, "a")
		}
		synctest.Wait()
		require.LessOrEqual(t, runtime.NumGoroutine()-before, 2*(10+1024)+strayGoroutines)
		pause(2 * time.Second)
		require.NoError(t, layer.Close())
		require.NoError(t, b.Close())
	})
}

// A logger that blocks does not keep Accept from being tried again.
func TestAccept_IsNotHeldUpByALogger(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		log := newHangingWriter()
		b := listen(t, net, "b", func(c *raftwire.NetworkTransportConfig) { c.Logger = logTo(log, hclog.Warn) })
		serve(t, b, accept)
		net.Host("b").FailAccepts(true)
		conn := dialRaw(t, net, "a")
		pause(time.Second)
		require.NotZero(t, log.blocked.Load())
		net.Host("b").FailAccepts(false)
		pause(time.Second)
		require.Len(t, b.Stats().Inbound, 1)
		close(log.release)
		introduce(t, conn)
	})
}

// An Accept that returns neither a connection nor an error has failed.
func TestAccept_TakesNoConnectionForAnError(t *testing.T) {
	for name, none := range map[string]net.Conn{"nil": nil, "a nil pointer": (*net.TCPConn)(nil)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				accepts := 0
				c := config(withLog(&log))
				c.Stream = &plainLayer{Accepts: func() (net.Conn, error) { accepts++; return none, nil }}
				trans := raftwire.NewNetworkTransportWithConfig(c)
				pause(4 * time.Second)
				require.NoError(t, trans.Close())
				require.Equal(t, 11, accepts, "with backoff")
				require.Contains(t, log.String(), "neither a connection nor an error")
			})
		})
	}
}

// stayingLayer is a layer whose Close does not end Accept. Accept returns when the
// listener underneath has a connection or is closed.
type stayingLayer struct{ *faultnet.Layer }

func (stayingLayer) Close() error { return nil }

// overStaying lists the ways to accept from a layer, and how to close them.
var overStaying = map[string]func(t *testing.T, layer raftwire.StreamLayer, log hclog.Logger) func() error{
	"a transport": func(_ *testing.T, layer raftwire.StreamLayer, log hclog.Logger) func() error {
		c := config(withStream(layer))
		c.Logger = log
		return raftwire.NewNetworkTransportWithConfig(c).Close
	},
	"TLS": func(t *testing.T, layer raftwire.StreamLayer, log hclog.Logger) func() error {
		ca := testca.New()
		security := tlsLayerConfig(ca.Issue(), ca)
		security.Logger = log
		secured, err := layers.NewTLS(layer, security)
		require.NoError(t, err)
		go func() { _, _ = secured.Accept() }()
		synctest.Wait()
		return secured.Close
	},
	"a mux": func(t *testing.T, layer raftwire.StreamLayer, log hclog.Logger) func() error {
		mux, err := layers.NewMux(layers.MuxConfig{Listener: layer, Logger: log})
		require.NoError(t, err)
		layerOf(t, mux, layers.FirstByte(7))
		return mux.Close
	},
}

type hangingCloseLayer struct {
	*faultnet.Layer
	hanging chan struct{}
}

func (l hangingCloseLayer) Close() error {
	<-l.hanging
	return l.Layer.Close()
}

// headerConn is as of a listener for the PROXY protocol: RemoteAddr reads the address
// from the connection, up to the end of a line.
type headerConn struct {
	net.Conn
	once sync.Once
	addr string
}

func (c *headerConn) RemoteAddr() net.Addr {
	c.once.Do(func() {
		var b [1]byte
		for b[0] != '\n' {
			if _, err := c.Conn.Read(b[:]); err != nil {
				return
			}
			c.addr += string(b[:])
		}
	})
	if c.addr == "" {
		return c.Conn.RemoteAddr()
	}
	return faultnet.Addr(strings.TrimSpace(c.addr))
}

// Read reads what follows the header.
func (c *headerConn) Read(p []byte) (int, error) {
	c.RemoteAddr()
	return c.Conn.Read(p)
}

func listenForHeaders(t *testing.T, net *faultnet.Network, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	return listenWrapped(t, net, "b", func(conn net_) net_ { return &headerConn{Conn: conn} }, options...)
}

// stuckConn is a connection whose RemoteAddr and Close block.
type stuckConn struct {
	net.Conn
	stuck chan struct{}
}

func (c stuckConn) RemoteAddr() net.Addr {
	<-c.stuck
	return c.Conn.RemoteAddr()
}

func (c stuckConn) Close() error {
	<-c.stuck
	return c.Conn.Close()
}
