package transporttest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// callCases are about requests and answers that get through.
var callCases = []testCase{
	{"every request and every answer arrives with all its fields", 0, everyFieldArrives},
	{"a request of zero values arrives as such", 0, zeroValuesArrive},
	{"Consumer and LocalAddr return the same each time", 0, sameConsumer},
	{"DecodePeer gives back what EncodePeer was given", 0, peerRoundTrip},
	{"calls by many goroutines get their own answers", 0, concurrentCalls},
	{"a thousand small entries arrive in order", 0, manyEntries},
	{"an entry of a megabyte arrives unchanged", 0, largeEntry},
	{"entries with empty and without data arrive with no data", 0, emptyEntries},
	{"a call to a closed peer is an error", Close, closedPeer},
	{"an error on the way names the request and the peer", Close, errorsSayWhere},
	{"requests are answered in any order if they came from different calls", 0, answersOutOfOrder},
}

func everyFieldArrives(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		p.requireEveryField(r)
	}
}

func (p *pair) requireEveryField(r request) {
	p.Helper()
	resp := r.none()
	call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
	rpc := p.take()
	p.requireMessage(r.args(), rpc.Command, r.name)
	answerWith(r.answer(), nil)(rpc)
	require.NoError(p, call.wait(), r.name)
	p.requireMessage(r.answer(), resp, r.name)
}

func zeroValuesArrive(t *tester) {
	p := t.pair(Options{Timeout: generous})
	call := p.start(func() error {
		var resp raftwire.AppendEntriesResponse
		return p.sender.AppendEntries(peerID, p.to(), &raftwire.AppendEntriesRequest{}, &resp)
	})
	rpc := p.take()
	require.Equal(t, &raftwire.AppendEntriesRequest{}, rpc.Command)
	rpc.Respond(&raftwire.AppendEntriesResponse{}, nil)
	require.NoError(t, call.wait())
}

func sameConsumer(t *tester) {
	p := t.pair(Options{Timeout: generous})
	consumer, addr := p.receiver.Consumer(), p.receiver.LocalAddr()
	require.NotNil(t, consumer)
	require.NotEqual(t, p.sender.LocalAddr(), addr)
	p.requireUsable()
	require.True(t, consumer == p.receiver.Consumer())
	require.Equal(t, addr, p.receiver.LocalAddr())
}

func peerRoundTrip(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, addr := range []raftwire.ServerAddress{p.to(), "10.0.0.1:8300", "[::1]:8300", "node-1.example:8300", "a name", ""} {
		encoded := p.sender.EncodePeer(peerID, addr)
		require.Equal(t, addr, p.receiver.DecodePeer(encoded))
	}
}

func concurrentCalls(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.serve(echo)
	var callers sync.WaitGroup
	for caller := range 32 {
		callers.Go(func() {
			for i := range 10 {
				p.checkOwnAnswer(1 + 100*caller + i)
			}
		})
	}
	callers.Wait()
}

func (p *pair) checkOwnAnswer(number int) {
	var resp raftwire.AppendEntriesResponse
	err := p.sender.AppendEntries(peerID, p.to(), numbered(number), &resp)
	assert.NoError(p, err)
	assert.Equal(p, uint64(number), resp.LastLog)
}

func manyEntries(t *tester) {
	p := t.pair(Options{Timeout: generous})
	var entries []*raftwire.Log
	for i := range 1000 {
		entries = append(entries, &raftwire.Log{Index: uint64(i + 1), Term: 7, Data: fmt.Appendf(nil, "entry %d", i)})
	}
	p.requireEntriesArrive(entries)
}

func largeEntry(t *tester) {
	p := t.pair(Options{Timeout: generous})
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	p.requireEntriesArrive([]*raftwire.Log{
		{Index: 1, Data: []byte("before")},
		{Index: 2, Data: data, Extensions: data[:1000]},
		{Index: 3, Data: []byte("after")},
	})
}

func emptyEntries(t *tester) {
	p := t.pair(Options{Timeout: generous})
	entries := p.sendEntries([]*raftwire.Log{
		{Index: 1, Data: []byte{}},
		{Index: 2},
		{Index: 3, Data: []byte{0}},
	})
	require.Len(t, entries, 3)
	require.Empty(t, entries[0].Data)
	require.Empty(t, entries[1].Data)
	require.Equal(t, []byte{0}, entries[2].Data)
}

func (p *pair) requireEntriesArrive(want []*raftwire.Log) {
	p.Helper()
	got := p.sendEntries(want)
	require.Len(p, got, len(want))
	for i := range want {
		require.Equal(p, want[i], got[i])
	}
}

// sendEntries returns the entries as the receiver got them.
func (p *pair) sendEntries(entries []*raftwire.Log) []*raftwire.Log {
	p.Helper()
	args := numbered(1)
	args.Entries = entries
	call := p.start(func() error {
		return p.sender.AppendEntries(peerID, p.to(), args, new(raftwire.AppendEntriesResponse))
	})
	rpc := p.take()
	succeed(rpc)
	require.NoError(p, call.wait())
	return rpc.Command.(*raftwire.AppendEntriesRequest).Entries
}

func closedPeer(t *tester) {
	p := t.pair(Options{Timeout: generous})
	p.requireUsable()
	to := p.to()
	t.closeTransport(p.receiver)
	for _, r := range t.requests() {
		resp := r.answer()
		call := p.start(func() error { return r.send(p.sender, to, r.args(), resp) })
		require.Error(t, call.wait(), r.name)
		require.Equal(t, r.none(), resp, r.name)
	}
}

func errorsSayWhere(t *tester) {
	p := t.pair(Options{Timeout: generous})
	to := p.to()
	t.closeTransport(p.receiver)
	for _, r := range t.requests() {
		err := p.start(func() error { return r.send(p.sender, to, r.args(), r.none()) }).wait()
		require.ErrorContains(t, err, r.name)
		require.ErrorContains(t, err, string(to))
	}
}

func answersOutOfOrder(t *tester) {
	p := t.pair(Options{Timeout: generous})
	var calls []*call
	var taken []raftwire.RPC
	for number := 1; number <= 4; number++ {
		calls = append(calls, p.start(func() error { return p.ownAnswer(number) }))
		taken = append(taken, p.take())
	}
	for i := len(taken) - 1; i >= 0; i-- {
		echo(taken[i])
		require.NoError(t, calls[i].wait())
	}
}

func (p *pair) ownAnswer(number int) error {
	var resp raftwire.AppendEntriesResponse
	err := p.sender.AppendEntries(peerID, p.to(), numbered(number), &resp)
	if err == nil && resp.LastLog != uint64(number) {
		return errors.New("the answer belongs to another call")
	}
	return err
}

// ownershipCases are about who may touch what, and when.
var ownershipCases = []testCase{
	{"a call does not change its arguments", 0, argumentsUnchanged},
	{"what the receiver does to a request does not reach the sender", 0, receiverMayChangeCommand},
	{"what the sender does to its arguments after the call does not reach the receiver", 0, senderMayChangeArgs},
	{"arguments may be changed after a timeout although the receiver still reads the request", 0, senderMayChangeArgsAfterTimeout},
	{"one args serves concurrent calls to several peers", 0, sharedArgs},
	{"a response is not shared between receiver and sender", 0, responseNotShared},
	{"a late answer does not touch the response", 0, noLateWrite},
}

func argumentsUnchanged(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		args := r.args()
		call := p.start(func() error { return r.send(p.sender, p.to(), args, r.none()) })
		answerWith(r.answer(), nil)(p.take())
		require.NoError(t, call.wait(), r.name)
		p.requireMessage(r.args(), args, r.name)
	}
}

func receiverMayChangeCommand(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		args := r.args()
		call := p.start(func() error { return r.send(p.sender, p.to(), args, r.none()) })
		rpc := p.take()
		scribble(rpc.Command)
		answerWith(r.answer(), nil)(rpc)
		require.NoError(t, call.wait(), r.name)
		p.requireMessage(r.args(), args, r.name)
	}
}

func senderMayChangeArgs(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		args := r.args()
		call := p.start(func() error { return r.send(p.sender, p.to(), args, r.none()) })
		rpc := p.take()
		answerWith(r.answer(), nil)(rpc)
		require.NoError(t, call.wait(), r.name)
		scribble(args)
		p.requireMessage(r.args(), rpc.Command, r.name)
	}
}

func senderMayChangeArgsAfterTimeout(t *tester) {
	p := t.pair(Options{Timeout: short})
	for _, r := range t.requests() {
		if r.name == "InstallSnapshot" {
			continue // waits for the follower's restore, which has a limit of its own
		}
		args := r.args()
		call := p.start(func() error { return r.send(p.sender, p.to(), args, r.none()) })
		rpc := p.take()
		sender := p.start(func() error { err := call.wait(); scribble(args); return err })
		p.requireMessage(r.args(), rpc.Command, r.name)
		t.requireTimeout(sender.wait())
		p.requireMessage(r.args(), rpc.Command, r.name)
	}
}

func sharedArgs(t *tester) {
	made := t.transports(4, Options{Timeout: generous})
	sender, receivers := made[0], made[1:]
	for _, receiver := range receivers {
		t.serveOn(receiver, func(rpc raftwire.RPC) { scribble(rpc.Command); succeed(rpc) })
	}
	args := filled(new(raftwire.AppendEntriesRequest))
	var calls []*call
	for i := range 12 {
		to := receivers[i%len(receivers)].LocalAddr()
		calls = append(calls, t.start(func() error {
			return sender.AppendEntries(peerID, to, args, new(raftwire.AppendEntriesResponse))
		}))
	}
	for _, call := range calls {
		require.NoError(t, call.wait())
	}
	t.requireMessage(filled(new(raftwire.AppendEntriesRequest)), args, "args")
}

func responseNotShared(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		answer, resp := r.answer(), r.none()
		call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
		answerWith(answer, nil)(p.take())
		require.NoError(t, call.wait(), r.name)
		scribble(answer)
		p.requireMessage(r.answer(), resp, r.name)
	}
}

func noLateWrite(t *tester) {
	p := t.pair(Options{Timeout: short})
	var resp raftwire.AppendEntriesResponse
	call := p.start(func() error { return p.sender.AppendEntries(peerID, p.to(), numbered(1), &resp) })
	rpc := p.take()
	t.requireTimeout(call.wait())
	resp.LastLog = 42
	echo(rpc)
	t.settle()
	require.Equal(t, raftwire.AppendEntriesResponse{LastLog: 42}, resp)
}

// answerCases are about what a receiver may answer.
var answerCases = []testCase{
	{"an answer overwrites the response completely", 0, responseOverwritten},
	{"a nil answer arrives as the zero response", 0, nilAnswer},
	{"an error of the peer keeps its text and is a RemoteError", 0, remoteError},
	{"an error of the peer comes with the response it was sent with", 0, remoteErrorWithResponse},
	{"an answer of the wrong type is an error and no panic", 0, wrongAnswer},
	{"answering twice is harmless", 0, answerTwice},
}

func responseOverwritten(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		p.requireAnswer(r, r.none(), nil, r.none())
	}
}

func nilAnswer(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		p.requireAnswer(r, nil, nil, r.none())
	}
}

func remoteError(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		p.requireAnswer(r, nil, errUnexpectedCommand, r.none())
	}
	p.requireUsable()
}

func remoteErrorWithResponse(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		p.requireAnswer(r, r.answer(), errUnexpectedCommand, r.answer())
	}
}

// requireAnswer checks what becomes of an answer if the caller's response
// holds something else before.
func (p *pair) requireAnswer(r request, answer any, answerErr error, want any) {
	p.Helper()
	resp := r.answer()
	call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
	answerWith(answer, answerErr)(p.take())
	if err := call.wait(); answerErr == nil {
		require.NoError(p, err, r.name)
	} else {
		p.requireRemote(r.name, answerErr.Error(), err)
	}
	p.requireMessage(want, resp, r.name)
}

func wrongAnswer(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for _, r := range t.requests() {
		for _, wrong := range []any{"a string", 7, struct{}{}, &raftwire.Log{}, []byte("bytes"), r.args()} {
			p.requireWrong(r, wrong)
		}
	}
	p.requireUsable()
}

func (p *pair) requireWrong(r request, answer any) {
	p.Helper()
	resp := r.answer()
	call := p.start(func() error { return r.send(p.sender, p.to(), r.args(), resp) })
	answerWith(answer, nil)(p.take())
	require.Error(p, call.wait(), "%s answered with %T", r.name, answer)
	require.Equal(p, r.none(), resp, "%s answered with %T", r.name, answer)
}

func answerTwice(t *tester) {
	p := t.pair(Options{Timeout: generous})
	for number := 1; number <= 5; number++ {
		call := p.start(func() error { return p.ownAnswer(number) })
		rpc := p.take()
		echo(rpc)
		select {
		case rpc.RespChan <- raftwire.RPCResponse{Response: &raftwire.AppendEntriesResponse{LastLog: 99}}:
		default: // a second answer may block
		}
		require.NoError(t, call.wait())
	}
}
