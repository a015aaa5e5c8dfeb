package raftwire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Every call ends at its deadline exactly, and the transport works afterwards.
func TestCall_EndsByItsDeadline(t *testing.T) {
	obstacles := map[string]func(t *testing.T, net *faultnet.Network, b *raftwire.NetworkTransport){
		"nobody answers":      func(t *testing.T, _ *faultnet.Network, b *raftwire.NetworkTransport) { serve(t, b, never) },
		"nobody consumes":     func(*testing.T, *faultnet.Network, *raftwire.NetworkTransport) {},
		"dialling hangs":      func(_ *testing.T, net *faultnet.Network, _ *raftwire.NetworkTransport) { net.Partition("a", "b") },
		"answers do not come": func(_ *testing.T, net *faultnet.Network, _ *raftwire.NetworkTransport) { net.Link("b", "a").Cut() },
	}
	for kind, call := range calls {
		for obstacle, obstruct := range obstacles {
			if kind == "InstallSnapshot" && obstacle != "dialling hangs" {
				continue // bounded by progress: see snapshot_test.go
			}
			t.Run(kind+" when "+obstacle, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					a, b := listen(t, net, "a"), listen(t, net, "b")
					obstruct(t, net, b)
					var err error
					require.Equal(t, testTimeout, elapsed(func() { err = call(a, "b") }))
					requireTimeout(t, err)
					net.Heal()
				})
			})
		}
	}
}

func TestCall_DeadlineCoversDialAndIO(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, never)
		net.Link("a", "b").SetLatency(200 * time.Millisecond)
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, appendOnce(a, "b")) }))
	})
}

func TestCall_WithoutTimeoutEndsOnClose(t *testing.T) {
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withTimeout(0)), listen(t, net, "b")
				serve(t, b, never)
				result := make(chan error, 1)
				go func() { result <- call(a, "b") }()
				timer := time.NewTimer(time.Hour)
				<-timer.C
				require.Empty(t, result)
				require.LessOrEqual(t, elapsed(func() {
					require.NoError(t, a.Close())
					require.True(t, <-result == raftwire.ErrTransportShutdown)
				}), prompt)
			})
		})
	}
}

// Close ends calls in flight, wherever they are.
func TestClose_EndsCallsInFlight(t *testing.T) {
	for _, state := range []string{"dialling", "waiting for the answer"} {
		for kind, call := range calls {
			t.Run(kind+" "+state, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					a, b := listen(t, net, "a"), listen(t, net, "b")
					serve(t, b, never)
					if state == "dialling" {
						net.Partition("a", "b")
					}
					result := make(chan error, 1)
					go func() { result <- call(a, "b") }()
					synctest.Wait()
					require.LessOrEqual(t, elapsed(func() {
						require.NoError(t, a.Close())
						require.True(t, <-result == raftwire.ErrTransportShutdown)
					}), prompt)
					net.Heal()
				})
			})
		}
	}
}

func TestClose_RefusesLaterCalls(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		require.NoError(t, appendOnce(a, "b")) // leaves an idle connection
		require.False(t, a.IsShutdown())
		for range 2 {
			require.NoError(t, a.Close())
			require.True(t, a.IsShutdown())
			for kind, call := range calls {
				require.True(t, call(a, "b") == raftwire.ErrTransportShutdown, kind)
			}
			_, err := a.AppendEntriesPipeline("b", "b")
			require.True(t, err == raftwire.ErrTransportShutdown)
		}
	})
}

// After Close no request reaches a consumer or a heartbeat handler.
func TestClose_DeliversNothingAfterwards(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		result := make(chan error, 1)
		go func() { result <- appendOnce(a, "b") }()
		synctest.Wait() // the request is at b, and nobody takes it
		require.NoError(t, b.Close())
		require.Error(t, <-result)
		b.SetHeartbeatHandler(func(raftwire.RPC) { t.Error("a heartbeat was delivered") })
		require.Error(t, heartbeat(a, "b"))
		select {
		case rpc := <-b.Consumer():
			t.Errorf("delivered after Close: %+v", rpc.Command)
		default:
		}
	})
}

// Close may be called by a handler whose goroutine Close waits for. Then it returns an
// error that says so.
func TestClose_MayComeFromAHeartbeatHandler(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		closed := make(chan error, 1)
		b.SetHeartbeatHandler(func(rpc raftwire.RPC) { closed <- b.Close() })
		require.Error(t, heartbeat(a, "b"))
		require.ErrorContains(t, <-closed, "have not ended")
		synctest.Wait()
		require.NoError(t, b.Close())
	})
}

func TestClose_IsSafeFromManyGoroutines(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		done := make(chan error)
		for range 20 {
			go func() { _ = appendOnce(a, "b"); done <- a.Close() }()
		}
		for range 20 {
			require.NoError(t, <-done)
		}
	})
}

// CloseStreams ends connections of every kind at the side that calls it, and new ones
// work at once.
func TestCloseStreams_EndsEveryConn(t *testing.T) {
	for _, side := range []string{"outgoing", "inbound"} {
		t.Run(side, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				busy := make(chan error, 1)
				go func() { busy <- appendOnce(a, "b") }() // checked out
				<-b.Consumer()
				p := openPipeline(t, a, "b")
				futures := send(t, p, 1)
				<-b.Consumer()
				idle, err := net.Host("a").Dial(t.Context(), "b") // never says anything
				require.NoError(t, err)
				defer func() { require.NoError(t, idle.Close()) }()
				synctest.Wait()

				closing := a
				if side == "inbound" {
					closing = b
				}
				require.LessOrEqual(t, elapsed(func() {
					closing.CloseStreams()
					require.Error(t, <-busy)
					requireFailed(t, futures, nil)
				}), prompt)
				if side == "inbound" {
					_, err := idle.Read(make([]byte, 1))
					require.ErrorIs(t, err, io.EOF)
				}
				serve(t, b, accept)
				require.NoError(t, appendOnce(a, "b"))
				require.NoError(t, openPipelineOnce(a, "b"))
			})
		})
	}
}

// A connection that was dialled before CloseStreams is not used after it.
func TestCloseStreams_DropsAConnDialledBefore(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		net.Link("a", "b").SetLatency(50 * time.Millisecond)
		result := make(chan error, 1)
		go func() { result <- appendOnce(a, "b") }()
		synctest.Wait()
		a.CloseStreams()
		require.NoError(t, <-result)
	})
}

// If a configuration is wrong, every call fails with an error that says what to do.
func TestConfig_ErrorSaysWhatToDo(t *testing.T) {
	bad := map[string]*raftwire.NetworkTransportConfig{
		"Stream is nil: set it to a StreamLayer":                                        config(),
		"MaxPool is -1: use 0 to keep no idle connections":                              withLayer(withPool(-1)),
		"Timeout is -1s: use 0 for no limit":                                            withLayer(withTimeout(-time.Second)),
		"RestoreTimeout is -1ns: use 0 for the default":                                 withLayer(func(c *raftwire.NetworkTransportConfig) { c.RestoreTimeout = -1 }),
		"MaxDispatchAhead is -2: use 0 for the default, or 1 for one request at a time": withLayer(func(c *raftwire.NetworkTransportConfig) { c.MaxDispatchAhead = -2 }),
		"MaxMessageBytes is -1: use 0 for no limit":                                     withLayer(func(c *raftwire.NetworkTransportConfig) { c.MaxMessageBytes = -1 }),
		"SnapshotStallTimeout is -1ns: use 0 for the default":                           withLayer(func(c *raftwire.NetworkTransportConfig) { c.SnapshotStallTimeout = -1 }),
		"MaxSnapshotBytesPerSecond is 8: use 0 for no limit, or 8192 at least":          withLayer(func(c *raftwire.NetworkTransportConfig) { c.MaxSnapshotBytesPerSecond = 8 }),
		"MaxSnapshotBytesPerSecond is -1: use 0 for no limit":                           withLayer(func(c *raftwire.NetworkTransportConfig) { c.MaxSnapshotBytesPerSecond = -1 }),
	}
	for advice, c := range bad {
		t.Run(advice, func(t *testing.T) {
			var log bytes.Buffer
			withLog(&log)(c)
			trans := raftwire.NewNetworkTransportWithConfig(c)
			if layer, given := c.Stream.(*plainLayer); given {
				require.True(t, layer.Closed, "peers would wait to be accepted")
			}
			require.ErrorContains(t, appendOnce(trans, "b"), advice)
			require.ErrorContains(t, installSnapshot(trans, "b", ""), advice)
			_, err := trans.AppendEntriesPipeline("b", "b")
			require.ErrorContains(t, err, advice)
			require.Contains(t, log.String(), advice)
			require.True(t, trans.IsShutdown())
			require.NoError(t, trans.Close())
			trans.CloseStreams()
			trans.LocalAddr()
		})
	}
	t.Run("nil configuration", func(t *testing.T) {
		trans := raftwire.NewNetworkTransportWithConfig(nil)
		require.ErrorContains(t, appendOnce(trans, "b"), "Stream is nil")
	})
}

// A request that could make the peer fail is not sent.
func TestCall_RefusesABadRequestBeforeItIsSent(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		listen(t, net, "b")
		args := &raftwire.AppendEntriesRequest{Entries: []*raftwire.Log{{}, nil}}
		err := a.AppendEntries("b", "b", args, new(raftwire.AppendEntriesResponse))
		require.ErrorContains(t, err, "AppendEntries to b: nil entry: Entries[1] must be set")
		_, err = openPipeline(t, a, "b").AppendEntries(args, new(raftwire.AppendEntriesResponse))
		require.ErrorContains(t, err, "Entries[1] must be set")
		err = a.InstallSnapshot("b", "b", &raftwire.InstallSnapshotRequest{Size: -1}, new(raftwire.InstallSnapshotResponse), nil)
		require.ErrorContains(t, err, "Size is -1")
		_, err = install(a, 100, nil)
		require.ErrorContains(t, err, "InstallSnapshot to b: nil reader: data must yield the 100 bytes of Size")
	})
}

func TestErrors_CarryOperationPeerAndCause(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		cause := errors.New("no route")
		failing := config()
		failing.Stream = &plainLayer{Dials: func() (net_, error) { return nil, cause }}
		trans := raftwire.NewNetworkTransportWithConfig(failing)
		defer func() { require.NoError(t, trans.Close()) }()
		for kind, call := range calls {
			err := call(trans, "b")
			require.ErrorIs(t, err, cause)
			require.EqualError(t, err, kind+" to b: dial: no route")
		}
		_ = a
	})
}

// A Dial that ignores its timeout holds up no call and not Close. The connection that
// it brings is closed.
func TestDial_ThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New(1)
		_, err := network.Host("b").Listen()
		require.NoError(t, err)
		dialled := make(chan struct{})
		c := config()
		c.Stream = &plainLayer{Dials: func() (net.Conn, error) {
			<-dialled
			return network.Host("a").Dial(context.Background(), "b")
		}}
		trans := raftwire.NewNetworkTransportWithConfig(c)
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, appendOnce(trans, "b")) }))

		result := make(chan error, 1)
		go func() { result <- appendOnce(trans, "b") }()
		synctest.Wait()
		require.NoError(t, trans.Close())
		require.True(t, <-result == raftwire.ErrTransportShutdown)
		close(dialled)
		synctest.Wait()
		require.Equal(t, 2, network.OpenConns(), "the ends that b has not accepted")
	})
}

// A failing Accept is tried again after growing delays, up to one second.
func TestAccept_BacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		c := config()
		c.Stream = &plainLayer{Accepts: func() (net.Conn, error) {
			at = append(at, time.Since(start))
			return nil, errors.New("too many open files")
		}}
		trans := raftwire.NewNetworkTransportWithConfig(c)
		timer := time.NewTimer(4 * time.Second)
		<-timer.C
		require.NoError(t, trans.Close())
		var want []time.Duration
		for at, pause := time.Duration(0), 5*time.Millisecond; at <= 4*time.Second; {
			want = append(want, at)
			at += pause
			pause = min(2*pause, time.Second)
		}
		require.Equal(t, want, at)
	})
}

// A larger request ends its connection, and the log says why.
func TestMaxMessageBytes_RefusesALargerRequest(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		b := listen(t, net, "b", withLog(&log), func(c *raftwire.NetworkTransportConfig) { c.MaxMessageBytes = 10_000 })
		serve(t, b, accept)
		args := appendRequest(1)
		args.Entries[0].Data = make([]byte, 9_000)
		require.NoError(t, a.AppendEntries("b", "b", args, new(raftwire.AppendEntriesResponse)))
		require.NoError(t, installSnapshot(a, "b", strings.Repeat("x", 100_000)), "bodies do not count")
		args.Entries[0].Data = make([]byte, 10_000)
		require.Error(t, a.AppendEntries("b", "b", args, new(raftwire.AppendEntriesResponse)))
		require.NoError(t, appendOnce(a, "b"))
		require.NoError(t, b.Close())
	})
	require.Contains(t, log.String(), "is over MaxMessageBytes, which is 10000")
}

// The error names the foreign protocol that answers. If the peer hangs up on the first
// request, the error says where to look.
func TestCall_NamesAForeignProtocol(t *testing.T) {
	const noAnswer = "the peer closed the connection without an answer: its log says why (does it want TLS, or a Mux key?): "
	for name, c := range map[string]struct {
		answer string
		leave  func(net_)
		text   string
	}{
		"SSH":       {"SSH-2.0-OpenSSH_9.9\r\n", waitAndClose, "this is no Raft peer's answer: it looks like an SSH server"},
		"HTTP":      {"HTTP/1.1 400 Bad Request\r\n", waitAndClose, "this is no Raft peer's answer: it looks like an HTTP response"},
		"TLS":       {"\x15\x03\x01\x00\x02\x02\x46", waitAndClose, "this is no Raft peer's answer: it looks like a TLS alert"},
		"something": {"\x07", waitAndClose, "this is no Raft peer's answer: found an integer (0x07), not a byte string"},
		"goodbye":   {"", closeNow, noAnswer},
		"a reset":   {"", resetNow, noAnswer},
		"half":      {"\xa0", closeNow, ": unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				var closed error // why the last connection was
				a := listen(t, net, "a", func(config *raftwire.NetworkTransportConfig) {
					config.Hooks.ConnClosed = func(e raftwire.ConnEvent) { closed = e.Err }
				})
				serveForeign(t, net, "b", func(conn net_) {
					_, _ = io.WriteString(conn, c.answer)
					c.leave(conn)
				})
				for kind, call := range calls {
					require.ErrorContains(t, call(a, "b"), c.text, kind)
				}
				err := appendTo(openPipeline(t, a, "b"))
				require.ErrorContains(t, err, c.text)
				require.Equal(t, name == "goodbye", errors.Is(err, io.EOF))
				require.Equal(t, name == "goodbye", closed == io.EOF, closed)
			})
		})
	}
}

// Once a connection has brought an answer, no error of it speaks of a foreign
// protocol.
func TestCall_TakesAConnThatAnsweredForAPeer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		fillPool(t, a, b, 1)
		future := send(t, openPipeline(t, a, "b"), 1)[0]
		<-b.Consumer()
		b.CloseStreams()
		require.EqualError(t, future.Error(), "AppendEntries to b: EOF")
	})
}

// Inside a message the peer has to make progress. Between messages it may be silent
// for ever.
func TestSession_EndsAfterAHalfSentRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		serve(t, listen(t, net, "b"), accept)
		conn, err := net.Host("a").Dial(t.Context(), "b")
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		introduce(t, conn)
		pause(24 * time.Hour)
		for _, part := range []string{"\x03", "\x83", "\xa4Addr", "\xc0", "\xa2ID\xc0\xafProtocolVersion\x03"} {
			pause(testTimeout - 1) // each is progress
			_, err := io.WriteString(conn, part)
			require.NoError(t, err)
		}
		_, err = conn.Read(make([]byte, 100))
		require.NoError(t, err, "the request was not answered")
		_, err = io.WriteString(conn, "\x03\x83\xa4")
		require.NoError(t, err)
		require.Equal(t, testTimeout, elapsed(func() {
			_, err = conn.Read(make([]byte, 100))
			require.ErrorIs(t, err, io.EOF)
		}))
	})
}

// An idle inbound connection costs one goroutine and at most 8 KiB, also after a large
// request.
func TestIdleConn_CostsLittle(t *testing.T) {
	const connections = 1000
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", withLimits(-1, -1))
		b.SetHeartbeatHandler(accept)
		request := largeHeartbeat(t, net)
		before, goroutines := liveHeap(), runtime.NumGoroutine()
		conns := make([]net_, connections)
		answer := make([]byte, 4096)
		for i := range conns {
			conn, err := net.Host("a").Dial(t.Context(), "b")
			require.NoError(t, err)
			_, err = conn.Write(request)
			require.NoError(t, err)
			_, err = conn.Read(answer)
			require.NoError(t, err)
			conns[i] = conn
		}
		timer := time.NewTimer(time.Minute)
		<-timer.C
		synctest.Wait()
		require.LessOrEqual(t, (liveHeap()-before)/connections, uint64(8<<10), "bytes for each, the network's own included")
		require.Equal(t, connections, runtime.NumGoroutine()-goroutines)
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
	})
}

// The older constructors make the same transport.
func TestConstructors_MakeTheSameTransport(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		layer := hostLayer(t, net, "a")
		trans := raftwire.NewNetworkTransport(layer, 3, testTimeout, io.Discard)
		require.Equal(t, raftwire.ServerAddress("a"), trans.LocalAddr())
		require.Equal(t, raftwire.DefaultTimeoutScale, trans.TimeoutScale)
		require.NoError(t, trans.Close())
		layer = hostLayer(t, net, "a")
		trans = raftwire.NewNetworkTransportWithLogger(layer, 3, testTimeout, nil)
		require.NoError(t, trans.Close())
	})
}

func TestClose_ComesBeforePipeliningNotSupported(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a", withWindow(1))
		_, err := a.AppendEntriesPipeline("b", "b")
		require.Equal(t, raftwire.ErrPipelineReplicationNotSupported, err)
		require.NoError(t, a.Close())
		_, err = a.AppendEntriesPipeline("b", "b")
		require.Equal(t, raftwire.ErrTransportShutdown, err)
	})
}

// If somebody else closes the listener, the transport logs it once.
func TestAccept_LogsAClosedListenerOnce(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		layer := hostLayer(t, net, "a")
		trans := raftwire.NewNetworkTransportWithConfig(config(withStream(layer), withLog(&log)))
		require.NoError(t, layer.Close())
		pause(time.Minute)
		require.NoError(t, trans.Close())
	})
	require.Len(t, linesWith(log.String(), "[ERROR]", "closed by somebody else"), 1)
	require.Len(t, linesWith(log.String(), "[ERROR]"), 1)
}

// As in hashicorp/raft, a transport without a logger writes to hclog's default.
func TestLogger_DefaultsToHclogs(t *testing.T) {
	var log bytes.Buffer
	defer func(before io.Writer) { hclog.DefaultOutput = before }(hclog.DefaultOutput)
	hclog.DefaultOutput = &log
	require.NoError(t, raftwire.NewNetworkTransportWithConfig(nil).Close())
	require.Contains(t, log.String(), "transport not started")
}

func withLayer(o option) *raftwire.NetworkTransportConfig {
	c := config(o)
	c.Stream = &plainLayer{}
	return c
}

// largeHeartbeat returns the bytes of a heartbeat that makes an input buffer grow.
func largeHeartbeat(t *testing.T, net *faultnet.Network) []byte {
	t.Helper()
	var request []byte
	net.Tap(func(from, _ string, data []byte) {
		if from == "sender" {
			request = append(request, data...)
		}
	})
	defer net.Tap(nil)
	sender := listen(t, net, "sender", withPool(0))
	args := &raftwire.AppendEntriesRequest{RPCHeader: raftwire.RPCHeader{Addr: make([]byte, 50_000)}, Term: 7}
	require.NoError(t, sender.AppendEntries("b", "b", args, new(raftwire.AppendEntriesResponse)))
	require.NoError(t, sender.Close())
	synctest.Wait()
	return request
}
