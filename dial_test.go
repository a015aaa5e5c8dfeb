package raftwire_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// A dial that takes longer than a call may take goes on, and later calls use its
// connection.
func TestDial_ServesALaterCallIfItTakesLongerThanTimeout(t *testing.T) {
	for name, put := range putOver {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				ca := testca.New()
				slow, fast := newDialer(t, network, "a"), newDialer(t, network, "b")
				slow.Takes = testTimeout * 3 / 2
				a := transport(t, withStream(put(t, slow, ca)))
				serve(t, transport(t, withStream(put(t, fast, ca))), accept)
				require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, appendOnce(a, "b")) }))
				require.LessOrEqual(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), testTimeout/2+prompt)
				pause(slow.Takes)
				for range 3 {
					require.LessOrEqual(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), prompt)
				}
				require.LessOrEqual(t, slow.Begun.Load(), int32(2), "one for each of the first two calls")
			})
		})
	}
}

// If dialling and answering take longer than Timeout only together, the second call
// uses the connection of the first. It does not take the first call's answer for its
// own.
func TestCall_KeepsAConnThatItsDialMadeLate(t *testing.T) {
	for name, put := range putOver {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				ca := testca.New()
				slow, fast := newDialer(t, network, "a"), newDialer(t, network, "b")
				slow.Takes = testTimeout * 6 / 10
				a := transport(t, withStream(put(t, slow, ca)))
				serve(t, transport(t, withStream(put(t, fast, ca))), acceptAfter(testTimeout*6/10))
				call := func(number uint64) (resp raftwire.AppendEntriesResponse, err error) {
					err = a.AppendEntries("b", "b", appendRequest(number), &resp)
					return resp, err
				}
				_, err := call(1)
				requireTimeout(t, err)
				for number := uint64(2); number < 5; number++ {
					resp, err := call(number)
					require.NoError(t, err)
					require.Equal(t, number, resp.LastLog)
				}
			})
		})
	}
}

// Without a pool, a connection that was late is kept for one call.
func TestCall_WithoutAPoolUsesALateConn(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newDialer(t, network, "a")
		a := transport(t, withStream(slow), withPool(0))
		serve(t, listen(t, network, "b"), acceptAfter(testTimeout*6/10))
		for _, slow.Takes = range []time.Duration{testTimeout * 6 / 10, testTimeout * 3 / 2} {
			answered := 0
			for range 10 {
				if appendOnce(a, "b") == nil {
					answered++
				}
				require.LessOrEqual(t, a.Stats().Peers[0].Idle, 1)
			}
			require.GreaterOrEqual(t, answered, 5)
		}
	})
}

// A snapshot needs a connection of its own, and takes the one of a dial that a call
// has left.
func TestInstallSnapshot_UsesADialThatWasLeft(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newDialer(t, network, "a")
		slow.Takes = testTimeout * 3 / 2
		a := transport(t, withStream(slow))
		serve(t, listen(t, network, "b"), accept)
		requireTimeout(t, installSnapshot(a, "b", "body"))
		require.NoError(t, installSnapshot(a, "b", "body"))
	})
}

// The number of hung dials is bounded, whoever calls and however often. The error says
// what hangs, also behind another layer.
func TestDial_HungOnesAreBounded(t *testing.T) {
	const short = 50 * time.Millisecond
	for name, put := range putOver {
		for _, concurrent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, concurrently %v", name, concurrent), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
					hung := newDialer(t, network, "a")
					hung.Hangs.Store(true)
					a := transport(t, withStream(put(t, hung, testca.New())), withTimeout(short))
					fail := func() { requireTimeout(t, appendOnce(a, "b")) }
					for range 200 {
						if concurrent {
							go fail()
						} else {
							require.Equal(t, short, elapsed(fail))
						}
					}
					pass(short)
					require.LessOrEqual(t, hung.UnderWay.Load(), int32(4))
					require.LessOrEqual(t, a.Stats().Peers[0].Dialing, 4)
					for i := range 100 {
						go func() { _ = appendOnce(a, raftwire.ServerAddress(fmt.Sprint("peer-", i))) }()
					}
					pass(short)
					require.LessOrEqual(t, hung.UnderWay.Load(), int32(64))
					pass(30 * time.Second)
					require.Zero(t, hung.UnderWay.Load())
				})
			})
		}
	}
}

func TestDial_OnesThatCannotBeEndedAreBounded(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer{
		"Dial": func(_ *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer { return layer },
		"TLS over Dial": func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer {
			return overTLS(t, layer, testca.New())
		},
		"Mux over Dial": func(t *testing.T, layer raftwire.StreamLayer) raftwire.StreamLayer {
			return overMux(t, layer, layers.FirstByte(7))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				layer := hostLayer(t, network, "a")
				stuck := &stuckDial{release: make(chan struct{}), dial: func() (net.Conn, error) { return nil, io.EOF }}
				a := transport(t, withStream(put(t, dialLayer{layer, stuck.Dial})))
				for range 100 {
					go func() { requireTimeout(t, appendOnce(a, "b")) }()
				}
				pass(testTimeout)
				err := appendOnce(a, "b")
				require.ErrorContains(t, err, "AppendEntries to b: dial: i/o timeout: 4 dials to the address hang, the first for 2s: the StreamLayer's Dial does not return")
				require.EqualValues(t, 4, stuck.underWay.Load())
				for i := range 100 {
					go func() { _ = appendOnce(a, raftwire.ServerAddress(fmt.Sprint("peer-", i))) }()
				}
				pass(testTimeout)
				require.EqualValues(t, 64, stuck.underWay.Load())
				require.ErrorContains(t, appendOnce(a, "another"), "64 dials hang, to this address and others")

				close(stuck.release)
				synctest.Wait()
				require.Zero(t, stuck.underWay.Load())
				require.ErrorIs(t, appendOnce(a, "b"), io.EOF)
			})
		})
	}
}

// A peer is reached among many whose dials hang and cannot be ended.
func TestDial_ReachesAPeerAmongManyThatHang(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		b := listen(t, network, "b")
		serve(t, b, accept)
		layer, err := network.Host("a").Listen()
		require.NoError(t, err)
		a := transport(t, withStream(dialLayer{layer, func(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
			if addr == b.LocalAddr() {
				return layer.Dial(addr, timeout)
			}
			pause(timeout)
			return nil, os.ErrDeadlineExceeded
		}}))
		var over atomic.Bool
		var callers sync.WaitGroup
		for i := range 200 {
			callers.Go(func() {
				for pause(time.Duration(i) * time.Millisecond); !over.Load(); pause(testTimeout / 100) {
					_ = appendOnce(a, raftwire.ServerAddress(fmt.Sprint("peer-", i/2)))
				}
			})
		}
		pass(10 * testTimeout)
		require.Less(t, elapsed(func() { require.NoError(t, appendOnce(a, b.LocalAddr())) }), testTimeout/2)
		over.Store(true)
		callers.Wait()
		pass(2 * testTimeout) // until the dials have returned
	})
}

// A dial that still hangs after Close holds no memory of the transport. The connection
// that it brings is closed.
func TestDial_ThatHangsHoldsNoMemoryAfterClose(t *testing.T) {
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
	require.NoError(t, err)
	ours, theirs := net.Pipe()
	stuck := &stuckDial{release: make(chan struct{}), dial: func() (net.Conn, error) { return ours, nil }}
	closed := func() weak.Pointer[raftwire.NetworkTransport] {
		a := raftwire.NewNetworkTransportWithConfig(config(withStream(dialLayer{layer, stuck.Dial}), withTimeout(time.Minute)))
		result := make(chan error)
		go func() { result <- appendOnce(a, "b") }()
		for stuck.underWay.Load() == 0 {
			runtime.Gosched()
		}
		require.NoError(t, a.Close())
		require.Equal(t, raftwire.ErrTransportShutdown, <-result)
		return weak.Make(a)
	}()
	for range 100 {
		if closed.Value() == nil {
			break
		}
		runtime.GC()
	}
	require.Nil(t, closed.Value(), "the transport is still in memory")
	close(stuck.release)
	_ = theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err = theirs.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

// A peer that has come back is reached at once although old dials hang: by any of
// several callers, and also where dials cannot be ended.
func TestDial_ReachesAPeerWhileOldDialsHang(t *testing.T) {
	for name, put := range putOver {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				ca := testca.New()
				hung, sound := newDialer(t, network, "a"), newDialer(t, network, "b")
				hung.Hangs.Store(true)
				a := transport(t, withStream(put(t, hung, ca)))
				serve(t, transport(t, withStream(put(t, sound, ca))), accept)
				count := 3 // heartbeats, entries, votes
				if strings.HasSuffix(name, "Dial") {
					count = 1
				}
				for range 20 {
					var callers sync.WaitGroup
					for range count {
						callers.Go(func() { requireTimeout(t, appendOnce(a, "b")) })
					}
					callers.Wait()
				}
				hung.Hangs.Store(false)
				require.LessOrEqual(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), prompt)
				pass(time.Minute) // the old ones end
			})
		})
	}
}

// A call that dials takes a connection that another call gives back, if that comes
// first.
func TestDial_ACallTakesAConnectionThatIsGivenBack(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		hung := newDialer(t, network, "a")
		a, b := transport(t, withStream(hung)), listen(t, network, "b")
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- appendOnce(a, "b") }()
		rpc := <-b.Consumer()
		hung.Hangs.Store(true)
		go func() { second <- appendOnce(a, "b") }()
		synctest.Wait()
		accept(rpc)
		require.NoError(t, <-first)
		serve(t, b, accept)
		require.LessOrEqual(t, elapsed(func() { require.NoError(t, <-second) }), prompt)
		require.Equal(t, 1, a.Stats().Peers[0].Dialing)
	})
}

// Hooks are told of a dial once, with its own duration and not its call's.
func TestDial_IsToldOnceWithItsOwnTime(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newDialer(t, network, "a")
		slow.Takes = testTimeout * 3 / 2
		seen := new(events)
		a := transport(t, withStream(slow), withHooks(seen.hooks()))
		serve(t, listen(t, network, "b"), accept)
		requireTimeout(t, appendOnce(a, "b"))
		pass(testTimeout)
		require.Equal(t, []raftwire.DialEvent{{ID: "b", Peer: "b", Took: slow.Takes}}, seen.dialed)
		require.Equal(t, 1, a.Stats().Peers[0].Idle)
	})
}

// CloseStreams ends a dial whose call has gone. If the dial cannot be ended, its
// connection is not kept.
func TestCloseStreams_EndsDialsWithoutACall(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		hung := newDialer(t, network, "a")
		hung.Hangs.Store(true)
		stuck := &stuckDial{release: make(chan struct{}), dial: func() (net.Conn, error) { return network.Host("a").Dial(t.Context(), "b") }}
		listen(t, network, "b")
		for _, a := range []*raftwire.NetworkTransport{
			transport(t, withStream(hung)),
			transport(t, withStream(dialLayer{&plainLayer{}, stuck.Dial})),
		} {
			requireTimeout(t, appendOnce(a, "b"))
			a.CloseStreams()
			synctest.Wait()
		}
		require.Zero(t, hung.UnderWay.Load())
		close(stuck.release)
		synctest.Wait()
		require.Zero(t, stuck.underWay.Load())
		require.Zero(t, network.OpenConns())
	})
}

// A dial that returns neither a connection nor an error has failed.
func TestDial_ThatBringsNothingIsAnError(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		layer := hostLayer(t, network, "a")
		for _, conn := range []net.Conn{nil, (*net.TCPConn)(nil)} {
			a := transport(t, withStream(dialLayer{layer, func(raftwire.ServerAddress, time.Duration) (net.Conn, error) { return conn, nil }}))
			for kind, call := range calls {
				require.EqualError(t, call(a, "b"), kind+" to b: dial: there is neither a connection nor an error: the function that dials or accepts must return one")
			}
			require.NoError(t, a.Close())
		}
	})
}

// A peer without pre-votes refuses each of them once, and the connections to it are
// kept. When it has learnt pre-votes, they work as other requests do.
func TestPreVote_IsRefusedOnceByAPeerThatHasNone(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		peer := new(oldPeer)
		peer.listen(t, network, "b")
		a := listen(t, network, "a")
		preVote := calls["RequestPreVote"]
		var together sync.WaitGroup
		for range 3 {
			together.Go(func() { require.NoError(t, appendOnce(a, "b")) })
		}
		together.Wait()
		require.Equal(t, 3, a.Stats().Peers[0].Idle)
		for i := range 10 {
			err := preVote(a, "b")
			require.ErrorIs(t, err, io.EOF)
			require.ErrorContains(t, err, "the peer may be too old for pre-votes")
			require.EqualValues(t, i+1, peer.refusals.Load())
			require.Equal(t, 2, a.Stats().Peers[0].Idle, "of the first one the connection was used")
			require.NoError(t, appendOnce(a, "b"))
		}
		peer.knowsPreVotes.Store(true)
		for range 3 {
			require.NoError(t, preVote(a, "b"))
		}
		require.Equal(t, 3, a.Stats().Peers[0].Idle)
	})
}

// Once a peer has answered a pre-vote, a connection that is lost while it is reused
// costs no failed pre-vote.
func TestPreVote_IsTriedOnceMoreIfThePeerHasThem(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		peer := new(oldPeer)
		peer.knowsPreVotes.Store(true)
		peer.listen(t, network, "b")
		a := listen(t, network, "a")
		require.NoError(t, calls["RequestPreVote"](a, "b"))
		network.Link("a", "b").ResetAfter(1)
		require.NoError(t, calls["RequestPreVote"](a, "b"))
	})
}

// A late answer is not lost because the call's write deadline is over.
func TestCall_KeepsAConnWhoseLateAnswerNeedsAWrite(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newDialer(t, network, "a")
		slow.Takes = testTimeout * 6 / 10
		a := transport(t, withStream(wrappingLayer{slow, func(conn net.Conn) net.Conn { return &readsWrite{Conn: conn} }}))
		serve(t, listen(t, network, "b"), acceptAfter(testTimeout*6/10))
		requireTimeout(t, appendOnce(a, "b"))
		pause(testTimeout / 2)
		require.Less(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), testTimeout)
		require.EqualValues(t, 1, slow.Begun.Load())
	})
}

// putOver are layers of several makes, over a dialer.
var putOver = map[string]func(t *testing.T, d *dialer, ca *testca.Authority) raftwire.StreamLayer{
	"DialContext": func(_ *testing.T, d *dialer, _ *testca.Authority) raftwire.StreamLayer { return d },
	"Dial":        func(_ *testing.T, d *dialer, _ *testca.Authority) raftwire.StreamLayer { return dialLayer{d, d.Dial} },
	"TLS": func(t *testing.T, d *dialer, ca *testca.Authority) raftwire.StreamLayer {
		return overTLS(t, d, ca)
	},
	"TLS over Dial": func(t *testing.T, d *dialer, ca *testca.Authority) raftwire.StreamLayer {
		return overTLS(t, dialLayer{d, d.Dial}, ca)
	},
	"Mux": func(t *testing.T, d *dialer, _ *testca.Authority) raftwire.StreamLayer {
		return overMux(t, d, layers.FirstByte(7))
	},
	"TLS in a Mux": func(t *testing.T, d *dialer, ca *testca.Authority) raftwire.StreamLayer {
		security := tlsLayerConfig(ca.Issue(), ca)
		return muxLayer(t, layers.MuxConfig{Listener: d, TLS: &security}, layers.ALPN("raft"))
	},
	"Mux over TLS": func(t *testing.T, d *dialer, ca *testca.Authority) raftwire.StreamLayer {
		return overMux(t, overTLS(t, d, ca), layers.ALPN("raft"))
	},
}

func overMux(t *testing.T, inner raftwire.StreamLayer, key layers.Key) raftwire.StreamLayer {
	return muxLayer(t, layers.MuxConfig{Listener: inner}, key)
}

func muxLayer(t *testing.T, config layers.MuxConfig, key layers.Key) raftwire.StreamLayer {
	mux, err := layers.NewMux(config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = mux.Close() })
	return layerOf(t, mux, key)
}

// oldPeer answers as peers before hashicorp/raft 1.7 do: it closes the connection when
// a request for a pre-vote comes.
type oldPeer struct {
	knowsPreVotes atomic.Bool
	refusals      atomic.Int32
}

func (o *oldPeer) listen(t *testing.T, network *faultnet.Network, host string) {
	layer := hostLayer(t, network, host)
	var serving sync.WaitGroup
	t.Cleanup(func() { require.NoError(t, layer.Close()); serving.Wait() })
	serving.Go(func() {
		for conn, err := layer.Accept(); err == nil; conn, err = layer.Accept() {
			serving.Go(func() { o.serve(conn) })
		}
	})
}

func (o *oldPeer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	request := make([]byte, 4096)
	for {
		if _, err := conn.Read(request); err != nil {
			return
		}
		if request[0] == 4 && !o.knowsPreVotes.Load() {
			o.refusals.Add(1)
			return
		}
		pause(time.Millisecond)
		_, _ = io.WriteString(conn, "\xa0\xc0") // no error, the zero response
	}
}

// readsWrite is a connection whose Read writes, as that of TLS does to answer a key
// update. Read fails if that write would.
type readsWrite struct {
	net.Conn
	until atomic.Pointer[time.Time] // the write deadline
}

func (c *readsWrite) SetDeadline(t time.Time) error {
	c.until.Store(&t)
	return c.Conn.SetDeadline(t)
}

func (c *readsWrite) SetWriteDeadline(t time.Time) error {
	c.until.Store(&t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *readsWrite) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if until := c.until.Load(); err == nil && until != nil && !until.IsZero() && !time.Now().Before(*until) {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}
