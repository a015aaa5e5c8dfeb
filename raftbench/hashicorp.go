package main

import (
	"io"
	"reflect"
	"sync/atomic"
	"time"

	hashicorp "github.com/hashicorp/raft"
)

// hashicorpStack makes transports of hashicorp's type set. This file and its
// twin for the other type set are the same but for the names, so that nobody
// is measured by better code; a test holds them together.
var hashicorpStack = hashicorpMaker(newHashicorp).stack()

// A hashicorpMaker makes a transport over TCP.
type hashicorpMaker func(listen string, s setup) (hashicorpTransport, error)

// A hashicorpTransport is a transport with its type set.
type hashicorpTransport interface {
	hashicorp.Transport
	CloseStreams()
	Close() error
}

func (m hashicorpMaker) stack() stack { return stack{listen: m.listen, dial: m.dial} }

// A hashicorpReceiver is a transport whose requests are answered.
type hashicorpReceiver struct {
	transport hashicorpTransport
	due       *hashicorp.AppendEntriesRequest // what every request is; nil means anything
	save      func(snapshot io.Reader) error
	beats     atomic.Uint64 // heartbeats answered

	quit   chan struct{} // closed by Close
	served chan struct{} // closed when serve has ended
}

func (m hashicorpMaker) listen(listen string, s setup) (receiver, error) {
	transport, err := m(listen, s)
	if err != nil {
		return nil, err
	}
	r := &hashicorpReceiver{
		transport: transport,
		save:      s.save,
		quit:      make(chan struct{}),
		served:    make(chan struct{}),
	}
	if s.content != nil {
		r.due = hashicorpRequest(s.content)
	}
	transport.SetHeartbeatHandler(func(rpc hashicorp.RPC) { r.answer(rpc, r.beats.Add(1)-1) })
	go r.serve()
	return r, nil
}

func (r *hashicorpReceiver) address() string { return string(r.transport.LocalAddr()) }

// serve answers the receiver's requests, as a Raft core does: one goroutine,
// one request after the other.
func (r *hashicorpReceiver) serve() {
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
func (r *hashicorpReceiver) answer(rpc hashicorp.RPC, answers uint64) {
	switch {
	case r.intact(rpc.Command, answers == 0):
		rpc.Respond(hashicorpAnswer(firstAnswer+answers), nil)
	case rpc.Reader != nil && r.save != nil:
		err := r.save(rpc.Reader)
		rpc.Respond(&hashicorp.InstallSnapshotResponse{Term: term, Success: err == nil}, err)
	default:
		rpc.Respond(nil, errAltered)
	}
}

// intact reports whether a request arrived as it was sent. The first is
// compared in full, later ones by length.
func (r *hashicorpReceiver) intact(command any, first bool) bool {
	got, ok := command.(*hashicorp.AppendEntriesRequest)
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

func (r *hashicorpReceiver) Close() error {
	err := r.transport.Close()
	close(r.quit)
	<-r.served
	return err
}

// A hashicorpSender is a transport that sends requests.
type hashicorpSender struct {
	transport hashicorpTransport
}

func (m hashicorpMaker) dial(s setup) (sender, error) {
	transport, err := m(loopback, s)
	if err != nil {
		return nil, err
	}
	return &hashicorpSender{transport}, nil
}

// Close also ends the connections at once, and with them the goroutines that
// wait at the other end.
func (t *hashicorpSender) Close() error {
	t.transport.CloseStreams()
	return t.transport.Close()
}

func (t *hashicorpSender) link(target string, s setup) link {
	l := &hashicorpLink{
		transport: t.transport,
		target:    hashicorp.ServerAddress(target),
		answers:   s.tally(),
	}
	if s.content != nil {
		l.request = hashicorpRequest(s.content)
	}
	return l
}

// A hashicorpLink sends its request to one receiver.
type hashicorpLink struct {
	transport hashicorpTransport
	target    hashicorp.ServerAddress
	request   *hashicorp.AppendEntriesRequest
	answers   tally
}

func (l *hashicorpLink) call() error {
	resp := new(hashicorp.AppendEntriesResponse)
	err := l.transport.AppendEntries(hashicorp.ServerID(receiverID), l.target, l.request, resp)
	if err != nil {
		return err
	}
	return l.answers.check(resp.Success, resp.LastLog)
}

func (l *hashicorpLink) pipeline() (pipeline, error) {
	p, err := l.transport.AppendEntriesPipeline(hashicorp.ServerID(receiverID), l.target)
	if err != nil {
		return nil, err
	}
	return &hashicorpPipeline{AppendPipeline: p, futures: p.Consumer(), request: l.request, answers: l.answers}, nil
}

func (l *hashicorpLink) snapshot(body io.Reader, size int64) error {
	args := &hashicorp.InstallSnapshotRequest{
		RPCHeader:       hashicorp.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		SnapshotVersion: 1,
		Term:            term,
		LastLogIndex:    lastIndex,
		LastLogTerm:     term,
		Size:            size,
	}
	resp := new(hashicorp.InstallSnapshotResponse)
	err := l.transport.InstallSnapshot(hashicorp.ServerID(receiverID), l.target, args, resp, body)
	if err == nil && !resp.Success {
		return errAltered
	}
	return err
}

// A hashicorpPipeline sends the link's request again and again.
type hashicorpPipeline struct {
	hashicorp.AppendPipeline
	futures <-chan hashicorp.AppendFuture
	request *hashicorp.AppendEntriesRequest
	answers tally // owned by the goroutine that receives
}

func (p *hashicorpPipeline) send() error {
	_, err := p.AppendEntries(p.request, new(hashicorp.AppendEntriesResponse))
	return err
}

func (p *hashicorpPipeline) receive(quit <-chan struct{}) (start time.Time, err error) {
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

// hashicorpRequest returns the content's request, which is a heartbeat if it
// has no entries.
func hashicorpRequest(c *content) *hashicorp.AppendEntriesRequest {
	req := &hashicorp.AppendEntriesRequest{
		RPCHeader: hashicorp.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		Term:      term,
	}
	//lint:ignore SA1019 Raft cores still fill it in, for old peers.
	req.Leader = senderAddr
	if len(c.entries) == 0 {
		return req
	}
	req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex = lastIndex, term, lastIndex
	for i, data := range c.entries {
		req.Entries = append(req.Entries, &hashicorp.Log{
			Index:      lastIndex + 1 + uint64(i),
			Term:       term,
			Type:       hashicorp.LogCommand,
			Data:       data,
			AppendedAt: c.appendedAt,
		})
	}
	return req
}

func hashicorpAnswer(lastLog uint64) *hashicorp.AppendEntriesResponse {
	return &hashicorp.AppendEntriesResponse{
		RPCHeader: hashicorp.RPCHeader{ProtocolVersion: protocolVersion, ID: receiverID, Addr: receiverAddr},
		Term:      term,
		LastLog:   lastLog,
		Success:   true,
	}
}
