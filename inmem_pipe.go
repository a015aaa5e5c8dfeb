package raftwire

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/tasks"
)

// inmemPipe is what a connection is to the network: it carries one request and
// its answer, or those of a pipeline. It ends for a reason, and whoever waits on
// it wakes. The sender owns it; a receiver that is closed leaves it.
type inmemPipe struct {
	from        *InmemTransport
	to          *InmemTransport // set by reach
	target      ServerAddress
	there, back *InmemLink
	dialled     *identity.Dialled // nil without an Identity
	bad         error             // why no answer is taken, or nil; set by reach

	ended, left sync.Once
	done        chan struct{} // closed by end
	gone        chan struct{} // closed by leave
	err         error         // why it ended; set before done is closed

	taken atomic.Bool // the consumer has the request
	waits atomic.Bool // the consumer has not taken the request yet, which is no heartbeat
}

// end ends the pipe. The first reason counts.
func (p *inmemPipe) end(err error) {
	p.ended.Do(func() { p.err = err; close(p.done) })
	p.leave()
}

// leave ends the receiver's part. The sender finds out, if the news gets through
// to it.
func (p *inmemPipe) leave() { p.left.Do(func() { close(p.gone) }) }

// close ends the pipe for good. Its owner calls it, after reach.
func (p *inmemPipe) close(err error) {
	p.end(err)
	p.from.remove(p)
	if p.to != nil {
		p.to.remove(p)
	}
}

// failure returns why the pipe ended, or nil.
func (p *inmemPipe) failure() error {
	if tasks.IsClosed(p.done) {
		return p.err
	}
	return nil
}

// limit ends the pipe after timeout, unless the function that it returns is
// called before.
func (p *inmemPipe) limit(timeout time.Duration) (stop func() bool) {
	if timeout <= 0 {
		return func() bool { return true }
	}
	return time.AfterFunc(timeout, p.endLate).Stop
}

// endAfter ends the pipe when ctx ends, unless the function that it returns is called
// before.
func (p *inmemPipe) endAfter(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { p.end(endOf(ctx)) })
}

// endLate ends the pipe because its time is up.
func (p *inmemPipe) endLate() {
	if p.taken.Load() {
		p.end(errCommandTimeout)
	} else {
		p.end(errSendTimeout)
	}
}

// exchange brings command to the peer's core, and its answer back to resp.
func (p *inmemPipe) exchange(kind rpcKind, command any, resp any) error {
	start := time.Now()
	if err := p.reach(kind); err != nil {
		return err
	}
	err := p.comeBack(p.deal(p.to.dispatcher(p.gone), kind, command, nil, resp), resp)
	if err == nil {
		p.there.traffic.answered(start)
	}
	return err
}

// reach travels to whoever is connected by then, with a request of the given kind.
func (p *inmemPipe) reach(kind rpcKind) error {
	if !p.there.carry(p.done) {
		return p.failure()
	}
	to := p.from.peer(p.target)
	if to == nil || !to.accept(p) {
		return p.comeBack(refused(p.target), nil)
	}
	p.to = to
	refusal, bad := identity.Meet(p.dialled, to.identity())
	switch {
	case refusal == nil:
		p.bad = bad
		return nil
	case bad == nil: // a sender without an Identity
		bad = &RemoteError{Op: kind.String(), Peer: p.target, Text: refusal.Error()}
	}
	return p.comeBack(bad, nil)
}

// comeBack travels to the sender with the outcome. What does not get there does
// not count: resp is cleared.
func (p *inmemPipe) comeBack(outcome error, resp any) error {
	p.back.carry(p.done)
	if err := p.failure(); err != nil {
		clearMessage(resp)
		return err
	}
	if p.bad != nil && outcome != errPeerClosed {
		clearMessage(resp)
		return p.bad
	}
	return outcome
}

// deal hands command to the receiver's core and copies its answer to resp.
func (p *inmemPipe) deal(d Dispatcher, kind rpcKind, command any, body io.Reader, resp any) error {
	heartbeat := isHeartbeat(command)
	p.taken.Store(false)
	p.waits.Store(!heartbeat)
	pending := d.Dispatch(command, body, heartbeat)
	p.waits.Store(false)
	if pending == nil {
		return errPeerClosed
	}
	p.taken.Store(true)
	answer, ok := pending.Await(p.gone)
	if !ok || tasks.IsClosed(p.gone) { // Await may prefer an answer that came after that
		return errPeerClosed
	}
	return p.copyAnswer(kind, answer, resp)
}

// copyAnswer does what the wire does to an answer.
func (p *inmemPipe) copyAnswer(kind rpcKind, answer RPCResponse, resp any) error {
	answer, _ = answerTo(kind, answer)
	copyResponse(resp, answer.Response)
	if text := answerText(answer); text != "" {
		return &RemoteError{Op: kind.String(), Peer: p.target, Text: text}
	}
	return nil
}

// pipeLink is a link of a pipeline: requests are served one after the other
// by a goroutine of the receiving transport.
type pipeLink struct {
	pipe     *inmemPipe
	requests chan sent[*AppendEntriesRequest] // as large as the window, so that post never blocks
	answers  chan sent[inmemAnswer]           // likewise
	deadline atomic.Pointer[time.Timer]
	posting  sync.Mutex // held while post copies a request
}

type inmemAnswer struct {
	resp AppendEntriesResponse
	err  error
}

// openPipeLink brings the news of a pipeline to the peer, and back that it stands.
func openPipeLink(pipe *inmemPipe, timeout time.Duration) (*pipeLink, error) {
	defer pipe.limit(timeout)()
	if err := pipe.reach(rpcAppendEntries); err != nil {
		return nil, err
	}
	l := &pipeLink{
		pipe:     pipe,
		requests: make(chan sent[*AppendEntriesRequest], inmemWindow),
		answers:  make(chan sent[inmemAnswer], inmemWindow),
	}
	if !pipe.to.tasks.Start(l.serve) {
		return nil, pipe.comeBack(refused(pipe.target), nil)
	}
	return l, pipe.comeBack(nil, nil)
}

// serve hands the requests to the receiver's core until the pipe ends. Behind
// one that is lost it waits for that: nothing overtakes it.
func (l *pipeLink) serve() {
	d := l.pipe.to.dispatcher(l.pipe.gone)
	for {
		var request sent[*AppendEntriesRequest]
		select {
		case request = <-l.requests:
		case <-l.pipe.gone:
			return
		}
		if !l.pipe.there.await(request.passage, l.pipe.gone, nil) {
			return
		}
		var a inmemAnswer
		if a.err = l.pipe.deal(d, rpcAppendEntries, request.what, nil, &a.resp); a.err == errPeerClosed {
			return
		}
		l.answers <- sent[inmemAnswer]{a, l.pipe.back.depart()}
	}
}

func (l *pipeLink) post(args *AppendEntriesRequest, _ *atomic.Int64, _ bool) error {
	if err := checkIntroduction(l.pipe.dialled, args); err != nil {
		return err
	}
	clone, err := l.clone(args)
	if err != nil {
		return err
	}
	l.requests <- sent[*AppendEntriesRequest]{clone, l.pipe.there.depart()}
	return nil
}

// clone copies a request, unless the pipe has ended: then it may be the caller's again.
func (l *pipeLink) clone(args *AppendEntriesRequest) (*AppendEntriesRequest, error) {
	l.posting.Lock()
	defer l.posting.Unlock()
	if err := l.pipe.failure(); err != nil {
		return nil, err
	}
	return cloneRequest(args).(*AppendEntriesRequest), nil
}

func (l *pipeLink) flush() {}

func (l *pipeLink) finish() {}

func (l *pipeLink) receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error) {
	clock.beginWait()
	var a sent[inmemAnswer]
	select {
	case a = <-l.answers:
	case <-l.pipe.gone:
		select { // the receiver's last answers come before the news that it is gone
		case a = <-l.answers:
		default:
			return 0, l.pipe.comeBack(errPeerClosed, nil)
		}
	}
	if !l.pipe.back.await(a.passage, l.pipe.done, nil) {
		return 0, l.pipe.failure()
	}
	*resp = a.what.resp
	return 0, a.what.err
}

func (l *pipeLink) setDeadline(t time.Time) {
	var timer *time.Timer
	if !t.IsZero() {
		timer = time.AfterFunc(time.Until(t), l.pipe.endLate)
	}
	if previous := l.deadline.Swap(timer); previous != nil {
		previous.Stop()
	}
}

func (l *pipeLink) close(err error) {
	l.pipe.close(err)
	l.posting.Lock() // after that, post copies nothing
	defer l.posting.Unlock()
	l.setDeadline(time.Time{})
}
