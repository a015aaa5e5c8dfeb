package raftwire_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

func TestInstallSnapshot_ArrivesUnchanged(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 128 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				body := bytes.Repeat([]byte("snapshot"), size/8+1)[:size]
				serve(t, b, func(rpc raftwire.RPC) {
					got, err := io.ReadAll(rpc.Reader)
					rpc.Respond(&raftwire.InstallSnapshotResponse{Success: bytes.Equal(got, body)}, err)
				})
				resp, err := install(a, int64(size), iotest.HalfReader(bytes.NewReader(body)))
				require.NoError(t, err)
				require.True(t, resp.Success)
			})
		})
	}
}

// A busy core takes a snapshot late, and reads it at once. Nobody else may read then,
// not even to see whether the caller is still there. The race detector finds that
// about once in 14 runs.
func TestInstallSnapshot_TakenLateArrivesUnchanged(t *testing.T) {
	for range 50 {
		testLateSnapshot(t)
	}
}

// A snapshot is withdrawn whether its sender has sent all of it or not.
func TestInstallSnapshot_OfASenderThatHasGoneIsWithdrawn(t *testing.T) {
	const size = 10_000
	for name, sent := range map[string]int{"all of it": size, "half of it": size / 2, "nothing of it": 0} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				ended := make(chan error, 1)
				stop := make(chan struct{})
				go func() {
					_, err := install(a, size, io.MultiReader(strings.NewReader(strings.Repeat("s", sent)), &endlessWait{stop}))
					ended <- err
				}()
				pause(time.Second) // the core is busy
				close(stop)
				require.NoError(t, a.Close())
				require.Error(t, <-ended)
				pause(testTimeout)
				select {
				case rpc := <-b.Consumer():
					t.Errorf("%T was handed over", rpc.Command)
				default:
				}
			})
		})
	}
}

// Programs compress a snapshot on the way: then Size is the size before that.
func TestInstallSnapshot_SendsWhatTheReaderYields(t *testing.T) {
	want := bytes.Repeat([]byte("snapshot "), 100_000)
	for name, install := range map[string]func(t *testing.T) (a, b raftwire.Transport){
		"network": func(t *testing.T) (a, b raftwire.Transport) {
			net := faultnet.New(1)
			return listen(t, net, "a"), listen(t, net, "b")
		},
		"memory": func(t *testing.T) (a, b raftwire.Transport) { return inmemPair(t) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := install(t)
				serve(t, b, func(rpc raftwire.RPC) {
					got, err := io.ReadAll(flate.NewReader(rpc.Reader))
					rpc.Respond(&raftwire.InstallSnapshotResponse{Success: bytes.Equal(got, want)}, err)
				})
				took := elapsed(func() {
					resp, err := installCompressed(a, want)
					require.NoError(t, err)
					require.True(t, resp.Success)
				})
				require.Zero(t, took)
			})
		})
	}
}

// A body shorter than Size is over when its sender says so: a core that copies it
// fails at once, and its answer arrives. Of a longer body nothing after Size is sent.
func TestInstallSnapshot_OfAnotherLengthIsAnswered(t *testing.T) {
	const size = 100_000
	for name, c := range map[string]struct {
		length, arrives int
		err             string
	}{
		"empty":         {0, 0, "the sender ended the snapshot after 0 of 100000 bytes: unexpected EOF"},
		"one short":     {size - 1, size - 1, "the sender ended the snapshot after 99999 of 100000 bytes: unexpected EOF"},
		"one too many":  {size + 1, size, ""},
		"twice as many": {2 * size, size, ""},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				received := make(chan error, 1)
				serve(t, b, func(rpc raftwire.RPC) {
					n, err := io.Copy(io.Discard, rpc.Reader)
					received <- err
					rpc.Respond(&raftwire.InstallSnapshotResponse{Term: uint64(n), Success: true}, nil)
				})
				took := elapsed(func() {
					resp, err := install(a, size, strings.NewReader(strings.Repeat("\x03\x80", c.length/2+1)[:c.length]))
					require.NoError(t, err)
					require.Equal(t, raftwire.InstallSnapshotResponse{Term: uint64(c.arrives), Success: true}, resp)
				})
				require.Zero(t, took)
				if err := <-received; c.err != "" {
					require.EqualError(t, err, c.err)
				} else {
					require.NoError(t, err)
				}
				synctest.Wait()
				request := requestFrame(&raftwire.InstallSnapshotRequest{Term: 7, Size: size})
				require.EqualValues(t, len(request)+c.arrives, b.Stats().InboundBytesIn)
			})
		})
	}
}

// A short body waits for a busy core, although its sender has ended it. After Timeout,
// or a minute without one, its sender counts as gone.
func TestInstallSnapshot_ShortBodyWaitsForABusyCore(t *testing.T) {
	for timeout, wait := range map[time.Duration]time.Duration{testTimeout: testTimeout * 3 / 4, 0: 50 * time.Second} {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			a, b := listen(t, net, "a", withTimeout(timeout)), listen(t, net, "b", withTimeout(timeout))
			go func() {
				pause(wait)
				rpc := <-b.Consumer()
				_, err := io.ReadFull(rpc.Reader, make([]byte, 10))
				rpc.Respond(&raftwire.InstallSnapshotResponse{Success: err == nil}, err)
			}()
			resp, err := install(a, 100, strings.NewReader("ten bytes."))
			require.NoError(t, err)
			require.True(t, resp.Success)
		})
	}
}

// Bytes after Size are never taken for a request, whoever sends them. The connection
// ends.
func TestSnapshotBody_SurplusIsNeverExecuted(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		commands := make(chan any, 100)
		serve(t, b, func(rpc raftwire.RPC) {
			commands <- rpc.Command
			accept(rpc)
		})
		conn := dialRaw(t, net, "a")
		_, err := io.WriteString(conn, "\x02\x81\xa4Size\x03abc")
		require.NoError(t, err)
		_, err = io.WriteString(conn, strings.Repeat("\x03\x80", 1<<20)) // TimeoutNow, a million times
		require.NoError(t, err, "the sender is reset before it looks for the answer")
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, 1, bytes.Count(answer, []byte("ProtocolVersion")))
		require.Len(t, commands, 1)
	})
}

func TestInstallSnapshot_EmptyNeedsNoReader(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		resp, err := install(a, 0, nil)
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

// The sender holds the last bytes back. So no follower has the whole body if the
// reader finds at its end that something is wrong.
func TestInstallSnapshot_ReaderThatFailsIsAnErrorAtBothEnds(t *testing.T) {
	for _, size := range []int64{100, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				received := make(chan error, 1)
				serve(t, b, func(rpc raftwire.RPC) {
					_, err := io.ReadFull(rpc.Reader, make([]byte, 3))
					received <- err
					rpc.Respond(nil, err)
				})
				disk := errors.New("bad sector")
				_, err := install(a, size, io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(disk)))
				require.ErrorIs(t, err, disk)
				require.ErrorIs(t, <-received, io.ErrUnexpectedEOF)
			})
		})
	}
}

// A follower that reads nothing and answers nothing else fails the snapshot after
// three Timeouts. If it read the beginning of a piece, they count from then.
func TestInstallSnapshot_GivesUpASilentPeer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b", withTimeout(0))
		serve(t, b, func(rpc raftwire.RPC) { _, _ = io.CopyN(io.Discard, rpc.Reader, 10) })
		took := elapsed(func() {
			_, err := install(a, 10<<20, zeros{})
			requireTimeout(t, err)
			require.ErrorContains(t, err, "no progress, and the peer answered no other request, for 3 Timeouts (3s)")
		})
		require.GreaterOrEqual(t, took, 3*testTimeout)
		require.LessOrEqual(t, took, 6*testTimeout)
	})
}

// While it answers other requests, it may stall for SnapshotStallTimeout.
func TestInstallSnapshot_WaitsForAPeerThatAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		stall option
		limit time.Duration
	}{
		"by default":                 {noOption, time.Minute},
		"configured":                 {withStall(10 * time.Second), 10 * time.Second},
		"never shorter than Timeout": {withStall(time.Millisecond), testTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", c.stall), listen(t, net, "b", withTimeout(0))
				b.SetHeartbeatHandler(accept)
				stop := heartbeats(t, a, testTimeout/2)
				defer stop()
				took := elapsed(func() {
					_, err := install(a, 1<<20, zeros{})
					requireTimeout(t, err)
					require.ErrorContains(t, err, fmt.Sprintf("no progress for SnapshotStallTimeout (%v)", c.limit))
				})
				// The beginning of a piece was taken, which shows a Timeout later.
				require.GreaterOrEqual(t, took, c.limit)
				require.LessOrEqual(t, took, c.limit+testTimeout)
			})
		})
	}
}

// A follower that stalls, and goes on, gets the snapshot.
func TestInstallSnapshot_OutlastsAStall(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		b.SetHeartbeatHandler(accept)
		defer heartbeats(t, a, testTimeout/2)()
		serve(t, b, func(rpc raftwire.RPC) {
			pause(testTimeout * 7 / 2)
			accept(rpc)
		})
		const size = 1 << 20
		resp, err := install(a, size, io.LimitReader(zeros{}, size))
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

// A leader that reads its snapshot slowly does not give its follower up.
func TestInstallSnapshot_SlowReaderIsNoStall(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		const size = 1000
		data := &gradualReader{io.LimitReader(zeros{}, size), size / 4, 5 * testTimeout}
		resp, err := install(a, size, data)
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

func TestInstallSnapshot_MayBeSlowWhileItMakesProgress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		const pause, size = testTimeout * 3 / 4, 1 << 20
		serve(t, b, func(rpc raftwire.RPC) {
			var err error
			for err == nil {
				timer := time.NewTimer(pause)
				<-timer.C
				_, err = io.CopyN(io.Discard, rpc.Reader, 32<<10)
			}
			rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
		})
		var err error
		took := elapsed(func() { _, err = install(a, size, io.LimitReader(zeros{}, size)) })
		require.NoError(t, err)
		require.Greater(t, took, 20*testTimeout)
	})
}

// The follower's restore has a limit of its own.
func TestInstallSnapshot_RestoreMayOutlastTheTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		restore time.Duration
		scale   int
		size    int64
		config  option
		fails   time.Duration
	}{
		"five timeouts":                  {restore: 5 * testTimeout, config: noOption},
		"eleven timeouts":                {restore: 11 * testTimeout, config: noOption, fails: 10 * testTimeout},
		"as the scale says":              {restore: 18 * testTimeout, scale: 1000, size: 19_999, config: noOption},
		"longer than the scale says":     {restore: 20 * testTimeout, scale: 1000, size: 19_999, config: noOption, fails: 19 * testTimeout},
		"a scale of zero is the default": {restore: 5 * testTimeout, scale: -1, config: noOption},
		"as configured":                  {restore: 2 * time.Second, config: withRestore(time.Second), fails: time.Second},
		"no limit without timeout":       {restore: 24 * time.Hour, config: withTimeout(0)},
		"an hour at most":                {restore: 2 * time.Hour, scale: 1, size: 1 << 16, config: noOption, fails: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", c.config), listen(t, net, "b")
				switch {
				case c.scale > 0:
					a.TimeoutScale = c.scale
				case c.scale < 0:
					a.TimeoutScale = 0
				}
				serve(t, b, func(rpc raftwire.RPC) {
					_, _ = io.Copy(io.Discard, rpc.Reader)
					timer := time.NewTimer(c.restore)
					<-timer.C
					rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
				})
				var err error
				took := elapsed(func() { _, err = install(a, c.size, io.LimitReader(zeros{}, c.size)) })
				if c.fails == 0 {
					require.NoError(t, err)
					return
				}
				requireTimeout(t, err)
				require.Equal(t, c.fails, took)
			})
		})
	}
}

// An early answer ends the stream, and the caller gets it.
func TestInstallSnapshot_EndsWithAnEarlyAnswer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, func(rpc raftwire.RPC) {
			rpc.Respond(&raftwire.InstallSnapshotResponse{Term: 9}, errors.New("not now"))
		})
		data := &countingReader{r: io.LimitReader(zeros{}, 1<<30)}
		var err error
		var resp raftwire.InstallSnapshotResponse
		require.LessOrEqual(t, elapsed(func() { resp, err = install(a, 1<<30, data) }), prompt)
		var remote *raftwire.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Equal(t, "not now", remote.Text)
		require.Equal(t, uint64(9), resp.Term)
		require.Less(t, data.read, int64(64<<20), "it went on sending")
	})
}

// The peer reads nothing any more, so the sender's write is stuck.
func TestInstallSnapshot_EarlyAnswerWakesAStuckSender(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a")
		layer := hostLayer(t, net, "b")
		defer func() { require.NoError(t, layer.Close()) }()
		accepted := make(chan net_, 1)
		go func() {
			conn, _ := layer.Accept()
			_, _ = conn.Read(make([]byte, 4096))
			synctest.Wait() // the sender is stuck
			_, _ = io.WriteString(conn, "\xa7refused\xc0")
			accepted <- conn
		}()
		require.Zero(t, elapsed(func() {
			_, err := install(a, 1<<30, io.LimitReader(zeros{}, 1<<30))
			require.EqualError(t, err, "refused")
		}))
		require.NoError(t, (<-accepted).Close())
	})
}

// A sender that looks for the answer only after its last byte, as hashicorp/raft does,
// gets the answer although the body was not read. No byte of the body is taken for a
// request, though 0x03 0x80 is a TimeoutNow.
func TestSnapshotBody_UnreadIsNeverExecuted(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		commands := make(chan any, 100)
		serve(t, b, func(rpc raftwire.RPC) {
			commands <- rpc.Command
			rpc.Respond(nil, errors.New("refused unread"))
		})
		const pairs = 8 << 20
		conn, err := net.Host("a").Dial(t.Context(), "b")
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		_, err = conn.Write(snapshotHeader(2 * pairs))
		require.NoError(t, err)
		_, err = io.Copy(conn, bytes.NewReader(bytes.Repeat([]byte{0x03, 0x80}, pairs)))
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, "\xaerefused unread\xc0", string(answer))
		require.Len(t, commands, 1)
		require.IsType(t, &raftwire.InstallSnapshotRequest{}, <-commands)
	})
}

// A body that stalls fails the consumer's Read: after Timeout if another peer's
// request waits for the core, so that a core that copies it can vote; else after
// SnapshotStallTimeout.
func TestSnapshotBody_StallEndsWhenOthersWait(t *testing.T) {
	vote := func(addr string) *raftwire.RequestVoteRequest {
		return &raftwire.RequestVoteRequest{RPCHeader: raftwire.RPCHeader{Addr: []byte(addr)}, Term: 8}
	}
	for name, c := range map[string]struct {
		host   string // that another request comes from, if any
		args   *raftwire.RequestVoteRequest
		after  time.Duration
		ends   time.Duration
		reason string
	}{
		"nobody":               {"", nil, 0, time.Minute, "SnapshotStallTimeout (1m0s)"},
		"another host":         {"c", vote(""), 0, testTimeout, "Timeout (1s), and another peer's request waits for the core"},
		"another on that host": {"a", vote("c"), 0, testTimeout, "Timeout (1s), and another peer's request waits for the core"},
		"the sender itself":    {"a", vote("leader"), 0, time.Minute, "SnapshotStallTimeout (1m0s)"},
		"later":                {"c", vote(""), 5 * time.Second, 5 * time.Second, "Timeout (1s), and another peer's request waits for the core"},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b")
				conn := dialRaw(t, net, "a")
				header := "\x02\x82\xa4Addr\xa6leader\xa4Size\xce\x40\x00\x00\x00"
				_, err := io.WriteString(conn, header+"ten bytes.")
				require.NoError(t, err)
				rpc := <-b.Consumer()
				if c.args != nil {
					go func() {
						pause(c.after)
						other := dialRaw(t, net, c.host)
						_, _ = other.Write(requestFrame(c.args))
					}()
				}
				took := elapsed(func() {
					n, err := io.Copy(io.Discard, rpc.Reader)
					requireTimeout(t, err)
					require.EqualError(t, err, "the snapshot stalled after 10 of 1073741824 bytes: next to nothing came for "+c.reason)
					require.Equal(t, int64(10), n)
				})
				require.InDelta(t, c.ends.Seconds(), took.Seconds(), 0.25)
				rpc.Respond(nil, err)
			})
		})
	}
}

// A byte now and then is no progress; time in which the consumer does not read is
// no stall.
func TestSnapshotBody_DripEnds(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		conn := dialRaw(t, net, "a")
		_, err := conn.Write(snapshotHeader(1 << 30))
		require.NoError(t, err)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for i, err := 0, error(nil); i < 200 && err == nil; i++ {
				pause(700 * time.Millisecond)
				_, err = conn.Write([]byte{1})
			}
		}()
		rpc := <-b.Consumer()
		took := elapsed(func() {
			_, err := io.Copy(io.Discard, rpc.Reader)
			requireTimeout(t, err)
		})
		require.InDelta(t, time.Minute.Seconds(), took.Seconds(), 1)
		rpc.Respond(nil, errors.New("stalled"))
		<-stopped
		synctest.Wait() // a refusal is counted after the connection was closed
		require.EqualValues(t, 1, b.Refusals().Stalled)
	})
}

// Its pauses do not shorten the time that the sender has, either.
func TestSnapshotBody_SlowConsumerIsNoStall(t *testing.T) {
	const half = 50_000
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b")
		conn := dialRaw(t, net, "a")
		_, err := conn.Write(append(requestFrame(&raftwire.InstallSnapshotRequest{Size: 2 * half}), make([]byte, half)...))
		require.NoError(t, err)
		rpc := <-b.Consumer()
		for range half / 1000 {
			pause(10 * time.Second)
			_, err := io.CopyN(io.Discard, rpc.Reader, 1000)
			require.NoError(t, err)
		}
		go func() {
			pause(30 * time.Second)
			_, _ = conn.Write(make([]byte, half))
		}()
		n, err := io.Copy(io.Discard, rpc.Reader)
		require.NoError(t, err)
		require.EqualValues(t, half, n)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
	})
}

// A slow link brings a snapshot, if it carries MinSnapshotBytesPerSecond and some.
func TestSnapshotBody_SlowLinkIsNoStall(t *testing.T) {
	const size = 1 << 20
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		net.Link("a", "b").SetBandwidth(2 * raftwire.MinSnapshotBytesPerSecond)
		b.SetHeartbeatHandler(accept)
		serve(t, b, accept)
		resp, err := install(a, size, io.LimitReader(zeros{}, size))
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

// The body belongs to the consumer until it answers, and no longer.
func TestSnapshotBody_EndsWithTheAnswer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		result := make(chan error, 1)
		go func() { _, err := install(a, 1<<20, io.LimitReader(zeros{}, 1<<20)); result <- err }()
		rpc := <-b.Consumer()
		_, err := io.CopyN(io.Discard, rpc.Reader, 10)
		require.NoError(t, err)
		rpc.Respond(&raftwire.InstallSnapshotResponse{}, nil)
		require.NoError(t, <-result)
		synctest.Wait()
		_, err = rpc.Reader.Read(make([]byte, 1))
		require.ErrorContains(t, err, "after it was answered")
	})
}

// The wait for a restore ends when the peer is gone.
func TestInstallSnapshot_FailsAtOnceWhenThePeerGoes(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, func(rpc raftwire.RPC) {
			_, _ = io.CopyN(io.Discard, rpc.Reader, 200_000)
			net.Reset("a", "b")
		})
		require.LessOrEqual(t, elapsed(func() {
			_, err := install(a, 1<<20, io.LimitReader(zeros{}, 1<<20))
			require.ErrorIs(t, err, errno.Reset)
		}), testTimeout)
	})
}

// An answer goes out at once, also during a Read of the body, and ends that Read. The
// unread rest is discarded, and later Reads fail at once.
func TestSnapshotBody_ReaderDoesNotDelayTheAnswer(t *testing.T) {
	for _, timeout := range []time.Duration{0, testTimeout} {
		t.Run(timeout.String(), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", withTimeout(timeout))
				conn := dialRaw(t, net, "a")
				const size, missing = 1 << 24, 10
				_, err := conn.Write(snapshotHeader(size))
				require.NoError(t, err)
				rpc := <-b.Consumer()
				read := make(chan error, 1)
				go func() {
					_, err := io.Copy(io.Discard, rpc.Reader)
					read <- err
				}()
				_, err = conn.Write(make([]byte, size-missing))
				require.NoError(t, err)
				synctest.Wait()
				start := time.Now()
				rpc.Respond(&raftwire.InstallSnapshotResponse{Term: 7}, nil)
				_, err = conn.Read(make([]byte, 1))
				require.NoError(t, err)
				require.Error(t, <-read)
				_, err = rpc.Reader.Read(make([]byte, 1))
				require.EqualError(t, err, "raftwire: snapshot read after it was answered")
				require.Zero(t, time.Since(start))

				pause(testTimeout / 2) // no longer than it may stall
				_, err = conn.Write(make([]byte, missing))
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, conn)
				require.NoError(t, err, "an end with a reset, and with bytes unread")
				synctest.Wait()
				require.Zero(t, b.Refusals(), "the end of the Read was taken for a stall")
			})
		})
	}
}

func TestInstallSnapshot_EndsIfItsReaderYieldsNothing(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		args := &raftwire.InstallSnapshotRequest{Size: 10}
		err := a.InstallSnapshot("b", "b", args, new(raftwire.InstallSnapshotResponse), idleReader{})
		require.ErrorIs(t, err, io.ErrNoProgress)
	})
}

func testLateSnapshot(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		const interval, pieces = 10 * time.Millisecond, 100
		body := bytes.Repeat([]byte("a piece of the snapshot"), pieces)
		go func() {
			pause(30 * interval) // a piece comes at this very moment
			rpc := <-b.Consumer()
			got, err := io.ReadAll(rpc.Reader)
			rpc.Respond(&raftwire.InstallSnapshotResponse{Success: bytes.Equal(got, body)}, err)
		}()
		resp, err := install(a, int64(len(body)), &gradualReader{bytes.NewReader(body), len(body) / pieces, interval})
		require.NoError(t, err)
		require.True(t, resp.Success)
	})
}

// endlessWait blocks until stop is closed, then ends.
type endlessWait struct{ stop <-chan struct{} }

func (r *endlessWait) Read([]byte) (int, error) {
	<-r.stop
	return 0, io.EOF
}

// gradualReader yields a piece after each interval.
type gradualReader struct {
	io.Reader
	piece    int
	interval time.Duration
}

func (r *gradualReader) Read(p []byte) (int, error) {
	pause(r.interval)
	return r.Reader.Read(p[:min(len(p), r.piece)])
}

func installCompressed(trans raftwire.Transport, data []byte) (raftwire.InstallSnapshotResponse, error) {
	var body bytes.Buffer
	w, _ := flate.NewWriter(&body, flate.BestSpeed)
	_, _ = w.Write(data)
	_ = w.Close()
	return install(trans, int64(len(data)), &body)
}

func withStall(d time.Duration) option {
	return func(c *raftwire.NetworkTransportConfig) { c.SnapshotStallTimeout = d }
}

func withRestore(d time.Duration) option {
	return func(c *raftwire.NetworkTransportConfig) { c.RestoreTimeout = d }
}

type countingReader struct {
	r    io.Reader
	read int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	runtime.Gosched() // with one processor, who answers might not come to its turn
	n, err := c.r.Read(p)
	c.read += int64(n)
	return n, err
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }
