package testnode

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Dialer counts the dials of a layer, and can make them slow or hang.
type Dialer struct {
	*faultnet.Layer
	Takes    time.Duration
	Hangs    atomic.Bool // until the dial's context ends
	Begun    atomic.Int32
	UnderWay atomic.Int32
}

func (d *Dialer) DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error) {
	d.Begun.Add(1)
	d.UnderWay.Add(1)
	defer d.UnderWay.Add(-1)
	var slow <-chan time.Time
	if !d.Hangs.Load() {
		slow = time.NewTimer(max(1, d.Takes)).C
	}
	select {
	case <-slow:
		return d.Layer.DialContext(ctx, addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *Dialer) Dial(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, addr)
}

// PlainLayer is a StreamLayer without DialContext, as applications write them.
type PlainLayer struct {
	Dials   func() (net.Conn, error)
	Accepts func() (net.Conn, error)
	Closed  bool
}

func (l *PlainLayer) Accept() (net.Conn, error) {
	if l.Accepts != nil {
		return l.Accepts()
	}
	return nil, errors.New("nobody comes")
}

func (l *PlainLayer) Close() error { l.Closed = true; return nil }

func (l *PlainLayer) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (l *PlainLayer) Dial(raftwire.ServerAddress, time.Duration) (net.Conn, error) {
	return l.Dials()
}

// DialRaw connects a host without a transport to b.
func DialRaw(t *testing.T, network *faultnet.Network, from string) net.Conn {
	t.Helper()
	conn, err := network.Host(from).Dial(t.Context(), "b")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Say writes to a raw connection.
func Say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

// Introduce makes a raw connection a peer's: it sends the smallest request, and reads
// the answer.
func Introduce(t *testing.T, conn net.Conn) {
	t.Helper()
	Say(t, conn, "\x03\x80")
	_, err := conn.Read(make([]byte, 100))
	require.NoError(t, err)
}

// IsOpen reports whether a connection is open and has nothing to read.
func IsOpen(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(1))
	_, err := conn.Read(make([]byte, 1))
	_ = conn.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}
