package transporttest

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// snapshotCases are about InstallSnapshot and the body that follows it.
var snapshotCases = []testCase{
	{"a snapshot's body arrives exactly, whatever its size", 0, bodyArrives},
	{"a snapshot that is shorter than its size is an error at once", 0, shortBody},
	{"a snapshot that is longer than its size is an error at once", 0, longBody},
	{"a snapshot whose reader fails returns the reader's error at once", 0, failingBody},
	{"a body that the receiver does not read is answered and never taken for requests", 0, unreadBody},
	{"an answer before the body was sent ends the transfer", 0, earlyAnswer},
	{"the sender's reader is not touched after the call", 0, readerLeftAlone},
	{"the receiver's reader fails after the answer", 0, readerEndsWithAnswer},
	{"a body that stalls fails the receiver's Read within the timeout", 0, stalledBody},
	{"a receiver that stops reading fails the sender", 0, stalledReceiver},
	{"a snapshot may take longer than the timeout while it makes progress", 0, slowProgress},
	{"a receiver may take longer than the timeout to install a snapshot that it has read", 0, slowInstall},
}

// snapshot is an InstallSnapshot under way.
type snapshot struct {
	*call
	resp *raftwire.InstallSnapshotResponse
}

func (p *pair) install(size int64, data io.Reader) *snapshot {
	s := &snapshot{resp: filled(new(raftwire.InstallSnapshotResponse))}
	s.call = p.start(func() error {
		args := &raftwire.InstallSnapshotRequest{Term: 1, Size: size}
		return p.sender.InstallSnapshot(peerID, p.to(), args, s.resp, data)
	})
	return s
}

func (s *snapshot) requireInstalled() {
	s.t.Helper()
	require.NoError(s.t, s.wait())
	require.Equal(s.t, &raftwire.InstallSnapshotResponse{Success: true}, s.resp)
}

// requireFailed returns the call's error.
func (s *snapshot) requireFailed() error {
	s.t.Helper()
	err := s.wait()
	require.Error(s.t, err)
	require.Zero(s.t, *s.resp)
	return err
}

func installed(rpc raftwire.RPC) {
	rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, nil)
}

// pattern returns n bytes that would show if some were lost or moved.
func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 / 5)
	}
	return data
}

// commands returns n bytes that would be requests on the wire of hashicorp/raft.
func commands(n int) []byte { return bytes.Repeat([]byte{0x03, 0x80}, n/2+1)[:n] }

func bodyArrives(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, size := range []int{0, 1, 4095, 64<<10 + 1, 1 << 20} {
		s := p.install(int64(size), bytes.NewReader(pattern(size)))
		rpc := p.take()
		require.NotNil(t, rpc.Reader)
		got, err := io.ReadAll(rpc.Reader)
		require.NoError(t, err)
		require.True(t, bytes.Equal(pattern(size), got), "a body of %d bytes arrived as another of %d", size, len(got))
		installed(rpc)
		s.requireInstalled()
	}
	p.requireUsable()
}

func shortBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.serveBodies(func(err error) {
		assert.Error(t, err, "the receiver's Read ended as if the snapshot were whole")
	})
	for _, sent := range []int{0, 10, 99_999} {
		begin := time.Now()
		p.install(100_000, bytes.NewReader(pattern(sent))).requireFailed()
		t.requireWithin(promptly, begin)
	}
	require.NoError(t, p.ownAnswer(1))
}

// serveBodies reads snapshots, shows how that ended, and echoes numbered
// requests. Anything else is wrong.
func (p *pair) serveBodies(ended func(err error)) {
	p.serve(func(rpc raftwire.RPC) {
		switch rpc.Command.(type) {
		case *raftwire.InstallSnapshotRequest:
			_, err := io.Copy(io.Discard, rpc.Reader)
			ended(err)
			rpc.Respond(nil, err)
		case *raftwire.AppendEntriesRequest:
			echo(rpc)
		default:
			assert.Failf(p, "a request was delivered that nobody sent", "%T", rpc.Command)
		}
	})
}

func longBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.serveBodies(func(error) {})
	for _, surplus := range []int{1, 100_000} {
		begin := time.Now()
		p.install(10, bytes.NewReader(commands(10+surplus))).requireFailed()
		t.requireWithin(promptly, begin)
	}
	t.settle()
	require.NoError(t, p.ownAnswer(1))
}

func failingBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.serveBodies(func(err error) {
		assert.Error(t, err, "the receiver's Read ended as if the snapshot were whole")
	})
	begin := time.Now()
	s := p.install(100, io.MultiReader(bytes.NewReader(pattern(10)), failingReader{}))
	require.ErrorIs(t, s.requireFailed(), errDisk)
	t.requireWithin(promptly, begin)
	require.NoError(t, p.ownAnswer(1))
}

type failingReader struct{}

type diskError struct{}

var errDisk diskError

func (diskError) Error() string                { return "disk failure" }
func (failingReader) Read([]byte) (int, error) { return 0, errDisk }

func unreadBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, size := range []int{2, 1 << 20, 16 << 20} {
		s := p.install(int64(size), bytes.NewReader(commands(size)))
		installed(p.take())
		s.requireInstalled()
		p.requireNoRequest()
	}
	p.requireUsable()
}

func earlyAnswer(t *tester) {
	const size = 1 << 40
	p := t.pair(Options{Timeout: generous})
	s := p.install(size, endless{})
	rpc := p.take()
	rpc.Respond(nil, errUnexpectedCommand)
	p.requireRemote("InstallSnapshot", errUnexpectedCommand.Error(), s.wait())
	p.requireUsable()
}

// endless is a body of zeros.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func readerLeftAlone(t *tester) {
	p := t.pair(Options{Timeout: short})
	answered := &guarded{t: t}
	s := p.install(1<<40, answered)
	rpc := p.take()
	rpc.Respond(nil, errUnexpectedCommand)
	require.Error(t, s.wait())
	answered.returned.Store(true)

	timedOut := &guarded{t: t}
	s = p.install(1<<40, timedOut)
	rpc = p.take()
	s.requireFailed()
	timedOut.returned.Store(true)
	_, _ = io.Copy(io.Discard, rpc.Reader)
	rpc.Respond(nil, errUnexpectedCommand)
	t.settle()
}

// guarded is a body of zeros that must not be read once the call has returned.
type guarded struct {
	t        *tester
	returned atomic.Bool
}

func (g *guarded) Read(b []byte) (int, error) {
	assert.False(g.t, g.returned.Load(), "the reader was read after InstallSnapshot had returned")
	return len(b), nil
}

func readerEndsWithAnswer(t *tester) {
	p := t.pair(Options{Timeout: generous})
	s := p.install(1<<20, bytes.NewReader(pattern(1<<20)))
	rpc := p.take()
	installed(rpc)
	s.requireInstalled()
	p.settle()
	_, err := rpc.Reader.Read(make([]byte, 10))
	require.Error(t, err)
}

func stalledBody(t *tester) {
	p := t.pair(Options{Timeout: short})
	data, feed := io.Pipe()
	s := p.install(100, data)
	_, err := feed.Write(pattern(10))
	require.NoError(t, err)
	rpc := p.take()
	read := p.start(func() error { _, err := io.Copy(io.Discard, rpc.Reader); return err })
	require.Error(t, read.wait())
	p.requireShort(read.took)
	rpc.Respond(nil, errUnexpectedCommand)
	require.NoError(t, feed.CloseWithError(errDisk))
	require.Error(t, s.wait())
	p.requireUsable()
}

func stalledReceiver(t *tester) {
	p := t.pair(Options{Timeout: short})
	s := p.install(1<<40, endless{})
	rpc := p.take()
	_, err := io.ReadFull(rpc.Reader, make([]byte, 1000))
	require.NoError(t, err)
	begin := time.Now()
	t.requireTimeout(s.requireFailed())
	// A write that timed out halfway was progress, so there may be a second.
	t.requireWithin(2*short, begin)
	p.requireUsable()
}

func slowProgress(t *tester) {
	const size, pieces = 1 << 20, 4
	p := t.pair(Options{Timeout: short})
	s := p.install(size, bytes.NewReader(pattern(size)))
	rpc := p.take()
	for range pieces {
		t.pause(short * 3 / 4)
		_, err := io.CopyN(io.Discard, rpc.Reader, size/pieces)
		require.NoError(t, err)
	}
	installed(rpc)
	s.requireInstalled()
}

func slowInstall(t *tester) {
	p := t.pair(Options{Timeout: short})
	s := p.install(1000, bytes.NewReader(pattern(1000)))
	rpc := p.take()
	_, err := io.Copy(io.Discard, rpc.Reader)
	require.NoError(t, err)
	t.pause(2 * short)
	installed(rpc)
	s.requireInstalled()
}
