package raftwire

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// inmemPipe is what a connection is to the network: it carries one request and
// its answer, or those of a pipeline. It ends for a reason, and whoever waits on
// it wakes. The sender owns it; a receiver that is closed leaves it.
type inmemPipe struct {
	from        *InmemTransport
	to          *InmemTransport // nil before reach; protected by mu until then
	target      ServerAddress
	there, back *InmemLink
	done        chan struct{} // closed by close
	gone        chan struct{} // closed when the receiver leaves, and by close

	mu    sync.Mutex // protects following
	err   error      // why it ended
	left  bool       // gone is closed
	taken bool       // the consumer has the request

	waits bool // the consumer has not taken the request yet, which is no heartbeat
}

func newInmemPipe(from *InmemTransport, target ServerAddress, link *InmemLink) *inmemPipe {
	return &inmemPipe{
		from:   from,
		target: target,
		there:  link,
		back:   link.back,
		done:   make(chan struct{}),
		gone:   make(chan struct{}),
	}
}

func (p *inmemPipe) close(err error) {
	if p.setErr(err) {
		p.hangUp()
		p.from.remove(p)
		if to := p.receiver(); to != nil {
			to.remove(p)
		}
	}
}

func (p *inmemPipe) setErr(err error) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return false
	}
	p.err = err
	close(p.done)
	return true
}

// hangUp ends the receiver's part. The sender finds out, if the news gets
// through to it.
func (p *inmemPipe) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left {
		p.left = true
		close(p.gone)
	}
}

func (p *inmemPipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *inmemPipe) receiver() *InmemTransport {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.to
}

// limit closes the pipe after timeout, unless the function that it returns is
// called before.
func (p *inmemPipe) limit(timeout time.Duration) (stop func()) {
	if timeout <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(timeout, func() { p.close(p.timeoutError()) })
	return func() { timer.Stop() }
}

func (p *inmemPipe) timeoutError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		return errCommandTimeout
	}
	return errSendTimeout
}

func (p *inmemPipe) setTaken(taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = taken
}

// offer hands command over, and has it known meanwhile that it waits.
func (p *inmemPipe) offer(d Dispatcher, command any, body io.Reader) PendingAnswer {
	heartbeat := isHeartbeat(command)
	p.setWaits(!heartbeat)
	defer p.setWaits(false)
	return d.Dispatch(command, body, heartbeat)
}

func (p *inmemPipe) setWaits(waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = waits
}

func (p *inmemPipe) isWaiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waits
}

// exchange brings command to the peer's core, and its answer back to resp.
func (p *inmemPipe) exchange(kind rpcKind, command any, resp any) error {
	if err := p.reach(); err != nil {
		return err
	}
	return p.comeBack(p.deal(p.to.dispatcher(p.gone), kind, command, nil, resp), resp)
}

// reach travels to whoever is connected by then.
func (p *inmemPipe) reach() error {
	if !p.there.carry(p.done) {
		return p.failure()
	}
	to := p.from.peer(p.target)
	if to == nil || !to.accept(p) {
		return p.comeBack(refused(p.target), nil)
	}
	if err := p.arrive(to); err != nil {
		to.remove(p)
		return err
	}
	return nil
}

// arrive fails if the pipe has ended: then nobody would take it from to again.
func (p *inmemPipe) arrive(to *InmemTransport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.to = to
	}
	return p.err
}

// comeBack travels to the sender with the outcome. What does not get there does
// not count: resp is cleared.
func (p *inmemPipe) comeBack(outcome error, resp any) error {
	p.back.carry(p.done)
	if err := p.failure(); err != nil {
		clearResponse(resp)
		return err
	}
	return outcome
}

// deal hands command to the receiver's core and copies its answer to resp.
func (p *inmemPipe) deal(d Dispatcher, kind rpcKind, command any, body io.Reader, resp any) error {
	p.setTaken(false)
	pending := p.offer(d, command, body)
	if pending == nil {
		return errPeerClosed
	}
	p.setTaken(true)
	answer, ok := pending.Await(p.gone)
	if !ok || isClosed(p.gone) { // Await may prefer an answer that came after that
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
	requests chan inmemRequest // as large as the window, so that post never blocks
	answers  chan inmemAnswer  // likewise

	mu       sync.Mutex // protects following
	deadline *time.Timer
}

type inmemRequest struct {
	*AppendEntriesRequest
	passage
}

type inmemAnswer struct {
	resp AppendEntriesResponse
	err  error
	passage
}

func newPipeLink(pipe *inmemPipe) *pipeLink {
	return &pipeLink{
		pipe:     pipe,
		requests: make(chan inmemRequest, inmemWindow),
		answers:  make(chan inmemAnswer, inmemWindow),
	}
}

// serve hands the requests to the receiver's core until the pipe ends. Behind
// one that is lost it waits for that: nothing overtakes it.
func (l *pipeLink) serve() {
	d := l.pipe.to.dispatcher(l.pipe.gone)
	for {
		select {
		case request := <-l.requests:
			if !l.pipe.there.await(request.passage, l.pipe.gone, nil) || !l.answer(d, request) {
				return
			}
		case <-l.pipe.gone:
			return
		}
	}
}

func (l *pipeLink) answer(d Dispatcher, request inmemRequest) bool {
	var a inmemAnswer
	a.err = l.pipe.deal(d, rpcAppendEntries, request.AppendEntriesRequest, nil, &a.resp)
	if a.err == errPeerClosed {
		return false
	}
	a.passage = l.pipe.back.depart()
	l.answers <- a
	return true
}

func (l *pipeLink) post(args *AppendEntriesRequest, _ *atomic.Int64, _ bool) error {
	if err := l.pipe.failure(); err != nil {
		return err
	}
	l.requests <- inmemRequest{cloneRequest(args).(*AppendEntriesRequest), l.pipe.there.depart()}
	return nil
}

func (l *pipeLink) flush() {}

func (l *pipeLink) finish() {}

func (l *pipeLink) receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error) {
	clock.beginWait()
	select { // the receiver's last answers come before the news that it is gone
	case a := <-l.answers:
		return 0, l.take(a, resp)
	default:
	}
	select {
	case a := <-l.answers:
		return 0, l.take(a, resp)
	case <-l.pipe.gone:
		return 0, l.pipe.comeBack(errPeerClosed, nil)
	}
}

func (l *pipeLink) take(a inmemAnswer, resp *AppendEntriesResponse) error {
	if !l.pipe.back.await(a.passage, l.pipe.done, nil) {
		return l.pipe.failure()
	}
	*resp = a.resp
	return a.err
}

func (l *pipeLink) setDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadline != nil {
		l.deadline.Stop()
	}
	if !t.IsZero() {
		l.deadline = time.AfterFunc(time.Until(t), func() { l.pipe.close(l.pipe.timeoutError()) })
	}
}

func (l *pipeLink) close(err error) {
	l.pipe.close(err)
	l.setDeadline(time.Time{})
}
