package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Requests of every kind go to the provider's address. Without a provider they go to
// the address in the call.
func TestServerAddressProvider_OverridesTheCallsAddress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a", withProvider(&directory{addr: "b"}))
		serve(t, listen(t, net, "b"), accept)
		for kind, call := range calls {
			require.NoError(t, call(a, "elsewhere"), kind)
		}
		require.NoError(t, openPipelineOnce(a, "elsewhere"))
		require.Equal(t, []byte("b"), a.EncodePeer("b", "elsewhere"))
		require.Equal(t, []byte("x"), a.EncodePeer("unknown", "x"))
		require.Equal(t, raftwire.ServerAddress("b"), a.DecodePeer([]byte("b")))
	})
}

// One goroutine asks the provider once a second, however many requests there are. Only
// the first request waits for it.
func TestServerAddressProvider_IsAskedOnceASecond(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		provider := &directory{addr: "b", takes: 300 * time.Millisecond}
		a := listen(t, net, "a", withProvider(provider))
		serve(t, listen(t, net, "b"), accept)
		first := make(chan error)
		require.Equal(t, provider.takes, elapsed(func() {
			for range 20 {
				go func() { first <- appendOnce(a, "b") }()
			}
			for range 20 {
				require.NoError(t, <-first)
			}
		}))
		require.Equal(t, 1, provider.times())
		begun := time.Now()
		for time.Since(begun) < 10*time.Second {
			require.Zero(t, elapsed(func() {
				require.NoError(t, appendOnce(a, "b"))
				require.Equal(t, []byte("b"), a.EncodePeer("b", "x"))
			}))
			pass(50 * time.Millisecond)
		}
		require.InDelta(t, 1+10/1.3, provider.times(), 1)
		require.Equal(t, 1, provider.together)
		pass(time.Minute)
		require.Zero(t, elapsed(func() { require.Equal(t, []byte("b"), a.EncodePeer("b", "x")) }))
		require.Equal(t, provider.takes, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), "an answer of a minute ago was used")
	})
}

// When the provider gives a new address, idle connections to the old one are closed at
// once, and those in use when they are given back.
func TestServerAddressProvider_NewAddressClosesOldConnections(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		provider := &directory{addr: "old"}
		a := listen(t, net, "a", withProvider(provider), withLog(&log), withTimeout(time.Minute))
		old := listen(t, net, "old")
		serve(t, listen(t, net, "new"), accept)
		inUse := make(chan error, 1)
		fillPoolAt(t, a, old, "b", 2)
		go func() { inUse <- appendOnce(a, "b") }()
		rpc := <-old.Consumer()
		require.Equal(t, 2*2, net.OpenConns())

		provider.set("new", nil)
		pass(time.Second)
		require.Equal(t, []byte("old"), a.EncodePeer("b", ""), "has it asked again")
		synctest.Wait()
		require.Equal(t, 2*1, net.OpenConns(), "the idle one is open")
		accept(rpc)
		require.NoError(t, <-inUse)
		synctest.Wait()
		require.Zero(t, net.OpenConns(), "the one in use was kept")
		require.NoError(t, appendOnce(a, "b"))
		require.Equal(t, []byte("new"), a.EncodePeer("b", ""))
		require.NoError(t, a.Close())
	})
	require.Contains(t, log.String(), "a server has a new address: local=a id=b peer=new before=old")
}

// A peer that has moved costs one failed request, not a second of them.
func TestServerAddressProvider_IsAskedAgainAfterAFailedDial(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		provider := &directory{addr: "old"}
		a := listen(t, net, "a", withProvider(provider))
		serve(t, listen(t, net, "new"), accept)
		require.Error(t, appendOnce(a, "b"))
		provider.set("new", nil)
		require.NoError(t, appendOnce(a, "b"))
		require.Equal(t, 2, provider.times())
	})
}

// A call to an unconfirmed address is logged, but not each time.
func TestServerAddressProvider_FallbackIsLogged(t *testing.T) {
	for name, err := range map[string]error{"an error": errors.New("no quorum"), "gave no address": nil} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				provider := &directory{err: err}
				a := listen(t, net, "a", withProvider(provider), withLog(&log))
				serve(t, listen(t, net, "fallback"), accept)
				begun := time.Now()
				for time.Since(begun) < 59*time.Second {
					require.NoError(t, appendOnce(a, "fallback"))
					pass(10 * time.Millisecond)
				}
				require.Equal(t, 1, strings.Count(log.String(), "[WARN]"), log.String())
				require.LessOrEqual(t, provider.times(), 60)
				pass(5 * time.Minute)
				require.NoError(t, appendOnce(a, "fallback"))

				serve(t, listen(t, net, "b"), accept)
				provider.set("b", nil)
				pass(2 * time.Second)
				require.NoError(t, appendOnce(a, "nowhere"))
				require.NoError(t, a.Close())
			})
			line := "unable to get address for server, using fallback address: local=a id=b peer=fallback error="
			require.Equal(t, 2, strings.Count(log.String(), line), log.String())
			require.Regexp(t, `similar-before=5\d\d\d`, log.String())
			if err != nil {
				require.Contains(t, log.String(), `"no quorum"`)
			} else {
				require.Contains(t, log.String(), name)
			}
		})
	}
}

// Without fallback the transport dials only addresses that the provider has confirmed.
// Open connections stay in use.
func TestNoAddressFallback_DialsNoUnconfirmedAddress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		lost := errors.New("no quorum")
		provider := &directory{err: lost}
		a := listen(t, net, "a", withProvider(provider), withoutFallback)
		b := listen(t, net, "b")
		serve(t, b, accept)
		for kind, call := range calls {
			err := call(a, "b")
			require.ErrorIs(t, err, lost, kind)
			require.ErrorContains(t, err, kind+" to b: address unknown, and NoAddressFallback is set: no quorum")
		}
		_, err := a.AppendEntriesPipeline("b", "b")
		require.ErrorIs(t, err, lost)
		require.Equal(t, []byte("b"), a.EncodePeer("b", "b"), "the own address is no address to dial")
		require.Zero(t, net.OpenConns())

		provider.set("b", nil)
		pass(2 * time.Second)
		require.NoError(t, appendOnce(a, "x"))
		provider.set("", lost)
		for range 5 {
			pass(2 * time.Second)
			require.NoError(t, appendOnce(a, "x"), "on the connection that stands")
		}
		require.ErrorIs(t, installSnapshot(a, "x", "body"), lost, "needs a connection of its own")
		b.CloseStreams()
		synctest.Wait()
		require.ErrorIs(t, appendOnce(a, "x"), lost)
	})
}

// An address may pass from one server to another.
func TestNoAddressFallback_LetsAnAddressChangeItsServer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		owners := &sync.Map{}
		owners.Store(raftwire.ServerID("one"), raftwire.ServerAddress("b"))
		a := listen(t, net, "a", withProvider(ownersOf(owners.Load)), withoutFallback, withPool(0))
		serve(t, listen(t, net, "b"), accept)
		ask := func(id raftwire.ServerID) error {
			return a.AppendEntries(id, "x", appendRequest(1), new(raftwire.AppendEntriesResponse))
		}
		require.NoError(t, ask("one"))
		owners.Delete(raftwire.ServerID("one"))
		owners.Store(raftwire.ServerID("two"), raftwire.ServerAddress("b"))
		pass(2 * time.Second)
		require.ErrorContains(t, ask("one"), "address unknown")
		require.NoError(t, ask("two"))
	})
}

// A provider that hangs costs one call its time. Close does not wait for it for ever,
// and pending calls end at once.
func TestServerAddressProvider_ThatHangsDelaysOneCall(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				provider := &directory{addr: "b", takes: time.Hour}
				a := listen(t, net, "a", withProvider(provider))
				require.Equal(t, testTimeout, elapsed(func() {
					err := call(a, "b")
					requireTimeout(t, err)
					require.ErrorContains(t, err, "the ServerAddressProvider does not answer")
				}))
				require.Equal(t, testTimeout, elapsed(func() { require.Equal(t, []byte("x"), a.EncodePeer("b", "x")) }))
				require.Equal(t, 1, provider.times())

				result := make(chan error, 1)
				go func() { result <- call(a, "b") }()
				synctest.Wait()
				closed := make(chan error)
				go func() { closed <- a.Close() }()
				require.Zero(t, elapsed(func() { require.True(t, <-result == raftwire.ErrTransportShutdown) }))
				require.ErrorContains(t, <-closed, "a ServerAddressProvider")
				require.True(t, call(a, "b") == raftwire.ErrTransportShutdown)
				pass(time.Hour)
				require.NoError(t, a.Close())
			})
		})
	}
}

// However many addresses and IDs come and go, they leave nothing behind.
func TestTransport_ForgetsAddressesAndServers(t *testing.T) {
	refused := errors.New("refused")
	layer := &plainLayer{Dials: func() (net_, error) { return nil, refused }}
	a := transport(t, withStream(layer), withProvider(everybody{}))
	fail := func(from, to int) {
		for i := from; i < to; i++ {
			id := raftwire.ServerID(fmt.Sprint(i))
			err := a.AppendEntries(id, "fallback", appendRequest(1), new(raftwire.AppendEntriesResponse))
			require.ErrorIs(t, err, refused)
		}
	}
	fail(0, 5000)
	before := liveHeap()
	fail(5000, 100_000)
	require.Less(t, int64(liveHeap())-int64(before), int64(1<<20))
	require.LessOrEqual(t, len(a.Stats().Peers), 1024)
}

func withProvider(p raftwire.ServerAddressProvider) option {
	return func(c *raftwire.NetworkTransportConfig) { c.ServerAddressProvider = p }
}

func withoutFallback(c *raftwire.NetworkTransportConfig) { c.NoAddressFallback = true }

type ownersOf func(id any) (any, bool)

func (f ownersOf) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) {
	addr, ok := f(id)
	if !ok {
		return "", errors.New("owns nothing")
	}
	return addr.(raftwire.ServerAddress), nil
}

// everybody gives each server its ID as its address.
type everybody struct{}

func (everybody) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) {
	return raftwire.ServerAddress("host-" + id), nil
}
