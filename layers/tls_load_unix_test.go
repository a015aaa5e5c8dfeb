//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package layers_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
)

// A file may be a FIFO that nobody writes to: opening it blocks until somebody does.
func TestTLSFiles_ThatAreFIFOsBlockNothing(t *testing.T) {
	network, ca := faultnet.New(1), testca.New()
	f := newFiles(t, ca.Issue(), ca)
	security := f.secure()
	security.ReloadInterval, security.LoadTimeout = -1, time.Millisecond
	b, layer := listenTLS(t, network, "b", security, withPool(0), withTimeout(time.Minute))
	serve(t, b, accept)
	c, _ := listenTLS(t, network, "c", secure(ca.Issue(), ca), withPool(0), withTimeout(time.Minute))
	serve(t, c, accept)

	require.NoError(t, os.Remove(f.CA()))
	require.NoError(t, syscall.Mkfifo(f.CA(), 0o600))
	for range 3 {
		requireTimeout(t, layer.Reload())
		require.NoError(t, appendOnce(c, "b"))
		require.NoError(t, appendOnce(b, "c"))
	}
	require.NoError(t, b.Close())
	require.ErrorIs(t, layer.Reload(), net.ErrClosed)

	writer, err := os.OpenFile(f.CA(), os.O_WRONLY, 0) // when there is a reader
	require.NoError(t, err)
	_, err = io.WriteString(writer, "nothing")
	require.NoError(t, err)
	require.NoError(t, writer.Close())
}
