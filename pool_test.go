package raftwire_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// No request of any kind fails because its peer was restarted, however many idle
// connections there are.
func TestPool_ARestartedPeerCostsNoFailedRequest(t *testing.T) {
	for _, size := range []int{1, 3, 10} {
		for kind, call := range calls {
			t.Run(fmt.Sprintf("%s with %d idle connections", kind, size), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					a, b := listen(t, net, "a", withPool(size)), listen(t, net, "b")
					fillPool(t, a, b, size)
					require.NoError(t, b.Close())
					synctest.Wait()
					serve(t, listen(t, net, "b"), accept)
					for range size + 1 {
						require.NoError(t, call(a, "b"))
					}
				})
			})
		}
	}
}

// Peers that come back under new addresses leave nothing behind under the old ones,
// which nobody asks for again.
func TestPool_ForgetsAddressesThatWereLeft(t *testing.T) {
	const size, rounds = 3, 50
	move := func(t *testing.T, a, b *raftwire.NetworkTransport) {
		fillPool(t, a, b, size)
		require.NoError(t, b.Close())
	}
	check := func(t *testing.T, a *raftwire.NetworkTransport) {
		open := 0
		for _, peer := range a.Stats().Peers {
			open += peer.Idle + peer.InUse
		}
		require.LessOrEqual(t, open, 2*size)
	}
	t.Run("over TCP", func(t *testing.T) {
		a := listenTCP(t, "127.0.0.1:0")
		for range rounds {
			move(t, a, listenTCP(t, "127.0.0.1:0"))
		}
		check(t, a)
	})
	t.Run("over connections that have no socket to look at", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			a := listen(t, net, "a", withPool(size))
			for i := range rounds {
				move(t, a, listen(t, net, fmt.Sprintf("b%d", i)))
				synctest.Wait()
			}
			check(t, a)
		})
	})
}

func TestPipeline_IsNotOpenedOnADeadConn(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 3)
		require.NoError(t, b.Close())
		synctest.Wait()
		serve(t, listen(t, net, "b"), accept)
		require.NoError(t, openPipelineOnce(a, "b"))
	})
}

// A connection can be lost while it is reused. Then the request is tried once more, on
// a new connection.
func TestRetry_HappensOnceWhenAReusedConnBreaks(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 2)
		serve(t, b, accept)
		net.Link("a", "b").ResetAfter(1) // breaks inside the next request
		require.NoError(t, appendOnce(a, "b"))
	})
}

// The loss of a new connection means something, so the call fails.
func TestRetry_NeverOnANewConn(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", withPool(0)), listen(t, net, "b")
		serve(t, b, accept)
		net.Link("a", "b").ResetAfter(1)
		require.Error(t, appendOnce(a, "b"))
		require.NoError(t, appendOnce(a, "b"))
	})
}

// After a timeout the peer may be at work on the request.
func TestRetry_NeverAfterATimeout(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 1)
		delivered := 0
		serve(t, b, func(raftwire.RPC) { delivered++ })
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, appendOnce(a, "b")) }))
		synctest.Wait()
		require.Equal(t, 1, delivered)
	})
}

func TestRetry_NeverOnceTheAnswerHasBegun(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 1)
		delivered := 0
		serve(t, b, func(rpc raftwire.RPC) { delivered++; accept(rpc) })
		net.Link("b", "a").ResetAfter(1)
		require.Error(t, appendOnce(a, "b"))
		require.Equal(t, 1, delivered)
	})
}

// Bytes that follow an answer are not taken for the next one.
func TestPool_SurplusBytesAreNoAnswer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		layer := hostLayer(t, net, "b")
		defer func() { require.NoError(t, layer.Close()) }()
		accepted := make(chan struct{})
		go func() {
			for range 2 {
				answerTwice(t, layer)
				accepted <- struct{}{}
			}
		}()
		for range 2 { // on a connection each
			require.NoError(t, appendOnce(a, "b"))
			<-accepted
		}
	})
}

// The pool keeps MaxPool idle connections for a peer.
func TestPool_KeepsItsSize(t *testing.T) {
	for _, size := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withPool(size)), listen(t, net, "b")
				fillPool(t, a, b, 5)
				synctest.Wait()
				require.Equal(t, 2*size, net.OpenConns())
			})
		})
	}
}

// A peer that sends on an idle connection is no Raft peer.
func TestPool_DropsAnIdleConnThatSpeaks(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		talker := hostLayer(t, net, "t")
		defer func() { require.NoError(t, talker.Close()) }()
		spoke := make(chan net_)
		go func() {
			conn, _ := talker.Accept()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "\xa0\xc0")
			timer := time.NewTimer(time.Minute)
			<-timer.C
			_, _ = io.WriteString(conn, "\xa0\xc0")
			spoke <- conn
		}()
		require.NoError(t, appendOnce(a, "t"))
		conn := <-spoke
		synctest.Wait()
		result := make(chan error, 1)
		go func() { result <- appendOnce(a, "t") }()
		again, err := talker.Accept()
		require.NoError(t, err, "the connection was used again")
		require.NoError(t, again.Close())
		require.Error(t, <-result)
		require.NoError(t, conn.Close())
	})
}

// answerTwice answers the first request on a connection with two answers at once.
func answerTwice(t *testing.T, layer net.Listener) {
	conn, err := layer.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Read(make([]byte, 4096))
	_, _ = io.WriteString(conn, "\xa0\xc0\xa0\xc0") // no error, no response; twice
	_, _ = conn.Read(make([]byte, 1))               // until the peer closes
}
