package main

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// slowPipe returns both ends of a connection in memory, the first of which holds
// back what it sends.
func slowPipe(t *testing.T, p path) (sender, receiver net.Conn) {
	near, far := net.Pipe()
	slow, err := p.slow(near, nil)
	require.NoError(t, err)
	return slow, far
}

func TestSlowConn_DelaysEachByteAndKeepsTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, receiver := slowPipe(t, path{Delay: 10 * time.Millisecond})
		began := time.Now()
		for _, text := range []string{"first", "second"} {
			_, err := sender.Write([]byte(text))
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(began), "a write does not wait")
		got := make([]byte, len("firstsecond"))
		_, err := io.ReadFull(receiver, got)
		require.NoError(t, err)
		require.Equal(t, "firstsecond", string(got))
		require.Equal(t, 10*time.Millisecond, time.Since(began))
		require.NoError(t, sender.Close())
	})
}

func TestSlowConn_HasItsBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, receiver := slowPipe(t, path{Delay: 10 * time.Millisecond, Bandwidth: 1 << 20})
		began := time.Now()
		for range 4 {
			_, err := sender.Write(make([]byte, 1<<18))
			require.NoError(t, err)
		}
		_, err := io.ReadFull(receiver, make([]byte, 1<<20))
		require.NoError(t, err)
		require.Equal(t, time.Second+10*time.Millisecond, time.Since(began))
		require.NoError(t, sender.Close())
	})
}

func TestSlowConn_SendsDespiteADeadlineThatEndsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, receiver := slowPipe(t, path{Delay: time.Millisecond})
		_, err := sender.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, sender.SetDeadline(time.Now().Add(-time.Second)))
		_, err = sender.Read(make([]byte, 1))
		require.ErrorContains(t, err, "timeout")
		_, err = io.ReadFull(receiver, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, sender.Close())
	})
}

func TestSlowConn_CloseEndsItsGoroutineAndItsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, _ := slowPipe(t, path{Delay: time.Hour})
		_, err := sender.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, sender.Close())
		require.NoError(t, sender.Close())
		_, err = sender.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
	}) // waits for the goroutine
}

func TestSlowConn_ReportsThatItsConnectionFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, receiver := slowPipe(t, path{})
		require.NoError(t, receiver.Close())
		_, err := sender.Write([]byte("x")) // queued
		require.NoError(t, err)
		synctest.Wait()
		_, err = sender.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.NoError(t, sender.Close())
	})
}
