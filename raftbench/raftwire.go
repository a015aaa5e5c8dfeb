package main

import (
	"io"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire"
)

// raftwireStack makes transports of raftwire's type set. This file and its
// twin for the other type set are the same but for the names, so that nobody
// is measured by better code; a test holds them together.
var raftwireStack = raftwireMaker(newRaftwire).stack()

// A raftwireMaker makes a transport over TCP.
type raftwireMaker func(listen string, s setup) (raftwireTransport, error)

// A raftwireTransport is a transport with its type set.
type raftwireTransport interface {
	raftwire.Transport
	CloseStreams()
	Close() error
}

func (m raftwireMaker) stack() stack { return stack{listen: m.listen, dial: m.dial} }

// A raftwireReceiver is a transport whose requests are answered.
type raftwireReceiver struct {
	transport raftwireTransport
	due       *raftwire.AppendEntriesRequest // what every request is; nil means anything
	save      func(snapshot io.Reader) error
	beats     atomic.Uint64 // heartbeats answered

	quit   chan struct{} // closed by Close
	served chan struct{} // closed when serve has ended
}

func (m raftwireMaker) listen(listen string, s setup) (receiver, error) {
	transport, err := m(listen, s)
	if err != nil {
		return nil, err
	}
	r := &raftwireReceiver{
		transport: transport,
		save:      s.save,
		quit:      make(chan struct{}),
		served:    make(chan struct{}),
	}
	if s.content != nil {
		r.due = raftwireRequest(s.content)
	}
	transport.SetHeartbeatHandler(func(rpc raftwire.RPC) { r.answer(rpc, r.beats.Add(1)-1) })
	go r.serve()
	return r, nil
}

func (r *raftwireReceiver) address() string { return string(r.transport.LocalAddr()) }

// serve answers the receiver's requests, as a Raft core does: one goroutine,
// one request after the other.
func (r *raftwireReceiver) serve() {
	defer close(r.served)
	requests := r.transport.Consumer()
	for answers := uint64(0); ; answers++ {
		select {
		case rpc := <-requests:
			r.answer(rpc, answers)
		case <-r.quit:
			return
		}
	}
}

// answer answers a request before which there were that many answers.
func (r *raftwireReceiver) answer(rpc raftwire.RPC, answers uint64) {
	switch {
	case r.intact(rpc.Command, answers == 0):
		rpc.Respond(raftwireAnswer(firstAnswer+answers), nil)
	case rpc.Reader != nil && r.save != nil:
		err := r.save(rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Term: term, Success: err == nil}, err)
	default:
		rpc.Respond(nil, errAltered)
	}
}

// intact reports whether a request arrived as it was sent. The first is
// compared in full, later ones by length.
func (r *raftwireReceiver) intact(command any, first bool) bool {
	got, ok := command.(*raftwire.AppendEntriesRequest)
	if !ok || r.due == nil {
		return ok
	}
	if first {
		return reflect.DeepEqual(got, r.due)
	}
	last := len(got.Entries) - 1
	return len(got.Entries) == len(r.due.Entries) &&
		(last < 0 || len(got.Entries[last].Data) == len(r.due.Entries[last].Data))
}

func (r *raftwireReceiver) Close() error {
	err := r.transport.Close()
	close(r.quit)
	<-r.served
	return err
}

// A raftwireSender is a transport that sends requests.
type raftwireSender struct {
	transport raftwireTransport
}

func (m raftwireMaker) dial(s setup) (sender, error) {
	transport, err := m(loopback, s)
	if err != nil {
		return nil, err
	}
	return &raftwireSender{transport}, nil
}

// Close also ends the connections at once, and with them the goroutines that
// wait at the other end.
func (t *raftwireSender) Close() error {
	t.transport.CloseStreams()
	return t.transport.Close()
}

func (t *raftwireSender) link(target string, s setup) link {
	l := &raftwireLink{
		transport: t.transport,
		target:    raftwire.ServerAddress(target),
		answers:   s.tally(),
	}
	if s.content != nil {
		l.request = raftwireRequest(s.content)
	}
	return l
}

// A raftwireLink sends its request to one receiver.
type raftwireLink struct {
	transport raftwireTransport
	target    raftwire.ServerAddress
	request   *raftwire.AppendEntriesRequest
	answers   tally
}

func (l *raftwireLink) call() error {
	resp := new(raftwire.AppendEntriesResponse)
	err := l.transport.AppendEntries(raftwire.ServerID(receiverID), l.target, l.request, resp)
	if err != nil {
		return err
	}
	return l.answers.check(resp.Success, resp.LastLog)
}

func (l *raftwireLink) pipeline() (pipeline, error) {
	p, err := l.transport.AppendEntriesPipeline(raftwire.ServerID(receiverID), l.target)
	if err != nil {
		return nil, err
	}
	return &raftwirePipeline{AppendPipeline: p, futures: p.Consumer(), request: l.request, answers: l.answers}, nil
}

func (l *raftwireLink) snapshot(body io.Reader, size int64) error {
	args := &raftwire.InstallSnapshotRequest{
		RPCHeader:       raftwire.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		SnapshotVersion: 1,
		Term:            term,
		LastLogIndex:    lastIndex,
		LastLogTerm:     term,
		Size:            size,
	}
	resp := new(raftwire.InstallSnapshotResponse)
	err := l.transport.InstallSnapshot(raftwire.ServerID(receiverID), l.target, args, resp, body)
	if err == nil && !resp.Success {
		return errAltered
	}
	return err
}

// A raftwirePipeline sends the link's request again and again.
type raftwirePipeline struct {
	raftwire.AppendPipeline
	futures <-chan raftwire.AppendFuture
	request *raftwire.AppendEntriesRequest
	answers tally // owned by the goroutine that receives
}

func (p *raftwirePipeline) send() error {
	_, err := p.AppendEntries(p.request, new(raftwire.AppendEntriesResponse))
	return err
}

func (p *raftwirePipeline) receive(quit <-chan struct{}) (start time.Time, err error) {
	select {
	case future := <-p.futures:
		if err := future.Error(); err != nil {
			return time.Time{}, err
		}
		return future.Start(), p.answers.check(future.Response().Success, future.Response().LastLog)
	case <-quit:
		return time.Time{}, errNoMore
	}
}

// raftwireRequest returns the content's request, which is a heartbeat if it
// has no entries.
func raftwireRequest(c *content) *raftwire.AppendEntriesRequest {
	req := &raftwire.AppendEntriesRequest{
		RPCHeader: raftwire.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		Term:      term,
	}
	req.Leader = senderAddr
	if len(c.entries) == 0 {
		return req
	}
	req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = lastIndex, term, lastIndex
	for i, data := range c.entries {
		req.Entries = append(req.Entries, &raftwire.Log{
			Index:      lastIndex + 1 + uint64(i),
			Term:       term,
			Type:       raftwire.LogCommand,
			Data:       data,
			AppendedAt: c.appendedAt,
		})
	}
	return req
}

func raftwireAnswer(lastLog uint64) *raftwire.AppendEntriesResponse {
	return &raftwire.AppendEntriesResponse{
		RPCHeader: raftwire.RPCHeader{ProtocolVersion: protocolVersion, ID: receiverID, Addr: receiverAddr},
		Term:      term,
		LastLog:   lastLog,
		Success:   true,
	}
}
