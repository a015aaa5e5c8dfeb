package raftwire_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// A hook that blocks holds up the connection that it is told of, and no other. Close
// waits for it a second, and says so; CloseStreams does not.
func TestHooks_ThatBlockHoldUpNobodyElse(t *testing.T) {
	for name := range blocking(nil) {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				release := make(chan struct{})
				hooks := blocking(release)[name]
				layer := hostLayer(t, net, "b")
				b := raftwire.NewNetworkTransportWithConfig(config(withStream(layer), withHooks(hooks), withLimits(3, -1)))
				serve(t, b, accept)
				peer := dialRaw(t, net, "peer")
				introduce(t, peer)
				for range 5 { // they make room for each other, or are refused
					conn := dialRaw(t, net, "stuck")
					say(t, conn, "\x03\x80GET /")
					synctest.Wait()
				}
				late := dialRaw(t, net, "peer")
				synctest.Wait()
				if name != "ServeBegun" && name != "ServeDone" { // there peers have all the places
					require.Zero(t, elapsed(func() { introduce(t, late) }))
				}
				require.Zero(t, elapsed(func() { introduce(t, peer) }))
				require.LessOrEqual(t, elapsed(b.CloseStreams), prompt)
				require.False(t, isOpen(peer))
				require.LessOrEqual(t, elapsed(func() { require.ErrorContains(t, b.Close(), "a hook") }), time.Second)
				close(release)
				synctest.Wait()
				require.NoError(t, b.Close())
			})
		})
	}
}

// All connections are closed before a hook is told of one, on the dialling side, too.
func TestCloseStreams_IsNotHeldUpByHooks(t *testing.T) {
	for _, final := range []bool{false, true} {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			release := make(chan struct{})
			told := new(atomic.Int32)
			a := listen(t, net, "a", withPool(3), withHooks(raftwire.Hooks{ConnClosed: func(raftwire.ConnEvent) {
				told.Add(1)
				<-release
			}}))
			for _, host := range []string{"b", "c", "d"} {
				serve(t, listen(t, net, host), accept)
				require.NoError(t, appendOnce(a, raftwire.ServerAddress(host)))
			}
			require.Equal(t, 6, net.OpenConns())
			if final {
				require.Equal(t, time.Second, elapsed(func() { require.Error(t, a.Close()) }))
			} else {
				require.LessOrEqual(t, elapsed(a.CloseStreams), prompt)
				require.NoError(t, appendOnce(a, "b"))
				synctest.Wait()
				require.Equal(t, 2, net.OpenConns())
				a.CloseStreams()
			}
			synctest.Wait()
			require.Zero(t, net.OpenConns())
			require.GreaterOrEqual(t, told.Load(), int32(3))
			close(release)
			synctest.Wait()
		})
	}
}

func TestConns_WhoseCloseBlocksHoldUpNobody(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		layer := hostLayer(t, net, "b")
		release := make(chan struct{})
		b := raftwire.NewNetworkTransportWithConfig(config(withStream(wrappingLayer{layer, func(conn net_) net_ { return slowConn{conn, release} }}), withLimits(2, -1)))
		serve(t, b, accept)
		for range 5 {
			dialRaw(t, net, "stranger")
		}
		peer := dialRaw(t, net, "peer")
		require.Zero(t, elapsed(func() { introduce(t, peer) }))
		require.Equal(t, time.Second, elapsed(func() {
			require.ErrorContains(t, b.Close(), "the Close of the StreamLayer or of a connection")
		}))
		close(release)
		synctest.Wait()
		_, err := peer.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
}

// A heartbeat handler and a logger that block hold up the connection that they were
// called for.
func TestHeartbeatHandler_ThatBlocksHoldsUpNobodyElse(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, c := listen(t, net, "a"), listen(t, net, "c")
		layer := hostLayer(t, net, "b")
		b := raftwire.NewNetworkTransportWithConfig(config(withStream(layer)))
		serve(t, b, accept)
		release := make(chan struct{})
		b.SetHeartbeatHandler(func(rpc raftwire.RPC) { <-release; accept(rpc) })
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, heartbeat(a, "b")) }))
		for range 3 {
			require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(c, "b")) }))
		}
		require.Equal(t, time.Second, elapsed(func() { require.ErrorContains(t, b.Close(), "a heartbeat handler") }))
		close(release)
		synctest.Wait()
		require.NoError(t, b.Close())
	})
}

func TestLogger_ThatBlocksHoldsUpNobodyElse(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		layer := hostLayer(t, net, "b")
		log := newHangingWriter()
		b := raftwire.NewNetworkTransportWithConfig(config(withStream(layer), func(c *raftwire.NetworkTransportConfig) {
			c.Logger = logTo(log, hclog.Warn)
		}))
		serve(t, b, accept)
		say(t, dialRaw(t, net, "prober"), "GET /")
		synctest.Wait()
		require.EqualValues(t, 1, log.blocked.Load())
		a := listen(t, net, "a")
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }))
		require.Equal(t, time.Second, elapsed(func() { require.ErrorContains(t, b.Close(), "a logger") }))
		close(log.release)
		synctest.Wait()
	})
}

// The address of one server may be awaited, and calls to others go on.
func TestServerAddressProvider_ThatBlocksHoldsUpNoOtherServer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		release := make(chan struct{})
		layer := hostLayer(t, net, "a")
		a := raftwire.NewNetworkTransportWithConfig(config(withStream(layer), func(c *raftwire.NetworkTransportConfig) {
			c.ServerAddressProvider = providerFunc(func(id raftwire.ServerID) (raftwire.ServerAddress, error) {
				if id == "stuck" {
					<-release
				}
				return raftwire.ServerAddress(id), nil
			})
		}))
		serve(t, listen(t, net, "b"), accept)
		vote := func(id raftwire.ServerID) error {
			return a.RequestVote(id, "b", new(raftwire.RequestVoteRequest), new(raftwire.RequestVoteResponse))
		}
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, vote("stuck")) }))
		require.Zero(t, elapsed(func() { require.NoError(t, vote("b")) }))
		require.Equal(t, time.Second, elapsed(func() { require.ErrorContains(t, a.Close(), "a ServerAddressProvider") }))
		close(release)
		synctest.Wait()
	})
}

// A hook that panics on a caller's goroutine is the caller's panic. Whoever recovers
// has a transport that goes on, with nothing left open.
func TestHooks_ThatPanicLeaveTheTransportUsable(t *testing.T) {
	for name, hooks := range map[string]func(boom func()) raftwire.Hooks{
		"ConnClosed": func(boom func()) raftwire.Hooks {
			return raftwire.Hooks{ConnClosed: func(raftwire.ConnEvent) { boom() }}
		},
		"CallBegun": func(boom func()) raftwire.Hooks {
			return raftwire.Hooks{CallBegun: func(*raftwire.CallEvent) { boom() }}
		},
		"CallDone": func(boom func()) raftwire.Hooks {
			return raftwire.Hooks{CallDone: func(*raftwire.CallEvent) { boom() }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				armed := false
				a := listen(t, net, "a", withPool(0), withHooks(hooks(func() {
					if armed {
						panic("boom")
					}
				})))
				b := listen(t, net, "b")
				serve(t, b, accept)
				armed = true
				require.PanicsWithValue(t, "boom", func() { _ = appendOnce(a, "b") })
				armed = false
				synctest.Wait()
				require.Zero(t, net.OpenConns())
				require.NoError(t, appendOnce(a, "b"))
				require.Zero(t, a.Stats().Peers[0].InFlight)
			})
		})
	}
}

// In a pipeline CallBegun is called by the sender.
func TestHooks_ThatPanicInAPipelineEndIt(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		armed := false
		a := listen(t, net, "a", withHooks(raftwire.Hooks{CallBegun: func(*raftwire.CallEvent) {
			if armed {
				panic("boom")
			}
		}}))
		serve(t, listen(t, net, "b"), accept)
		p := openPipeline(t, a, "b")
		require.NoError(t, appendTo(p))
		armed = true
		require.PanicsWithValue(t, "boom", func() { _ = appendTo(p) })
		armed = false
		require.ErrorContains(t, appendTo(p), "panic")
		require.NoError(t, p.Close())
		require.NoError(t, appendTo(openPipeline(t, a, "b")))
	})
}

// blocking returns hooks of which one blocks, for connections from or to a host.
func blocking(release chan struct{}) map[string]raftwire.Hooks {
	of := func(peer raftwire.ServerAddress) {
		if len(peer) > 5 && peer[:5] == "stuck" {
			<-release
		}
	}
	return map[string]raftwire.Hooks{
		"ConnOpened": {ConnOpened: func(e raftwire.ConnEvent) { of(e.Peer) }},
		"ConnClosed": {ConnClosed: func(e raftwire.ConnEvent) { of(e.Peer) }},
		"ServeBegun": {ServeBegun: func(e *raftwire.ServeEvent) { of(e.Peer) }},
		"ServeDone":  {ServeDone: func(e *raftwire.ServeEvent) { of(e.Peer) }},
		"Refused":    {Refused: func(e raftwire.RefusalEvent) { of(e.Peer) }},
	}
}

type providerFunc func(id raftwire.ServerID) (raftwire.ServerAddress, error)

func (f providerFunc) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) { return f(id) }
