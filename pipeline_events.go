package raftwire

import (
	"errors"
	"time"
)

// What the hooks get of the requests of a pipeline.

// tellBegun tells of a future that is queued. If the hook panics, and the caller
// recovers, the next answer must not be taken for this one's.
func (p *pipeline) tellBegun(f *appendFuture) {
	returned := false
	defer func() {
		if !returned {
			_ = p.fail(errors.New("a hook's panic has lost a request"))
		}
	}()
	p.tell(p.callBegun, f, 0, 0, nil)
	returned = true
}

// report tells of a future that an answer of size bytes has settled. It looks at
// nothing that belongs to the caller again. Answers that came together came at one
// time: the clock would cost more than the rest of a report.
func (p *pipeline) report(f *appendFuture, size int64) {
	if f.err == nil {
		p.traffic.answered(f.start)
	}
	if p.callDone == nil {
		return
	}
	if p.arrived.IsZero() {
		p.arrived = time.Now()
	}
	p.tell(p.callDone, f, max(0, p.arrived.Sub(f.start)), size, f.err)
}

// tell calls a hook, or nil.
func (p *pipeline) tell(hook func(*CallEvent), f *appendFuture, took time.Duration, answer int64, err error) {
	if hook != nil {
		lend(hook, &CallEvent{
			Kind: rpcAppendEntries.String(), Heartbeat: f.heartbeat, Pipelined: true, ID: p.id, Peer: p.peer, Start: f.start, Took: took, Entries: f.entries,
			RequestBytes: f.bytes.Load(), ResponseBytes: answer, Err: err,
		})
	}
}

// reportLost tells of a future that has settled without an answer.
func (p *pipeline) reportLost(f *appendFuture) {
	p.tell(p.callDone, f, time.Since(f.start), 0, f.err)
}
