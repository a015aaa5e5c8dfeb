package raftwire_test

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

func TestClosePeer_EndsWhatIsUnderWayToOnePeer(t *testing.T) {
	t.Run("over the network", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			a, b, c := listen(t, net, "a", withTimeout(time.Minute)), listen(t, net, "b"), listen(t, net, "c")
			testClosePeer(t, a, b, c)
		})
	})
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: time.Minute})
			testClosePeer(t, network.Add("a"), network.Add("b"), network.Add("c"))
			require.NoError(t, network.Close())
		})
	})
}

// After ClosePeer, calls to the peer succeed again.
func TestClosePeer_LeavesThePeerReachable(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 3)
		a.ClosePeer("nobody")
		a.ClosePeer("b")
		synctest.Wait()
		require.Zero(t, net.OpenConns(), "idle connections were left open")
		serve(t, b, accept)
		for kind, call := range calls {
			require.NoError(t, call(a, "b"), kind)
		}
		require.NoError(t, openPipelineOnce(a, "b"))
	})
}

// ClosePeer ends dials. If a dial cannot be ended, its call ends, and the connection
// that it brings is closed.
func TestClosePeer_EndsDials(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				hung := newDialer(t, network, "a")
				hung.Hangs.Store(true)
				stuck := &stuckDial{release: make(chan struct{}), dial: func() (net_, error) { return network.Host("a").Dial(t.Context(), "b") }}
				listen(t, network, "b")
				for _, a := range []*raftwire.NetworkTransport{
					transport(t, withStream(hung)),
					transport(t, withStream(dialLayer{&plainLayer{}, stuck.Dial})),
				} {
					result := make(chan error, 1)
					go func() { result <- call(a, "b") }()
					synctest.Wait()
					require.LessOrEqual(t, elapsed(func() {
						a.ClosePeer("b")
						requirePeerClosed(t, <-result)
					}), prompt)
				}
				synctest.Wait()
				require.Zero(t, hung.UnderWay.Load())
				close(stuck.release)
				synctest.Wait()
				require.Zero(t, network.OpenConns())
			})
		})
	}
}

// A snapshot that waits for its rate ends at once, too.
func TestClosePeer_EndsASnapshotThatIsPaced(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a", func(c *raftwire.NetworkTransportConfig) { c.MaxSnapshotBytesPerSecond = 1 << 20 })
		b := listen(t, net, "b")
		serve(t, b, func(rpc raftwire.RPC) { go func() { _, _ = io.Copy(io.Discard, rpc.Reader); accept(rpc) }() })
		result := make(chan error, 1)
		go func() {
			args := &raftwire.InstallSnapshotRequest{Term: 7, Size: 1 << 30}
			result <- a.InstallSnapshot("b", "b", args, new(raftwire.InstallSnapshotResponse), zeros{})
		}()
		pause(5 * time.Second)
		require.LessOrEqual(t, elapsed(func() { a.ClosePeer("b"); requirePeerClosed(t, <-result) }), prompt)
	})
}

// A connection whose Close blocks does not keep the others open.
func TestClosePeer_EndsConnsBesideOneWhoseCloseBlocks(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		release := make(chan struct{})
		var stuck atomic.Bool
		a := listenWrapped(t, net, "a", func(conn net_) net_ {
			if !stuck.Swap(true) {
				return slowConn{conn, release}
			}
			return conn
		})
		listen(t, net, "b")
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() { errs <- appendOnce(a, "b") }()
		}
		synctest.Wait()
		go a.ClosePeer("b")
		require.Zero(t, elapsed(func() {
			for range cap(errs) - 1 { // but for the one that blocks
				requirePeerClosed(t, <-errs)
			}
		}))
		close(release)
		requirePeerClosed(t, <-errs)
	})
}

type closesPeers interface {
	caller
	raftwire.WithClosePeer
}

func requirePeerClosed(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, raftwire.ErrClosePeer)
	var op *raftwire.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, raftwire.ServerAddress("b"), op.Peer)
	require.False(t, op.Timeout())
}

// testClosePeer checks that ClosePeer("b") ends everything from a to b, and nothing
// from a to c or from b to a.
func testClosePeer(t *testing.T, a closesPeers, b, c caller) {
	delivered := 0
	serve(t, b, func(raftwire.RPC) { delivered++ })
	others := make(chan raftwire.RPC, 10)
	serve(t, c, func(rpc raftwire.RPC) { others <- rpc })
	toB, toC, fromB := make(chan error, 10), make(chan error, 10), make(chan error, 1)
	begun := 0
	for _, call := range calls {
		go func() { toB <- call(a, "b") }()
		go func() { toC <- call(a, "c") }()
		begun++
	}
	go func() {
		args := &raftwire.InstallSnapshotRequest{Term: 7, Size: 1 << 40}
		toB <- a.InstallSnapshot("b", "b", args, new(raftwire.InstallSnapshotResponse), zeros{})
	}()
	go func() { fromB <- appendOnce(b, "a") }()
	inbound := <-a.Consumer()
	future := send(t, openPipeline(t, a, "b"), 1)[0]
	idle := openPipeline(t, a, "b")
	another := send(t, openPipeline(t, a, "c"), 1)[0]
	synctest.Wait()
	require.LessOrEqual(t, elapsed(func() {
		a.ClosePeer("b")
		for range begun + 1 {
			requirePeerClosed(t, <-toB)
		}
		requirePeerClosed(t, future.Error())
	}), prompt)
	synctest.Wait()
	requirePeerClosed(t, appendTo(idle))
	require.LessOrEqual(t, delivered, begun+2, "a request was tried again")

	require.Empty(t, toC)
	require.Empty(t, fromB)
	accept(inbound)
	require.NoError(t, <-fromB)
	for range begun + 1 {
		accept(<-others)
	}
	for range begun {
		require.NoError(t, <-toC)
	}
	require.NoError(t, another.Error())
}
