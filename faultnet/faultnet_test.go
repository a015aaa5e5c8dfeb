package faultnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

// inBubble runs a test on fake time over a network of its own.
func inBubble(t *testing.T, test func(t *testing.T, n *faultnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, faultnet.New(1)) })
}

// connect returns the dialling and the accepting end of a connection from a to b.
func connect(t *testing.T, n *faultnet.Network) (a, b *faultnet.Conn) {
	t.Helper()
	layer, err := n.Host("b").Listen()
	require.NoError(t, err)
	dialled, err := n.Host("a").Dial(t.Context(), "b")
	require.NoError(t, err)
	accepted, err := layer.Accept()
	require.NoError(t, err)
	require.NoError(t, layer.Close())
	return dialled.(*faultnet.Conn), accepted.(*faultnet.Conn)
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	n, err := io.WriteString(c, text)
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func readError(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

func writeError(c net.Conn) error {
	_, err := c.Write([]byte{0})
	return err
}

// took returns how long call took on the fake clock.
func took(call func()) time.Duration {
	start := time.Now()
	call()
	return time.Since(start)
}

// pending starts call and fails if it returned before it had to wait.
func pending(t *testing.T, call func() error) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	synctest.Wait()
	require.Empty(t, done)
	return done
}

func TestWhatIsWrittenArrivesThenEOF(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		write(t, a, "hello")
		require.Equal(t, 5, n.Bytes())
		require.NoError(t, a.Close())
		read(t, b, "hello")
		require.Equal(t, io.EOF, readError(b))
		require.NoError(t, b.Close())
		require.Zero(t, n.OpenConns())
		require.Zero(t, n.Bytes())
	})
}

func TestAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		require.Equal(t, "b", a.RemoteAddr().String())
		require.Equal(t, "b", b.LocalAddr().String())
		require.Equal(t, a.LocalAddr(), b.RemoteAddr())
		host, _, err := net.SplitHostPort(a.LocalAddr().String())
		require.NoError(t, err)
		require.Equal(t, "a", host)
	})
}

func TestAFullBufferBlocksTheWriterUntilSomethingIsRead(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.SetBuffer(4)
		a, b := connect(t, n)
		done := pending(t, func() error { _, err := a.Write([]byte("12345")); return err })
		require.Equal(t, 4, n.Bytes())
		read(t, b, "12345")
		require.NoError(t, <-done)
	})
}

func TestConcurrentWritesDoNotMix(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.SetBuffer(3)
		n.Slice(2)
		a, b := connect(t, n)
		var writers sync.WaitGroup
		for _, letter := range []byte("abcdefgh") {
			writers.Go(func() {
				_, err := a.Write(bytes.Repeat([]byte{letter}, 10))
				require.NoError(t, err)
			})
		}
		for range 8 {
			piece := make([]byte, 10)
			_, err := io.ReadFull(b, piece)
			require.NoError(t, err)
			require.Equal(t, bytes.Repeat(piece[:1], 10), piece)
		}
		writers.Wait()
	})
}

func TestDeadlinesEndCallsExactlyInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.SetBuffer(1)
		a, b := connect(t, n)
		require.NoError(t, a.SetDeadline(time.Now().Add(time.Second)))
		write(t, a, "x")
		var readErr, writeErr error
		require.Equal(t, time.Second, took(func() {
			var calls sync.WaitGroup
			calls.Go(func() { readErr = readError(a) })
			calls.Go(func() { writeErr = writeError(a) })
			calls.Wait()
		}))
		for _, err := range []error{readErr, writeErr} {
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout())
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		require.NoError(t, a.SetDeadline(time.Time{}))
		read(t, b, "x")
		write(t, a, "y")
	})
}

func TestADeadlineMovedToThePastEndsCallsUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, _ := connect(t, n)
		require.NoError(t, a.SetReadDeadline(time.Now().Add(time.Hour)))
		done := pending(t, func() error { return readError(a) })
		require.NoError(t, a.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)
	})
}

func TestCloseEndsOwnCallsWithErrClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, _ := connect(t, n)
		done := pending(t, func() error { return readError(a) })
		require.NoError(t, a.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		require.ErrorIs(t, writeError(a), net.ErrClosed)
		require.ErrorIs(t, a.Close(), net.ErrClosed)
		require.ErrorIs(t, a.SetDeadline(time.Time{}), net.ErrClosed)
	})
}

func TestCloseWriteLeavesReadingOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		write(t, a, "bye")
		require.NoError(t, a.CloseWrite())
		require.ErrorIs(t, writeError(a), errno.BrokenPipe)
		read(t, b, "bye")
		require.Equal(t, io.EOF, readError(b))
		write(t, b, "answer")
		read(t, a, "answer")
	})
}

func TestTheSecondWriteAfterThePeersCloseFails(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		require.NoError(t, b.Close())
		write(t, a, "x")
		require.ErrorIs(t, writeError(a), errno.BrokenPipe)
		require.Equal(t, io.EOF, readError(a))
	})
}

func TestClosingWithUnreadBytesResetsThePeerAfterWhatItWasSent(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		write(t, a, "unread")
		write(t, b, "answer")
		require.NoError(t, b.Close())
		read(t, a, "answer")
		require.ErrorIs(t, readError(a), errno.Reset)
		require.ErrorIs(t, writeError(a), errno.Reset)
	})
}

func TestAPartitionHoldsEverythingUntilItHeals(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Partition("a", "b")
		write(t, a, "held")
		require.NoError(t, a.Close())
		done := pending(t, func() error { return readError(b) })
		n.Heal()
		require.NoError(t, <-done)
		read(t, b, "eld")
		require.Equal(t, io.EOF, readError(b))
	})
}

func TestAPartitionHoldsBothDirections(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Partition("a", "b")
		write(t, a, "there")
		write(t, b, "back")
		there := pending(t, func() error { return readError(b) })
		back := pending(t, func() error { return readError(a) })
		n.Heal()
		require.NoError(t, <-there)
		require.NoError(t, <-back)
	})
}

func TestACutOneWayLeavesTheOtherOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Link("b", "a").Cut()
		write(t, a, "request")
		read(t, b, "request")
		write(t, b, "answer")
		done := pending(t, func() error { return readError(a) })
		n.Link("b", "a").Heal()
		require.NoError(t, <-done)
	})
}

func TestLatencyDelaysEveryByteAndEveryDial(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.Link("a", "b").SetLatency(30 * time.Millisecond)
		n.Link("b", "a").SetLatency(20 * time.Millisecond)
		var a, b net.Conn
		require.Equal(t, 50*time.Millisecond, took(func() { a, b = connect(t, n) }))
		require.Equal(t, 30*time.Millisecond, took(func() { write(t, a, "there"); read(t, b, "there") }))
		require.Equal(t, 20*time.Millisecond, took(func() { write(t, b, "back"); read(t, a, "back") }))
		n.Partition("a", "b")
		write(t, a, "later")
		time.AfterFunc(time.Second, n.Heal)
		require.Equal(t, time.Second+30*time.Millisecond, took(func() { read(t, b, "later") }))
	})
}

func TestOrderSurvivesALatencyThatShrinks(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetLatency(time.Second)
		write(t, a, "first ")
		n.Link("a", "b").SetLatency(0)
		write(t, a, "second")
		require.Equal(t, time.Second, took(func() { read(t, b, "first second") }))
	})
}

func TestDialFailsAsASystemsDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := n.Host("a"), n.Host("b")
		_, err := a.Dial(t.Context(), "b")
		require.ErrorIs(t, err, errno.Refused)
		layer, err := b.Listen()
		require.NoError(t, err)
		_, err = b.Listen()
		require.ErrorIs(t, err, errno.AddressInUse)
		b.Refuse(true)
		_, err = layer.Dial("b", 0)
		require.ErrorIs(t, err, errno.Refused)
		b.Refuse(false)
		_, err = layer.Dial("b", 0)
		require.NoError(t, err)
		require.Equal(t, 2, n.OpenConns())
	})
}

func TestADialIntoABlackHoleEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		layer, err := n.Host("a").Listen()
		require.NoError(t, err)
		_, err = n.Host("b").Listen()
		require.NoError(t, err)
		n.Partition("a", "b")
		require.Equal(t, time.Second, took(func() { _, err = layer.Dial("b", time.Second) }))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		ctx, cancel := context.WithCancel(t.Context())
		done := pending(t, func() error { _, err := layer.DialContext(ctx, "b"); return err })
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		done = pending(t, func() error { _, err := layer.Dial("b", 0); return err })
		n.Heal()
		require.NoError(t, <-done)
	})
}

func TestCloseOfAListenerEndsAcceptAndResetsWhoWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		layer, err := n.Host("b").Listen()
		require.NoError(t, err)
		waiting, err := n.Host("a").Dial(t.Context(), "b")
		require.NoError(t, err)
		require.NoError(t, layer.Close())
		require.ErrorIs(t, readError(waiting), errno.Reset)
		layer, err = n.Host("b").Listen()
		require.NoError(t, err)
		done := pending(t, func() error { _, err := layer.Accept(); return err })
		require.NoError(t, layer.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
		require.ErrorIs(t, layer.Close(), net.ErrClosed)
	})
}

func TestACrashResetsPeersAndRefusesDials(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		done := pending(t, func() error { return readError(a) })
		n.Host("b").Crash()
		require.ErrorIs(t, <-done, errno.Reset)
		require.ErrorIs(t, readError(b), net.ErrClosed)
		_, err := n.Host("a").Dial(t.Context(), "b")
		require.ErrorIs(t, err, errno.Refused)
		_, err = n.Host("b").Listen()
		require.ErrorIs(t, err, net.ErrClosed)
		n.Host("b").Restart()
		connect(t, n)
	})
}

func TestAMachineWithoutPowerIsSilentAndResetsOnceItIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Host("b").PowerOff()
		require.ErrorIs(t, writeError(b), net.ErrClosed)
		write(t, a, "anybody there?")
		silent := pending(t, func() error { return readError(a) })
		dial := pending(t, func() error { _, err := n.Host("a").Dial(t.Context(), "b"); return err })
		n.Host("b").Restart()
		require.ErrorIs(t, <-silent, errno.Reset)
		require.ErrorIs(t, <-dial, errno.Refused)
	})
}

func TestResetBreaksBothEnds(t *testing.T) {
	resets := map[string]func(*faultnet.Network, *faultnet.Conn){
		"of a pair of hosts": func(n *faultnet.Network, _ *faultnet.Conn) { n.Reset("b", "a") },
		"of a connection":    func(_ *faultnet.Network, a *faultnet.Conn) { a.Reset() },
	}
	for name, reset := range resets {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *faultnet.Network) {
				a, b := connect(t, n)
				write(t, a, "before")
				reset(n, a)
				read(t, b, "before")
				require.ErrorIs(t, readError(a), errno.Reset)
				require.ErrorIs(t, readError(b), errno.Reset)
				require.Equal(t, 2, n.OpenConns())
			})
		})
	}
}

func TestAFuseLetsExactlyItsBytesThrough(t *testing.T) {
	light := map[string]func(*faultnet.Network, *faultnet.Conn){
		"of a link":       func(n *faultnet.Network, _ *faultnet.Conn) { n.Link("a", "b").ResetAfter(3) },
		"of a connection": func(_ *faultnet.Network, a *faultnet.Conn) { a.ResetAfter(3) },
	}
	for name, light := range light {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *faultnet.Network) {
				a, b := connect(t, n)
				light(n, a)
				sent, err := a.Write([]byte("12345"))
				require.Equal(t, 3, sent)
				require.ErrorIs(t, err, errno.Reset)
				read(t, b, "123")
				require.ErrorIs(t, readError(b), errno.Reset)
				a, b = connect(t, n)
				write(t, a, "12345")
				read(t, b, "12345")
			})
		})
	}
}

func TestSliceGivesSmallReads(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.Slice(3)
		a, b := connect(t, n)
		write(t, a, "a message of some length")
		require.NoError(t, a.Close())
		sizes := make(map[int]bool)
		for buf := make([]byte, 64); ; {
			got, err := b.Read(buf)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			sizes[got] = true
		}
		require.Equal(t, map[int]bool{1: true, 2: true, 3: true}, sizes)
	})
}

func TestTapShowsWhatIsWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		var seen []string
		n.Tap(func(from, to string, data []byte) { seen = append(seen, from+to+string(data)) })
		a, b := connect(t, n)
		write(t, a, "1")
		write(t, b, "2")
		n.Tap(nil)
		write(t, a, "3")
		require.Equal(t, []string{"ab1", "ba2"}, seen)
	})
}

func TestItWorksOnRealTimeFromManyGoroutines(t *testing.T) {
	n := faultnet.New(1)
	layer, err := n.Host("b").Listen()
	require.NoError(t, err)
	go func() {
		for {
			c, err := layer.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			c, err := n.Host("a").Dial(t.Context(), "b")
			require.NoError(t, err)
			require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
			sent := bytes.Repeat([]byte("x"), 200<<10)
			go func() { _, _ = c.Write(sent) }()
			got := make([]byte, len(sent))
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			require.NoError(t, c.Close())
		})
	}
	clients.Wait()
	require.NoError(t, layer.Close())
}

// dialWithin dials with a limit and closes the connection again.
func dialWithin(n *faultnet.Network, from, to string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := n.Host(from).Dial(ctx, to)
	if err != nil {
		return err
	}
	return c.Close()
}
