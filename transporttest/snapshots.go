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
	{"a snapshot may be shorter than its size, and is answered", 0, shortBody},
	{"a receiver that waits for the rest of a shorter snapshot fails at once", 0, missingRest},
	{"a snapshot may be longer than its size, is answered, and nothing of it is taken for a request", 0, longBody},
	{"a snapshot whose reader fails returns the reader's error at once", 0, failingBody},
	{"a body that the receiver does not read is answered and never taken for requests", 0, unreadBody},
	{"an answer before the body was sent ends the transfer", 0, earlyAnswer},
	{"the sender's reader is not touched after the call", 0, readerLeftAlone},
	{"the receiver's reader fails after the answer", 0, readerEndsWithAnswer},
	{"a body that stalls for the timeout fails the receiver's Read while another peer's request waits", 0, stalledBody},
	{"a receiver that stops reading, and answers nothing else, fails the sender", 0, stalledReceiver},
	{"a receiver that stops reading for a while, and answers other requests, gets the snapshot", 0, resumingReceiver},
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
		args := &raftwire.InstallSnapshotRequest{RPCHeader: headerOf(p.sender), Term: 1, Size: size}
		return p.sender.InstallSnapshot(peerID, p.to(), args, s.resp, data)
	})
	return s
}

// headerOf is what a core puts into its requests.
func headerOf(sender raftwire.Transport) raftwire.RPCHeader {
	return raftwire.RPCHeader{Addr: []byte(sender.LocalAddr())}
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

// shortBody is what programs do that compress a snapshot under way.
func shortBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, sent := range []int{1, 10, 99_999} {
		s := p.install(100_000, bytes.NewReader(pattern(sent)))
		rpc := p.take()
		got := make([]byte, sent)
		_, err := io.ReadFull(rpc.Reader, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(pattern(sent), got), "a body of %d bytes arrived as another", sent)
		t.settle()
		installed(rpc)
		s.requireInstalled()
	}
	p.requireUsable()
}

func missingRest(t *tester) {
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
	const size = 10
	p := t.pair(Options{Timeout: generous})
	p.serve(func(rpc raftwire.RPC) {
		if _, snapshot := rpc.Command.(*raftwire.InstallSnapshotRequest); !snapshot {
			assert.IsType(t, &raftwire.AppendEntriesRequest{}, rpc.Command, "a request was delivered that nobody sent")
			echo(rpc)
			return
		}
		got, err := io.ReadAll(rpc.Reader)
		assert.NoError(t, err)
		assert.GreaterOrEqual(t, len(got), size)
		installed(rpc)
	})
	for _, surplus := range []int{1, 100_000} {
		begin := time.Now()
		p.install(size, bytes.NewReader(commands(size+surplus))).requireInstalled()
		t.requireWithin(promptly, begin)
		t.settle()
	}
	require.NoError(t, p.ownAnswer(1))
}

func failingBody(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.serveBodies(func(err error) {
		assert.Error(t, err, "the receiver's Read ended as if the snapshot were whole")
	})
	for _, sent := range []int{0, 10, 100} { // all of it: the reader has checked what it read
		begin := time.Now()
		s := p.install(100, io.MultiReader(bytes.NewReader(pattern(sent)), failingReader{}))
		require.ErrorIs(t, s.requireFailed(), errDisk)
		t.requireWithin(promptly, begin)
	}
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
	made := t.transports(3, Options{Timeout: short})
	p, candidate := &pair{t, made[0], made[1]}, made[2]
	data, feed := io.Pipe()
	s := p.install(100, data)
	_, err := feed.Write(pattern(10))
	require.NoError(t, err)
	rpc := p.take()
	over := make(chan struct{})
	campaign := p.start(func() error {
		for {
			vote := &raftwire.RequestVoteRequest{RPCHeader: headerOf(candidate), Term: 2}
			err := candidate.RequestVote(peerID, p.to(), vote, new(raftwire.RequestVoteResponse))
			select {
			case <-over:
				return err
			default:
			}
		}
	})
	read := p.start(func() error { _, err := io.Copy(io.Discard, rpc.Reader); return err })
	t.requireTimeout(read.wait())
	require.GreaterOrEqual(t, read.took, short-time.Millisecond)
	t.requireWithin(2*short, time.Now().Add(-read.took))
	rpc.Respond(nil, errUnexpectedCommand)
	close(over)
	require.NoError(t, feed.CloseWithError(errDisk))
	require.Error(t, s.wait())
	p.requireServes()
	_ = campaign.wait() // its last vote is answered, or times out
}

func stalledReceiver(t *tester) {
	p := t.pair(Options{Timeout: short})
	s := p.install(1<<40, endless{})
	rpc := p.take()
	_, err := io.ReadFull(rpc.Reader, make([]byte, 1000))
	require.NoError(t, err)
	begin := time.Now()
	t.requireTimeout(s.requireFailed())
	// A write that was interrupted halfway was progress, so there may be a second.
	t.requireWithin(6*short, begin)
	p.requireUsable()
}

func resumingReceiver(t *tester) {
	const size = 1 << 24 // more than is buffered on the way
	p := t.pair(Options{Timeout: short})
	s := p.install(size, bytes.NewReader(pattern(size)))
	rpc := p.take()
	_, err := io.ReadFull(rpc.Reader, make([]byte, 1000))
	require.NoError(t, err)
	p.serve(echo)
	for number := range 7 {
		require.NoError(t, p.ownAnswer(number+1))
		t.pause(short / 2)
	}
	n, err := io.Copy(io.Discard, rpc.Reader)
	require.NoError(t, err)
	require.EqualValues(t, size-1000, n)
	installed(rpc)
	s.requireInstalled()
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
