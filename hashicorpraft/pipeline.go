package hashicorpraft

import (
	"sync"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/dispatch"
)

// AppendEntriesPipeline opens a pipeline of AppendEntries requests to target.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	seam, ok := t.inner.(raftwire.WithPipelineSink)
	if !ok {
		return t.openPumpedPipeline(raftwire.ServerID(id), raftwire.ServerAddress(target))
	}
	p := newPipeline()
	inner, err := seam.AppendEntriesPipelineTo(raftwire.ServerID(id), raftwire.ServerAddress(target), p.deliver)
	if err != nil {
		return nil, raftError(err)
	}
	p.inner = inner
	return p, nil
}

// pipeline is a pipeline of raftwire whose futures are delivered as
// hashicorp/raft's.
type pipeline struct {
	inner    raftwire.AppendPipeline
	consumer chan raft.AppendFuture

	// What travels as a copy, by the request that travels; see carrier.
	carriers sync.Map // *raftwire.AppendEntriesRequest -> *carrier
}

// newPipeline leaves it to its caller to set inner before the first request.
func newPipeline() *pipeline {
	return &pipeline{consumer: make(chan raft.AppendFuture)}
}

// AppendEntries sends a request and returns a future for its answer.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if !sharesAppends() {
		return p.appendCopy(args, resp)
	}
	future, err := p.inner.AppendEntries(appendEntriesRequest.toWire(args), appendEntriesResponse.toWire(resp))
	if err != nil {
		return nil, raftError(err)
	}
	return sharedFuture{future}, nil
}

// Consumer returns the channel of settled futures. It is never closed.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.consumer }

// Close ends the pipeline.
func (p *pipeline) Close() error { return raftError(p.inner.Close()) }

// deliver is the pipeline's raftwire.PipelineSink.
func (p *pipeline) deliver(future raftwire.AppendFuture, stop <-chan struct{}) bool {
	if sharesAppends() {
		return p.offer(sharedFuture{future}, stop)
	}
	travelled := future.Request()
	c, _ := p.carriers.Load(travelled)
	if !p.offer(copiedFuture{future, c.(*carrier)}.settled(), stop) {
		return false
	}
	p.carriers.Delete(travelled)
	return true
}

func (p *pipeline) offer(future raft.AppendFuture, stop <-chan struct{}) bool {
	return dispatch.Offer(p.consumer, future, stop)
}

// sharesAppends reports whether appends travel as what they are.
func sharesAppends() bool { return appendEntriesRequest.shared() && appendEntriesResponse.shared() }

// sharedFuture is a future whose request and response are the caller's own.
// It is a value, so the future that AppendEntries returned and the one that
// Consumer yields are equal.
type sharedFuture struct{ raftwire.AppendFuture }

func (f sharedFuture) Error() error { return raftError(f.AppendFuture.Error()) }

func (f sharedFuture) Request() *raft.AppendEntriesRequest {
	return appendEntriesRequest.toRaft(f.AppendFuture.Request())
}

func (f sharedFuture) Response() *raft.AppendEntriesResponse {
	return appendEntriesResponse.toRaft(f.AppendFuture.Response())
}

// carrier is a request that travels as a copy: what the caller gave, and the
// response that travels in its place.
type carrier struct {
	args   *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	answer *raftwire.AppendEntriesResponse
	fill   sync.Once
}

func (p *pipeline) appendCopy(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	request := appendEntriesRequest.toWire(args)
	c := &carrier{args: args, resp: resp, answer: appendEntriesResponse.toWire(resp)}
	p.carriers.Store(request, c) // before the answer can come
	future, err := p.inner.AppendEntries(request, c.answer)
	if err != nil {
		p.carriers.Delete(request)
		return nil, raftError(err)
	}
	return copiedFuture{future, c}, nil
}

// copiedFuture is a future whose request travelled as a copy.
type copiedFuture struct {
	raftwire.AppendFuture
	carrier *carrier
}

// settled waits for the answer and fills the caller's response with it.
func (f copiedFuture) settled() copiedFuture {
	_ = f.Error()
	return f
}

func (f copiedFuture) Error() error {
	err := f.AppendFuture.Error()
	f.carrier.fill.Do(func() { appendEntriesResponse.fill(f.carrier.resp, f.carrier.answer) })
	return raftError(err)
}

func (f copiedFuture) Request() *raft.AppendEntriesRequest   { return f.carrier.args }
func (f copiedFuture) Response() *raft.AppendEntriesResponse { return f.carrier.resp }
