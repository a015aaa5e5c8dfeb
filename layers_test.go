package raftwire_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Stream layers of other makes, and their habits.

// SetDeadline may always fail. Then deadlines do not work, but reuse does, and so does
// a wait for the core.
func TestStreamLayer_MayHaveNoDeadlines(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		wrap := func(conn net.Conn) net.Conn { return timelessConn{conn} }
		a := listenWrapped(t, network, "a", wrap, withTimeout(0))
		b := listenWrapped(t, network, "b", wrap, withTimeout(0))
		serve(t, b, acceptAfter(time.Minute)) // long enough to be watched
		for range 3 {
			require.Equal(t, time.Minute, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }))
		}
		require.Equal(t, 2, network.OpenConns(), "the connection was not used again")
	})
}

// Connections may have timeouts of their own: slow answers arrive, and the connections
// are used again.
func TestStreamLayer_MayHaveTimeoutsOfItsOwn(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		var conns atomic.Int32
		wrap := func(conn net.Conn) net.Conn { conns.Add(1); return ownTimeoutConn{conn} }
		a, b := listenWrapped(t, network, "a", wrap), listenWrapped(t, network, "b", wrap)
		serve(t, b, acceptAfter(200*time.Millisecond))
		for range 3 {
			require.NoError(t, appendOnce(a, "b"))
			pause(time.Second)
		}
		require.EqualValues(t, 2, conns.Load(), "the ends of one connection")
	})
}

// Whatever a layer's timeout is, callers see a timeout.
func TestDial_AnyTimeoutOfALayerIsATimeout(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		layer := hostLayer(t, network, "a")
		requireTimeout(t, appendOnce(transport(t, withStream(lateLayer{layer})), "b"))
	})
}

// If deadlines do nothing, a call does not wait for one: it gives the connection up,
// instead of keeping it for reuse.
func TestStreamLayer_MayIgnoreDeadlines(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		a := listenWrapped(t, network, "a", func(conn net.Conn) net.Conn { return heedlessConn{conn} }, withTimeout(10*time.Second))
		b := listen(t, network, "b")
		serve(t, b, accept)
		for range 3 {
			require.LessOrEqual(t, elapsed(func() { require.NoError(t, appendOnce(a, "b")) }), time.Second)
		}
	})
}

func TestCall_EndsAfterAShortWrite(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		a := listenWrapped(t, network, "a", func(conn net.Conn) net.Conn { return shortConn{conn} })
		listen(t, network, "b")
		require.ErrorIs(t, appendOnce(a, "b"), io.ErrShortWrite)
	})
}

func TestStreamLayer_ConnBesideAnErrorIsIgnored(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		layer := hostLayer(t, network, "a")
		requireTimeout(t, appendOnce(transport(t, withStream(nilConnLayer{layer})), "b"))
		pause(time.Minute) // Dial returns
	})
	layer := layers.NewHandoff(faultnet.Addr("a"), func(context.Context, raftwire.ServerAddress) (net.Conn, error) {
		return (*tls.Conn)(nil), errors.New("refused")
	})
	require.ErrorContains(t, appendOnce(transport(t, withStream(layer)), "b"), "refused")
}

// A nil pointer from a constructor is no layer.
func TestStreamLayer_NilPointerIsNone(t *testing.T) {
	for _, layer := range []raftwire.StreamLayer{(*raftwire.TCPStreamLayer)(nil), (*layers.Handoff)(nil), (*layers.TLS)(nil)} {
		trans := transport(t, withStream(layer))
		require.ErrorContains(t, appendOnce(trans, "b"), "look at the error of its constructor")
	}
}

func TestStreamLayer_MayHaveNoAddressYet(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		layer := hostLayer(t, network, "a")
		a, b := transport(t, withStream(addressless{layer})), listen(t, network, "b")
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b"))
		require.Zero(t, a.LocalAddr())
	})
}

type timelessConn struct{ net.Conn }

func (timelessConn) SetDeadline(time.Time) error { return errNoDeadlines }

func (timelessConn) SetReadDeadline(time.Time) error { return errNoDeadlines }

func (timelessConn) SetWriteDeadline(time.Time) error { return errNoDeadlines }

var errNoDeadlines = errors.New("no deadlines")

// ownTimeout is a timeout as multiplexers have it: it matches no sentinel.
type ownTimeout struct{}

func (ownTimeout) Error() string { return "deadline reached" }

func (ownTimeout) Timeout() bool { return true }

func (ownTimeout) Temporary() bool { return true }

type ownTimeoutConn struct{ net.Conn }

func (c ownTimeoutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ownTimeout{}
	}
	return n, err
}

// lateLayer's dials fail by a timeout of its own.
type lateLayer struct{ *faultnet.Layer }

func (lateLayer) DialContext(context.Context, raftwire.ServerAddress) (net.Conn, error) {
	return nil, ownTimeout{}
}

type heedlessConn struct{ net.Conn }

func (heedlessConn) SetDeadline(time.Time) error { return nil }

func (heedlessConn) SetReadDeadline(time.Time) error { return nil }

func (heedlessConn) SetWriteDeadline(time.Time) error { return nil }

type shortConn struct{ net.Conn }

func (c shortConn) Write(p []byte) (int, error) { return c.Conn.Write(p[:len(p)/2]) }

// nilConnLayer returns a connection beside its error that is a nil pointer, as
// tls.Dial does.
type nilConnLayer struct{ net.Listener }

func (nilConnLayer) Dial(raftwire.ServerAddress, time.Duration) (net.Conn, error) {
	pause(time.Minute)
	return (*tls.Conn)(nil), errors.New("refused")
}

// addressless has no address yet.
type addressless struct{ *faultnet.Layer }

func (addressless) Addr() net.Addr { return nil }
