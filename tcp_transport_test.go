package raftwire_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

// Every request works over real sockets.
func TestTCPTransport_CarriesEveryRequest(t *testing.T) {
	a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	serve(t, b, accept)
	for kind, call := range calls {
		for range 3 {
			require.NoError(t, call(a, b.LocalAddr()), kind)
		}
	}
	require.NoError(t, openPipelineOnce(a, b.LocalAddr()))
}

// No request fails because its peer was restarted on the same port.
func TestTCPTransport_ARestartedPeerCostsNoFailedRequest(t *testing.T) {
	for _, size := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b := listenTCP(t, "127.0.0.1:0", withPool(size)), listenTCP(t, "127.0.0.1:0")
			fillPool(t, a, b, size)
			require.NoError(t, b.Close())
			serve(t, listenTCP(t, string(b.LocalAddr())), accept)
			for range size + 1 {
				require.NoError(t, appendOnce(a, b.LocalAddr()))
			}
			require.NoError(t, openPipelineOnce(a, b.LocalAddr()))
		})
	}
}

// An idle connection is used again after the deadline of its last call.
func TestTCPTransport_IdleConnOutlivesTheLastDeadline(t *testing.T) {
	var dialled []net.Conn
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{
		Bind: "127.0.0.1:0",
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			dialled = append(dialled, conn)
			return conn, err
		},
	})
	require.NoError(t, err)
	c := config()
	c.Stream = layer
	a, b := raftwire.NewNetworkTransportWithConfig(c), listenTCP(t, "127.0.0.1:0")
	defer a.Close()
	serve(t, b, accept)
	require.NoError(t, appendOnce(a, b.LocalAddr()))
	require.Len(t, dialled, 1)
	require.NoError(t, dialled[0].SetDeadline(time.Unix(1, 0)))
	require.NoError(t, openPipelineOnce(a, b.LocalAddr()), "which always looks whether a connection is alive")
	require.Len(t, dialled, 1)
}

// Bytes that arrive on an idle connection are not taken for the next answer, nor bytes
// that a wrapper has read ahead.
func TestTCPTransport_SurplusBytesAreNoAnswer(t *testing.T) {
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"as it is": func(conn *net.TCPConn) net.Conn { return conn },
		"wrapped":  func(conn *net.TCPConn) net.Conn { return aheadConn{conn, bufio.NewReader(conn)} },
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close()
			layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{
				Bind: "127.0.0.1:0",
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					return wrap(conn.(*net.TCPConn)), err
				},
			})
			require.NoError(t, err)
			a := transport(t, withStream(layer), withTimeout(10*time.Second))
			call := func(send func(raftwire.Transport, raftwire.ServerAddress) error, answer string) (net.Conn, error) {
				result := make(chan error, 1)
				go func() { result <- send(a, raftwire.ServerAddress(listener.Addr().String())) }()
				require.NoError(t, listener.(*net.TCPListener).SetDeadline(time.Now().Add(5*time.Second)))
				conn, err := listener.Accept()
				require.NoError(t, err, "the connection before was used again")
				t.Cleanup(func() { _ = conn.Close() })
				_, err = conn.Read(make([]byte, 4096))
				require.NoError(t, err)
				_, err = io.WriteString(conn, answer)
				require.NoError(t, err)
				return conn, <-result
			}
			first, err := call(appendOnce, "\xa0\xc0") // no error, no response
			require.NoError(t, err)
			_, err = io.WriteString(first, "\xa7surplus\xc0")
			require.NoError(t, err)
			_, err = call(openPipelineOnce, "\xa0\xc0") // which looks at once
			require.NoError(t, err)
			_, err = call(appendOnce, "\xa0\xc0\xa7surplus\xc0")
			require.NoError(t, err)
			_, err = call(openPipelineOnce, "\xa0\xc0")
			require.NoError(t, err)
		})
	}
}

// Close leaves no goroutine and no descriptor of 1,000 inbound connections of every
// kind, 10,000 in a long run: silent ones, some inside a message, some that wait for
// an answer. A process of its own holds the other ends, since some systems allow a
// process too few descriptors.
func TestTCPTransport_CloseLeavesNothing(t *testing.T) {
	connections := 1000
	if longRun {
		connections = 10_000
	}
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	b := listenTCP(t, "127.0.0.1:0", unlimited)
	crowd := startCrowd(t, b.LocalAddr(), connections)
	for range connections / 4 {
		require.IsType(t, &raftwire.TimeoutNowRequest{}, (<-b.Consumer()).Command)
	}
	for runtime.NumGoroutine() < goroutines+connections {
		runtime.Gosched() // the last ones are being accepted
	}

	took := elapsed(func() { require.NoError(t, b.Close()) })
	t.Logf("Close took %v with %d connections", took, connections)
	require.Less(t, took, time.Second)
	require.LessOrEqual(t, openDescriptors(t), descriptors+crowd.descriptors)
	crowd.seeClosed()
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.LessOrEqual(t, openDescriptors(t), descriptors)
}

func TestTCPTransport_BadAddressErrorSaysWhatToDo(t *testing.T) {
	taken := listenTCP(t, "127.0.0.1:0")
	for name, c := range map[string]struct {
		bind      string
		advertise net.Addr
		text      string
	}{
		"no IP":               {":0", nil, "local bind address is not advertisable: peers need an IP"},
		"every IP":            {"0.0.0.0:0", nil, "pass an advertise address"},
		"every IP advertised": {"127.0.0.1:0", &net.TCPAddr{IP: net.IPv4zero, Port: 1}, "raftwire: the advertise address 0.0.0.0:1 is not advertisable: peers need an IP"},
		"no IP advertised":    {"127.0.0.1:0", &net.TCPAddr{Port: 8300}, "raftwire: the advertise address :8300 is not advertisable: peers need an IP"},
		"no TCP address":      {"127.0.0.1:0", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, "not a TCP address: pass a *net.TCPAddr"},
		"port in use":         {string(taken.LocalAddr()), nil, "cannot bind to"},
		"no address":          {"nonsense", nil, `cannot bind to "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := raftwire.NewTCPTransport(c.bind, c.advertise, 3, time.Second, nil)
			require.ErrorContains(t, err, c.text)
		})
	}
}

func TestTCPTransport_ChecksItsConfigBeforeItBinds(t *testing.T) {
	_, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, -1, 0, nil)
	require.ErrorContains(t, err, "MaxPool is -1")
	_, err = raftwire.NewTCPTransportWithConfig(":0", nil, nil)
	require.ErrorContains(t, err, "not advertisable")
}

func TestTCPTransport_AdvertisesAnotherAddress(t *testing.T) {
	advertise := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 8300}
	trans, err := raftwire.NewTCPTransportWithLogger("0.0.0.0:0", advertise, 3, time.Second, nil)
	require.NoError(t, err)
	require.Equal(t, raftwire.ServerAddress("10.1.2.3:8300"), trans.LocalAddr())
	require.NoError(t, trans.Close())
}

// Port 0 is replaced by the port that was bound, and a nil address by the whole bound
// address.
func TestTCPTransport_AdvertisesTheBoundPort(t *testing.T) {
	anyPort := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	for name, c := range map[string]struct {
		bind      string
		advertise net.Addr
	}{
		"port 0":                    {"0.0.0.0:0", anyPort},
		"a TCP address that is nil": {"127.0.0.1:0", (*net.TCPAddr)(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			trans, err := raftwire.NewTCPTransportWithConfig(c.bind, c.advertise, config())
			require.NoError(t, err)
			defer func() { require.NoError(t, trans.Close()) }()
			serve(t, trans, accept)
			require.NoError(t, appendOnce(listenTCP(t, "127.0.0.1:0"), trans.LocalAddr()))
		})
	}
	require.Zero(t, anyPort.Port, "it is the caller's")
}

// One configuration can serve several transports.
func TestConfig_CanBeUsedTwice(t *testing.T) {
	c := config()
	c.Logger = nil
	for range 2 {
		trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, c)
		require.NoError(t, err)
		require.NotNil(t, c.Logger)
		require.Equal(t, raftwire.ServerAddress(c.Stream.Addr().String()), trans.LocalAddr())
		require.NoError(t, trans.Close())
	}
}

// The bound and the advertised address need not be the same.
func TestTCPStreamLayer_TakesNamesAndUnixSockets(t *testing.T) {
	socket := unixSocket(t)
	for name, c := range map[string]struct {
		config     raftwire.TCPConfig
		advertised string // with * for the port bound
	}{
		"an IP":                        {raftwire.TCPConfig{Bind: "127.0.0.1:0"}, "127.0.0.1:*"},
		"a name":                       {raftwire.TCPConfig{Bind: "localhost:0"}, "localhost:*"},
		"a name advertised":            {raftwire.TCPConfig{Bind: "127.0.0.1:0", Advertise: "localhost:0"}, "localhost:*"},
		"every address bound, no port": {raftwire.TCPConfig{Bind: ":", Advertise: "localhost:"}, "localhost:*"},
		"every IPv4 address bound":     {raftwire.TCPConfig{Bind: "0.0.0.0:0", Advertise: "127.0.0.1:0"}, "127.0.0.1:*"},
		"a Unix socket":                {raftwire.TCPConfig{Bind: "unix:" + socket}, "unix:" + socket},
	} {
		t.Run(name, func(t *testing.T) {
			trans := transportOver(t, newLayer(t, c.config))
			host, wildcard := strings.CutSuffix(c.advertised, "*")
			require.True(t, strings.HasPrefix(string(trans.LocalAddr()), host), trans.LocalAddr())
			require.Equal(t, wildcard, string(trans.LocalAddr()) != c.advertised)
			require.False(t, strings.HasSuffix(string(trans.LocalAddr()), ":0"))
			serve(t, trans, accept)
			for kind, call := range calls {
				require.NoError(t, call(transportOver(t, newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0"})), trans.LocalAddr()), kind)
			}
		})
	}
	require.NoFileExists(t, socket)
}

// An advertised name may not exist yet, or not on this machine.
func TestTCPStreamLayer_DoesNotResolveAnAdvertisedName(t *testing.T) {
	for advertised, network := range map[string]string{"node-1.invalid:8300": "tcp", "unix:/proxy/raft": "unix"} {
		layer := newLayer(t, raftwire.TCPConfig{Bind: ":0", Advertise: advertised})
		require.Equal(t, advertised, layer.Addr().String())
		require.Equal(t, network, layer.Addr().Network())
		require.NoError(t, layer.Close())
	}
}

func TestTCPStreamLayer_RefusesAddressesThatPeersCannotDial(t *testing.T) {
	const advice = `: set Advertise to the "host:port" where peers reach this node, by name or IP`
	for text, config := range map[string]raftwire.TCPConfig{
		`Bind ":0" is not advertisable, since it names no host` + advice:             {Bind: ":0"},
		`Bind "0.0.0.0:0" is not advertisable, since it names no host` + advice:      {Bind: "0.0.0.0:0"},
		`Bind "[::]:0" is not advertisable, since it names no host` + advice:         {Bind: "[::]:0"},
		`Advertise ":8300" is not advertisable, since it names no host` + advice:     {Bind: ":0", Advertise: ":8300"},
		`Advertise is "node-1": use "host:port" or "unix:path": address node-1: mis`: {Bind: ":0", Advertise: "node-1"},
		`cannot bind to "node-1": listen tcp: address node-1: missing port`:          {Bind: "node-1"},
		`cannot bind to "unix:": the path of a socket must follow`:                   {Bind: "unix:"},
		`Advertise is "unix:": the path of a socket must follow`:                     {Bind: ":0", Advertise: "unix:"},
		`cannot bind to "unix:/nowhere/socket"`:                                      {Bind: "unix:/nowhere/socket"},
	} {
		_, err := raftwire.NewTCPStreamLayer(config)
		require.ErrorContains(t, err, text)
	}
}

// A killed process leaves its socket behind. The next one replaces it, but not the
// socket of a live process.
func TestTCPStreamLayer_ReplacesAnAbandonedUnixSocket(t *testing.T) {
	path := unixSocket(t)
	killed, err := net.Listen("unix", path)
	require.NoError(t, err)
	killed.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false) // which Plan 9 does not have
	require.NoError(t, killed.Close())
	require.FileExists(t, path)

	alive := newLayer(t, raftwire.TCPConfig{Bind: "unix:" + path})
	defer func() { require.NoError(t, alive.Close()) }()
	_, err = raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "unix:" + path})
	require.ErrorIs(t, err, errno.AddressInUse)
	conn, err := alive.Dial("unix:"+raftwire.ServerAddress(path), time.Minute)
	require.NoError(t, err, "the living one was replaced")
	require.NoError(t, conn.Close())
}

// A file that is no socket stays.
func TestTCPStreamLayer_ReplacesNoFile(t *testing.T) {
	path := unixSocket(t)
	require.NoError(t, os.WriteFile(path, []byte("data"), 0o600))
	_, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "unix:" + path})
	require.ErrorContains(t, err, "address already in use")
	require.FileExists(t, path)
}

// Each dial resolves the name, so that a peer may move.
func TestTCPStreamLayer_ResolvesANameAtEachDial(t *testing.T) {
	first, second := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	serve(t, first, accept)
	serve(t, second, accept)
	table := map[string]string{"node-2:8300": string(first.LocalAddr())} // what a resolver does
	layer := newLayer(t, raftwire.TCPConfig{
		Bind: "127.0.0.1:0",
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, table[address])
		},
	})
	trans := transportOver(t, layer)
	require.NoError(t, appendOnce(trans, "node-2:8300"))
	require.NoError(t, first.Close())
	table["node-2:8300"] = string(second.LocalAddr())
	require.NoError(t, appendOnce(trans, "node-2:8300"))
}

// The program's dialer chooses where connections come from.
func TestTCPStreamLayer_UsesTheGivenDialer(t *testing.T) {
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, reserved.Close())
	dialer := &net.Dialer{LocalAddr: reserved.Addr()}
	layer := newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0", Dial: dialer.DialContext})
	defer func() { require.NoError(t, layer.Close()) }()
	conn, err := layer.Dial(raftwire.ServerAddress(layer.Addr().String()), time.Minute)
	require.NoError(t, err)
	require.Equal(t, reserved.Addr().String(), conn.LocalAddr().String())
	require.NoError(t, conn.Close())
}

// The stream layer has a Dial of its own, which the transport does not use.
func TestTCPStreamLayer_Dials(t *testing.T) {
	c := config()
	trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, c)
	require.NoError(t, err)
	conn, err := c.Stream.Dial(trans.LocalAddr(), time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, trans.Close())
}

// aheadConn has read more than it has returned.
type aheadConn struct {
	*net.TCPConn
	ahead *bufio.Reader
}

func (c aheadConn) Read(p []byte) (int, error) { return c.ahead.Read(p[:min(len(p), 2)]) }

// crowdProcess is a process that holds raw connections to a transport.
type crowdProcess struct {
	t           *testing.T
	descriptors int // that it costs this process
	command     *exec.Cmd
	says        *bufio.Scanner
}

func (p *crowdProcess) expect(line string) {
	p.t.Helper()
	require.True(p.t, p.says.Scan(), "the crowd has left")
	require.Equal(p.t, line, p.says.Text())
}

// seeClosed checks that the crowd sees all of its connections closed.
func (p *crowdProcess) seeClosed() {
	p.t.Helper()
	p.expect("closed")
	require.NoError(p.t, p.command.Wait())
}

func startCrowd(t *testing.T, addr raftwire.ServerAddress, connections int) *crowdProcess {
	t.Helper()
	before := openDescriptors(t)
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", crowdEnv, addr, connections))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	p := &crowdProcess{t: t, command: command, says: bufio.NewScanner(out)}
	p.expect("connected")
	p.descriptors = openDescriptors(t) - before
	return p
}

// openDescriptors counts the process's descriptors where the system tells.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	return len(entries)
}

// unixSocket returns a path that is short enough for one.
func unixSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "raftwire")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "socket")
}

// longRun makes some tests larger than most machines like. RAFTWIRE_LONG=1 in the
// environment switches it on.
var longRun = os.Getenv("RAFTWIRE_LONG") != ""
