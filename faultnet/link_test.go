package faultnet_test

import (
	"bytes"
	"io"
	"math/bits"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

func TestJitterAddsAtMostItself(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		const latency, jitter = 10 * time.Millisecond, 5 * time.Millisecond
		n.Link("a", "b").SetLatency(latency)
		n.Link("a", "b").SetJitter(jitter)
		a, b := connect(t, n)
		shortest, longest := time.Hour, time.Duration(0)
		for range 200 {
			delay := took(func() { write(t, a, "x"); read(t, b, "x") })
			shortest, longest = min(shortest, delay), max(longest, delay)
		}
		require.GreaterOrEqual(t, shortest, latency)
		require.LessOrEqual(t, longest, latency+jitter)
		require.Greater(t, longest-shortest, jitter*3/4)
	})
}

func TestJitterKeepsTheOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetJitter(time.Second)
		var sent string
		for letter := 'a'; letter <= 'z'; letter++ {
			write(t, a, string(letter))
			sent += string(letter)
		}
		read(t, b, sent)
	})
}

func TestBandwidthIsSharedAndSteady(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a1, b1 := connect(t, n)
		a2, b2 := connect(t, n)
		n.Link("a", "b").SetBandwidth(1000)
		start := time.Now()
		write(t, a1, string(make([]byte, 1000)))
		write(t, a2, string(make([]byte, 500)))
		read(t, b1, string(make([]byte, 200)))
		require.Equal(t, 200*time.Millisecond, time.Since(start), "what has left arrives, before the rest")
		read(t, b1, string(make([]byte, 800)))
		require.Equal(t, time.Second, time.Since(start))
		read(t, b2, string(make([]byte, 500)))
		require.Equal(t, 1500*time.Millisecond, time.Since(start), "one line for both")
		require.Zero(t, took(func() { write(t, b1, "back"); read(t, a1, "back") }), "the other direction is free")
		n.Link("a", "b").SetBandwidth(0)
		require.Zero(t, took(func() { write(t, a1, "free"); read(t, b1, "free") }))
	})
}

func TestWhatWasHeldIsSentAnewWithTheBandwidth(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").SetBandwidth(1000)
		write(t, a, string(make([]byte, 1000)))
		n.Link("a", "b").Cut()
		time.AfterFunc(time.Second/2, n.Heal)
		require.Equal(t, time.Second/2+time.Second, took(func() { read(t, b, string(make([]byte, 1000))) }))
	})
}

func TestSliceOfALinkHasADirection(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.Link("a", "b").Slice(1)
		a, b := connect(t, n)
		write(t, a, "there")
		write(t, b, "back")
		got, err := b.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, 1, got)
		got, err = a.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, 4, got)
	})
}

// corrupted returns what arrives of size zeros over a link that flips a bit in
// every so many of them.
func corrupted(t *testing.T, seed int64, size, every int) (got []byte) {
	synctest.Test(t, func(t *testing.T) {
		n := faultnet.New(seed)
		n.SetBuffer(size)
		n.Link("a", "b").Corrupt(int64(every))
		a, b := connect(t, n)
		sent := make([]byte, size)
		for piece := 1; len(sent) > 0; piece = min(piece*3, len(sent)) {
			write(t, a, string(sent[:piece]))
			sent = sent[piece:]
		}
		require.NoError(t, a.Close())
		var err error
		got, err = io.ReadAll(b)
		require.NoError(t, err)
	})
	return got
}

func TestCorruptFlipsSingleBitsAtPlacesOfTheSeed(t *testing.T) {
	const size, every = 100_000, 100
	first := corrupted(t, 1, size, every)
	require.Len(t, first, size)
	bad := 0
	for _, b := range first {
		require.LessOrEqual(t, bits.OnesCount8(b), 1)
		bad += bits.OnesCount8(b)
	}
	require.InDelta(t, size/every, bad, size/every/10)
	require.True(t, bytes.Equal(first, corrupted(t, 1, size, every)))
	require.False(t, bytes.Equal(first, corrupted(t, 2, size, every)))
}

func TestCorruptLeavesTheWritersBytesAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		a, b := connect(t, n)
		n.Link("a", "b").Corrupt(1)
		sent := make([]byte, 100)
		_, err := a.Write(sent)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 100), sent)
		n.Link("a", "b").Corrupt(0)
		_, err = io.ReadFull(b, sent)
		require.NoError(t, err)
		require.NotEqual(t, make([]byte, 100), sent)
		write(t, a, "whole again")
		read(t, b, "whole again")
	})
}

// What a link decides at random does not depend on what happens on others.
func TestLinksDecideOnTheirOwn(t *testing.T) {
	delays := func(others int) (delays []time.Duration) {
		inBubble(t, func(t *testing.T, n *faultnet.Network) {
			c, err := n.Host("c").Listen()
			require.NoError(t, err)
			for range others {
				n.Link("a", "c").SetJitter(time.Second)
				_, err := n.Host("a").Dial(t.Context(), "c")
				require.NoError(t, err)
			}
			require.NoError(t, c.Close())
			n.Link("a", "b").SetJitter(time.Second)
			a, b := connect(t, n)
			for range 10 {
				delays = append(delays, took(func() { write(t, a, "x"); read(t, b, "x") }))
			}
		})
		return delays
	}
	require.Equal(t, delays(0), delays(3))
}

func TestDropLosesForGoodWhatTodaysConnectionsSend(t *testing.T) {
	drops := map[string]func(n *faultnet.Network, a *faultnet.Conn){
		"of a link":       func(n *faultnet.Network, _ *faultnet.Conn) { n.Link("a", "b").Drop() },
		"of a connection": func(_ *faultnet.Network, a *faultnet.Conn) { a.Drop() },
	}
	for name, drop := range drops {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *faultnet.Network) {
				n.Link("a", "b").SetLatency(time.Second)
				a, b := connect(t, n)
				write(t, a, "on the way")
				drop(n, a)
				write(t, a, "later")
				write(t, b, "the other direction")
				read(t, a, "the other direction")
				require.NoError(t, a.Close())
				n.Heal()
				require.NoError(t, b.SetDeadline(time.Now().Add(time.Hour)))
				require.ErrorContains(t, readError(b), "timeout", "half-open: it does not hear of the close")
				a, b = connect(t, n)
				write(t, a, "whole")
				read(t, b, "whole")
			})
		})
	}
}

func TestIsolateCutsAGroupOffAndNothingElse(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		hosts := []string{"a", "b", "c", "d"}
		for _, host := range hosts {
			_, err := n.Host(host).Listen()
			require.NoError(t, err)
		}
		reaches := func(from, to string) bool { return dialWithin(n, from, to, time.Second) == nil }
		n.Isolate("a", "b")
		group := map[string]bool{"a": true, "b": true}
		for _, from := range hosts {
			for _, to := range hosts {
				require.Equal(t, group[from] == group[to], reaches(from, to), "%s to %s", from, to)
			}
		}
		n.Heal()
		require.True(t, reaches("a", "c"))
		require.True(t, reaches("d", "b"))
	})
}

func TestAHostThatFailsToAcceptLeavesConnectionsWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		layer, err := n.Host("b").Listen()
		require.NoError(t, err)
		n.Host("b").FailAccepts(true)
		accept := pending(t, func() error { _, err := layer.Accept(); return err })
		c, err := n.Host("a").Dial(t.Context(), "b")
		require.NoError(t, err)
		err = <-accept
		require.ErrorIs(t, err, errno.TooManyFiles)
		var temporary interface{ Temporary() bool }
		require.ErrorAs(t, err, &temporary)
		require.True(t, temporary.Temporary())
		_, err = layer.Accept()
		require.ErrorIs(t, err, errno.TooManyFiles)
		n.Host("b").FailAccepts(false)
		accepted, err := layer.Accept()
		require.NoError(t, err)
		write(t, c, "patience")
		read(t, accepted, "patience")
	})
}

// A process that was stopped by a crash must not come back with its machine.
func TestALayerDoesNotOutliveACrash(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		_, err := n.Host("b").Listen()
		require.NoError(t, err)
		old, err := n.Host("a").Listen()
		require.NoError(t, err)
		n.Host("a").Crash()
		n.Host("a").Restart()
		_, err = old.Dial("b", 0)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = old.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		fresh, err := n.Host("a").Listen()
		require.NoError(t, err)
		_, err = fresh.Dial("b", 0)
		require.NoError(t, err)
	})
}

// What is said twice, or ends nothing, must not hold up what is on its way.
func TestEndingWhatHasNotBegunChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		n.Link("a", "b").SetLatency(time.Second)
		a, b := connect(t, n)
		write(t, a, "x")
		time.AfterFunc(time.Second/2, n.Heal)
		time.AfterFunc(time.Second/2, n.Host("a").Restart)
		require.Equal(t, time.Second, took(func() { read(t, b, "x") }))
		n.Host("b").PowerOff()
		n.Host("b").Crash()
		require.ErrorContains(t, dialWithin(n, "a", "b", time.Minute), "timeout", "without power nothing refuses")
	})
}
