package main

import (
	"errors"
	"reflect"
	"time"

	hashicorp "github.com/hashicorp/raft"
)

// A hashicorpLink is two transports, one of which sends requests that the
// other receives. This file and its twin for the other type set are the same
// but for the names, so that nobody is measured by better code; a test holds
// them together.
type hashicorpLink struct {
	sender, receiver *hashicorp.NetworkTransport
	request          *hashicorp.AppendEntriesRequest
	tally            tally

	quit   chan struct{} // closed by Close
	served chan struct{} // closed when serve has ended
}

func openHashicorp(s setup) (link, error) {
	receiver, err := newHashicorp(s)
	if err != nil {
		return nil, err
	}
	sender, err := newHashicorp(s)
	if err != nil {
		return nil, errors.Join(err, receiver.Close())
	}
	l := &hashicorpLink{
		sender:   sender,
		receiver: receiver,
		request:  hashicorpRequest(s.content),
		quit:     make(chan struct{}),
		served:   make(chan struct{}),
	}
	go l.serve()
	return l, nil
}

func newHashicorp(s setup) (*hashicorp.NetworkTransport, error) {
	return hashicorp.NewTCPTransportWithConfig(loopback, nil, &hashicorp.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
	})
}

// serve answers the receiver's requests, as a Raft core does: one goroutine,
// one request after the other.
func (l *hashicorpLink) serve() {
	defer close(l.served)
	requests := l.receiver.Consumer()
	for answers := uint64(0); ; answers++ {
		select {
		case rpc := <-requests:
			if l.intact(rpc.Command, answers == 0) {
				rpc.Respond(hashicorpAnswer(firstAnswer+answers), nil)
			} else {
				rpc.Respond(nil, errAltered)
			}
		case <-l.quit:
			return
		}
	}
}

// intact reports whether a request arrived as it was sent. The first is
// compared in full, later ones by length.
func (l *hashicorpLink) intact(command any, first bool) bool {
	got, ok := command.(*hashicorp.AppendEntriesRequest)
	if !ok || len(got.Entries) != len(l.request.Entries) {
		return false
	}
	if first {
		return reflect.DeepEqual(got, l.request)
	}
	last := len(got.Entries) - 1
	return last < 0 || len(got.Entries[last].Data) == len(l.request.Entries[last].Data)
}

func (l *hashicorpLink) call() error {
	resp := new(hashicorp.AppendEntriesResponse)
	err := l.sender.AppendEntries(hashicorp.ServerID(receiverID), l.receiver.LocalAddr(), l.request, resp)
	if err != nil {
		return err
	}
	return l.tally.check(resp.Success, resp.LastLog)
}

func (l *hashicorpLink) pipeline() (pipeline, error) {
	p, err := l.sender.AppendEntriesPipeline(hashicorp.ServerID(receiverID), l.receiver.LocalAddr())
	if err != nil {
		return nil, err
	}
	return &hashicorpPipeline{AppendPipeline: p, futures: p.Consumer(), request: l.request}, nil
}

// Close ends both transports. The sender's connections go first, which ends
// the receiver's goroutines that wait at the other end.
func (l *hashicorpLink) Close() error {
	l.sender.CloseStreams()
	err := errors.Join(l.sender.Close(), l.receiver.Close())
	close(l.quit)
	<-l.served
	return err
}

// A hashicorpPipeline sends the link's request again and again.
type hashicorpPipeline struct {
	hashicorp.AppendPipeline
	futures <-chan hashicorp.AppendFuture
	request *hashicorp.AppendEntriesRequest
	tally   tally // owned by the goroutine that receives
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
		return future.Start(), p.tally.check(future.Response().Success, future.Response().LastLog)
	case <-quit:
		return time.Time{}, errNoMore
	}
}

func hashicorpRequest(c content) *hashicorp.AppendEntriesRequest {
	req := &hashicorp.AppendEntriesRequest{
		RPCHeader:         hashicorp.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		Term:              term,
		PrevLogEntry:      lastIndex,
		PrevLogTerm:       term,
		LeaderCommitIndex: lastIndex,
	}
	//lint:ignore SA1019 Raft cores still fill it in, for old peers.
	req.Leader = senderAddr
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
