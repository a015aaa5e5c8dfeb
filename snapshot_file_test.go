package raftwire_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// fileOf returns a new file that holds content, at its start.
func fileOf(t *testing.T, content []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, os.WriteFile(name, content, 0o600))
	return openFile(t, name, os.O_RDWR)
}

func openFile(t *testing.T, name string, flag int) *os.File {
	t.Helper()
	file, err := os.OpenFile(name, flag, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func installAt(a, b *raftwire.NetworkTransport, announced int64, data io.Reader) (raftwire.InstallSnapshotResponse, error) {
	var resp raftwire.InstallSnapshotResponse
	err := a.InstallSnapshot("b", b.LocalAddr(), &raftwire.InstallSnapshotRequest{Term: 7, Size: announced}, &resp, data)
	return resp, err
}

// From a file into a file the system moves the bytes: over real sockets, since
// over others they are copied. The sizes are around those of a chunk and of a
// piece, and the file is sent from an offset.
func TestASnapshotGoesFromAFileIntoAFile(t *testing.T) {
	const before = 1000
	for _, size := range []int{0, 1, 64 << 10, 64<<10 + 1, 128 << 10, 4<<20 + 64<<10, 4<<20 + 64<<10 + 1, 9 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
			content := make([]byte, before+size)
			_, _ = rand.Read(content)
			from, into := fileOf(t, content), fileOf(t, nil)
			_, err := from.Seek(before, io.SeekStart)
			require.NoError(t, err)
			serve(t, b, func(rpc raftwire.RPC) {
				n, err := io.Copy(into, rpc.Reader)
				rpc.Respond(&raftwire.InstallSnapshotResponse{Success: n == int64(size)}, err)
			})
			resp, err := installAt(a, b, int64(size), from)
			require.NoError(t, err)
			require.True(t, resp.Success)
			got, err := os.ReadFile(into.Name())
			require.NoError(t, err)
			require.True(t, bytes.Equal(content[before:], got), "the file differs")
		})
	}
}

// P16, for files: one of the wrong length is an error at once, and the follower
// learns that it has not got everything.
func TestASnapshotFileOfTheWrongLengthIsAnErrorAtOnce(t *testing.T) {
	const size = 2 << 20
	for name, c := range map[string]struct {
		length int
		text   string
	}{
		"empty":         {0, "ended after 0 of 2097152 bytes"},
		"half":          {size / 2, "ended after 1048576 of 2097152 bytes"},
		"one short":     {size - 1, "ended after 2097151 of 2097152 bytes"},
		"one too many":  {size + 1, "more than Size, which is 2097152 bytes"},
		"twice as many": {2 * size, "more than Size, which is 2097152 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
			received, into := make(chan error, 1), fileOf(t, nil)
			serve(t, b, func(rpc raftwire.RPC) {
				_, err := io.Copy(into, rpc.Reader)
				received <- err
				rpc.Respond(nil, err)
			})
			_, err := installAt(a, b, size, fileOf(t, make([]byte, c.length)))
			require.ErrorContains(t, err, c.text)
			require.Error(t, <-received)
		})
	}
}

// P16: a follower that reads nothing of a file is found out within the timeout.
func TestAStalledSnapshotFileFails(t *testing.T) {
	const timeout = 200 * time.Millisecond
	a, b := listenTCP(t, "127.0.0.1:0", withTimeout(timeout)), listenTCP(t, "127.0.0.1:0")
	serve(t, b, never)
	const size = 64 << 20 // more than the system buffers
	from := fileOf(t, nil)
	require.NoError(t, from.Truncate(size))
	_, err := installAt(a, b, size, from)
	require.ErrorContains(t, err, "no progress")
	requireTimeout(t, err)
}

// P12: a sender that stalls in the middle of a body that goes into a file is
// found out within the timeout.
func TestAStalledSnapshotIntoAFileFails(t *testing.T) {
	const timeout, size = 200 * time.Millisecond, 1 << 20
	a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0", withTimeout(timeout))
	received, into := make(chan error, 1), fileOf(t, nil)
	serve(t, b, func(rpc raftwire.RPC) {
		_, err := io.Copy(into, rpc.Reader)
		received <- err
		rpc.Respond(nil, err)
	})
	stalled, end := io.Pipe()
	defer end.Close()
	go func() { _, _ = end.Write(make([]byte, size/2)) }()
	go func() {
		requireTimeout(t, <-received)
		_ = stalled.Close()
	}()
	_, err := installAt(a, b, size, stalled)
	require.Error(t, err)
}

// P9: a file that takes nothing, as on a full disk, loses the place in the
// body. The sender still gets the answer, and nothing that is left of the body
// is taken for a request.
func TestASnapshotThatDoesNotFitIntoTheFileIsAnswered(t *testing.T) {
	const size = 8 << 20
	ended := make(chan error, 2)
	a, b := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0", func(c *raftwire.NetworkTransportConfig) {
		c.Hooks.ConnClosed = func(e raftwire.ConnEvent) { ended <- e.Err }
	})
	into := openFile(t, fileOf(t, nil).Name(), os.O_RDONLY)
	serve(t, b, func(rpc raftwire.RPC) {
		if _, ok := rpc.Command.(*raftwire.InstallSnapshotRequest); !ok {
			accept(rpc)
			return
		}
		_, err := io.CopyN(io.Discard, rpc.Reader, size/2) // what was read ahead of the body, too
		if err == nil {
			_, err = io.Copy(into, rpc.Reader)
		}
		if n, again := rpc.Reader.Read(make([]byte, 1)); n > 0 || again == nil {
			err = errors.New("the reader goes on after bytes were lost")
		}
		rpc.Respond(nil, err)
	})
	body := bytes.Repeat([]byte{3, 0x80}, size/2) // TimeoutNow requests
	_, err := installAt(a, b, size, fileOf(t, body))
	require.ErrorContains(t, err, "bad file descriptor")
	require.NoError(t, appendOnce(a, b.LocalAddr()))
	require.Regexp(t, "^snapshot was answered before it was read to its end; then: (unexpected EOF|read)", <-ended)
}
