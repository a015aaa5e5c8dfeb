package layers_test

import (
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

// Clients that stall in their handshake hold up nobody, and go when their time
// is over.
func TestStalledHandshakesHoldUpNobody(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		begun := time.Now()
		var stalled []net_
		for _, beginning := range []string{"", "\x16", "\x16\x03\x01\x00\x40\x01"} {
			for range 10 {
				conn := dialRaw(t, w.net, "a")
				say(t, conn, beginning)
				stalled = append(stalled, conn)
			}
		}
		synctest.Wait()
		c := w.node(t, "c")
		require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(c, "b")) }))
		for _, conn := range stalled {
			_, err := io.ReadAll(conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		require.Equal(t, 10*time.Second, time.Since(begun))
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{Silent: 30}, w.layer.Refusals())
	})
}

// A dial ends in time as well, if the peer stalls.
func TestAStalledHandshakeEndsTheDial(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, handshake, ends time.Duration
	}{
		"by the transport's timeout": {time.Second, 0, time.Second},
		"by its own":                 {time.Minute, 2 * time.Second, 2 * time.Second},
		"by the default":             {0, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
				security := secure(w.ca.Issue(), w.ca)
				security.HandshakeTimeout = c.handshake
				a, _ := listenTLS(t, w.net, "a", security, withTimeout(c.timeout))
				silent, err := w.net.Host("silent").Listen()
				require.NoError(t, err)
				defer func() { require.NoError(t, silent.Close()) }()
				require.Equal(t, c.ends, elapsed(func() { err = appendOnce(a, "silent") }))
				requireTimeout(t, err)
			})
		})
	}
}

// And Close does not wait for one.
func TestCloseEndsHandshakes(t *testing.T) {
	onFakeTLS(t, func(t *testing.T, w *tlsWorld) {
		silent, err := w.net.Host("silent").Listen()
		require.NoError(t, err)
		dialled := make(chan error, 1)
		go func() { dialled <- appendOnce(w.b, "silent") }()
		inbound := dialRaw(t, w.net, "a")
		say(t, inbound, "\x16\x03\x01\x00\x40\x01")
		synctest.Wait()
		require.Zero(t, elapsed(func() {
			require.NoError(t, w.b.Close())
			require.True(t, <-dialled == raftwire.ErrTransportShutdown)
		}))
		_, err = inbound.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, silent.Close())
	})
}

// A crowd of stalled handshakes is bounded, and keeps nobody out.
func TestTheOldestHandshakeMakesRoom(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		security := secure(ca.Issue(), ca)
		security.MaxHandshakes = 3
		b, layer := listenTLS(t, net, "b", security)
		serve(t, b, accept)
		var crowd []net_
		for range 5 {
			crowd = append(crowd, dialRaw(t, net, "a"))
			synctest.Wait()
		}
		for i, conn := range crowd {
			require.Equal(t, i >= 2, isOpen(conn), i)
		}
		c, _ := listenTLS(t, net, "c", secure(ca.Issue(), ca))
		require.NoError(t, appendOnce(c, "b"))
		synctest.Wait()
		require.EqualValues(t, 3, layer.Refusals().TooManyConns)
	})
}
