package main

import (
	"errors"
	"reflect"
	"time"

	"github.com/raftwire/raftwire"
)

// A raftwireLink is two transports, one of which sends requests that the
// other receives. This file and its twin for the other type set are the same
// but for the names, so that nobody is measured by better code; a test holds
// them together.
type raftwireLink struct {
	sender, receiver *raftwire.NetworkTransport
	request          *raftwire.AppendEntriesRequest
	tally            tally

	quit   chan struct{} // closed by Close
	served chan struct{} // closed when serve has ended
}

func openRaftwire(s setup) (link, error) {
	receiver, err := newRaftwire(s)
	if err != nil {
		return nil, err
	}
	sender, err := newRaftwire(s)
	if err != nil {
		return nil, errors.Join(err, receiver.Close())
	}
	l := &raftwireLink{
		sender:   sender,
		receiver: receiver,
		request:  raftwireRequest(s.content),
		quit:     make(chan struct{}),
		served:   make(chan struct{}),
	}
	go l.serve()
	return l, nil
}

func newRaftwire(s setup) (*raftwire.NetworkTransport, error) {
	return raftwire.NewTCPTransportWithConfig(loopback, nil, &raftwire.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
	})
}

// serve answers the receiver's requests, as a Raft core does: one goroutine,
// one request after the other.
func (l *raftwireLink) serve() {
	defer close(l.served)
	requests := l.receiver.Consumer()
	for answers := uint64(0); ; answers++ {
		select {
		case rpc := <-requests:
			if l.intact(rpc.Command, answers == 0) {
				rpc.Respond(raftwireAnswer(firstAnswer+answers), nil)
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
func (l *raftwireLink) intact(command any, first bool) bool {
	got, ok := command.(*raftwire.AppendEntriesRequest)
	if !ok || len(got.Entries) != len(l.request.Entries) {
		return false
	}
	if first {
		return reflect.DeepEqual(got, l.request)
	}
	last := len(got.Entries) - 1
	return last < 0 || len(got.Entries[last].Data) == len(l.request.Entries[last].Data)
}

func (l *raftwireLink) call() error {
	resp := new(raftwire.AppendEntriesResponse)
	err := l.sender.AppendEntries(raftwire.ServerID(receiverID), l.receiver.LocalAddr(), l.request, resp)
	if err != nil {
		return err
	}
	return l.tally.check(resp.Success, resp.LastLog)
}

func (l *raftwireLink) pipeline() (pipeline, error) {
	p, err := l.sender.AppendEntriesPipeline(raftwire.ServerID(receiverID), l.receiver.LocalAddr())
	if err != nil {
		return nil, err
	}
	return &raftwirePipeline{AppendPipeline: p, futures: p.Consumer(), request: l.request}, nil
}

// Close ends both transports. The sender's connections go first, which ends
// the receiver's goroutines that wait at the other end.
func (l *raftwireLink) Close() error {
	l.sender.CloseStreams()
	err := errors.Join(l.sender.Close(), l.receiver.Close())
	close(l.quit)
	<-l.served
	return err
}

// A raftwirePipeline sends the link's request again and again.
type raftwirePipeline struct {
	raftwire.AppendPipeline
	futures <-chan raftwire.AppendFuture
	request *raftwire.AppendEntriesRequest
	tally   tally // owned by the goroutine that receives
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
		return future.Start(), p.tally.check(future.Response().Success, future.Response().LastLog)
	case <-quit:
		return time.Time{}, errNoMore
	}
}

func raftwireRequest(c content) *raftwire.AppendEntriesRequest {
	req := &raftwire.AppendEntriesRequest{
		RPCHeader:         raftwire.RPCHeader{ProtocolVersion: protocolVersion, ID: senderID, Addr: senderAddr},
		Term:              term,
		PrevLogEntry:      lastIndex,
		PrevLogTerm:       term,
		LeaderCommitIndex: lastIndex,
	}
	req.Leader = senderAddr
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
