package raftwire_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// Both ends give up a peer that is gone without a word within a minute. See tcp(7) for
// the options.
func TestTCPSockets_GiveUpADeadPeer(t *testing.T) {
	const tcpUserTimeout = 0x12
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: 7 * time.Second, Interval: 8 * time.Second, Count: 9}
	for name, c := range map[string]struct {
		config raftwire.TCPConfig
		want   map[int]int
	}{
		"by default": {raftwire.TCPConfig{}, map[int]int{
			syscall.TCP_KEEPIDLE: 15, syscall.TCP_KEEPINTVL: 15, syscall.TCP_KEEPCNT: 3, tcpUserTimeout: 45_000,
		}},
		"as configured": {raftwire.TCPConfig{KeepAlive: keepAlive, UserTimeout: 90 * time.Second}, map[int]int{
			syscall.TCP_KEEPIDLE: 7, syscall.TCP_KEEPINTVL: 8, syscall.TCP_KEEPCNT: 9, tcpUserTimeout: 90_000,
		}},
		"without a limit": {raftwire.TCPConfig{UserTimeout: -1}, map[int]int{tcpUserTimeout: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Bind = "127.0.0.1:0"
			layer := newLayer(t, c.config)
			defer func() { require.NoError(t, layer.Close()) }()
			for _, end := range []func() (net.Conn, error){
				func() (net.Conn, error) { return layer.Dial(raftwire.ServerAddress(layer.Addr().String()), 0) },
				layer.Accept,
			} {
				conn, err := end()
				require.NoError(t, err)
				requireOptions(t, conn, c.want)
				require.NoError(t, conn.Close())
			}
		})
	}
}

// The end of a caller is noticed behind more bytes than are read ahead, and its
// requests are withdrawn.
func TestSession_NoticesTheEndOfACallerThatSentMuch(t *testing.T) {
	for name, layerOver := range map[string]func(t *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer{
		"on a port of its own": func(_ *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer { return tcp },
		"on a shared port": func(t *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer {
			mux, err := layers.NewMux(layers.MuxConfig{Listener: tcp})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, mux.Close()) })
			return layerOf(t, mux, layers.Unprefixed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			b := transportOver(t, layerOver(t, newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0"})), withTimeout(time.Second), withHooks(raftwire.Hooks{
				ConnClosed: func(e raftwire.ConnEvent) { ended <- e.Err },
			}))
			caller, err := net.Dial("tcp", string(b.LocalAddr()))
			require.NoError(t, err)
			_, err = io.WriteString(caller, strings.Repeat("\x03\x80", 20<<10)) // more than is read ahead
			require.NoError(t, err)
			require.NoError(t, caller.Close())
			select {
			case err := <-ended:
				require.ErrorIs(t, err, io.EOF)
			case <-time.NewTimer(10 * time.Second).C:
				t.Fatal("nobody misses the caller")
			}
			select {
			case <-b.Consumer():
				t.Error("a request was handed over")
			default:
			}
		})
	}
}

// The transport's own clocks decide when to give a peer up: the socket's limit is
// raised to what they allow, whatever is between the transport and the socket.
func TestTCPUserTimeout_IsNeverShorterThanTimeouts(t *testing.T) {
	const tcpUserTimeout = 0x12
	ms := func(d time.Duration) int { return int(d.Milliseconds()) }
	for name, c := range map[string]struct {
		timeout        time.Duration
		call, snapshot int
	}{
		"a short Timeout": {10 * time.Second, 45_000, ms(time.Minute + 100*time.Second)},
		"a long Timeout":  {5 * time.Minute, ms(5 * time.Minute), ms(5*time.Minute + 50*time.Minute)},
		"no Timeout":      {0, 0, 0},
	} {
		for via, layer := range map[string]func(t *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer{
			"TCP": func(_ *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer { return tcp },
			"TLS": func(t *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer {
				return overTLS(t, tcp, testca.New())
			},
			"Mux": func(t *testing.T, tcp raftwire.StreamLayer) raftwire.StreamLayer {
				mux, err := layers.NewMux(layers.MuxConfig{Listener: tcp})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, mux.Close()) })
				return layerOf(t, mux, layers.Unprefixed())
			},
		} {
			t.Run(name+" over "+via, func(t *testing.T) {
				sockets := &sockets{StreamLayer: newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0"})}
				a := transportOver(t, layer(t, sockets), withTimeout(c.timeout))
				serve(t, a, accept) // a node that calls itself has both ends
				require.NoError(t, appendOnce(a, a.LocalAddr()))
				for _, conn := range sockets.take() {
					requireOptions(t, conn, map[int]int{tcpUserTimeout: c.call})
				}
				var got []net.Conn
				err := a.InstallSnapshot("b", a.LocalAddr(), &raftwire.InstallSnapshotRequest{Size: 1}, new(raftwire.InstallSnapshotResponse),
					readerFunc(func(p []byte) (int, error) {
						if got == nil {
							got = sockets.take()
							requireOptions(t, got[0], map[int]int{tcpUserTimeout: c.snapshot})
						}
						p[0] = 'x'
						return 1, io.EOF
					}))
				require.NoError(t, err)
				require.NotEmpty(t, got)
			})
		}
	}
}

// A core that does not read its snapshot shuts the window. Then the socket of either
// end must not be the one to give up.
func TestTCPUserTimeout_AllowsAStallOfASnapshot(t *testing.T) {
	const size, tcpUserTimeout = 64 << 20, 0x12
	patience := time.Minute + size/raftwire.DefaultTimeoutScale*10*time.Second // SnapshotStallTimeout, and the restore
	listen := func() (*sockets, *raftwire.NetworkTransport) {
		s := &sockets{StreamLayer: newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0"})}
		return s, transportOver(t, s)
	}
	atA, a := listen()
	atB, b := listen()
	ended := make(chan error, 1)
	go func() {
		args := &raftwire.InstallSnapshotRequest{Size: size}
		ended <- a.InstallSnapshot("b", b.LocalAddr(), args, new(raftwire.InstallSnapshotResponse), zeros{})
	}()
	rpc := <-b.Consumer()
	sending, receiving := atA.take()[0], atB.take()[0]
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !isWindowShut(t, sending) {
		<-look.C
	}
	for _, end := range []net.Conn{sending, receiving} {
		requireOptions(t, end, map[int]int{tcpUserTimeout: int(patience.Milliseconds())})
	}
	accept(rpc)
	require.NoError(t, <-ended)
}

func requireOptions(t *testing.T, conn net.Conn, want map[int]int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		for option, value := range want {
			got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option)
			require.NoError(t, err)
			require.Equal(t, value, got, "option %d", option)
		}
	}))
}

// isWindowShut reports whether a socket has bytes to send that the other end's window
// holds back.
func isWindowShut(t *testing.T, conn net.Conn) (shut bool) {
	const unsentBytes = 0x894b // SIOCOUTQNSD; for SIOCOUTQ see tcp(7)
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	queued := func(fd uintptr, which uintptr) (n int32) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, which, uintptr(unsafe.Pointer(&n)))
		require.Zero(t, errno)
		return n
	}
	require.NoError(t, raw.Control(func(fd uintptr) {
		unsent := queued(fd, unsentBytes)
		shut = unsent >= 64<<10 && queued(fd, syscall.TIOCOUTQ) == unsent
	}))
	return shut
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// sockets is a layer that remembers its connections, dialled ones first.
type sockets struct {
	raftwire.StreamLayer
	mu               sync.Mutex // protects following
	dialed, accepted []net.Conn
}

func (s *sockets) Dial(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := s.StreamLayer.Dial(addr, timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialed = append(s.dialed, conn)
	return conn, err
}

func (s *sockets) Accept() (net.Conn, error) {
	conn, err := s.StreamLayer.Accept()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.accepted = append(s.accepted, conn)
	}
	return conn, err
}

func (s *sockets) take() []net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(s.dialed, s.accepted...)
	s.dialed, s.accepted = nil, nil
	return all
}
