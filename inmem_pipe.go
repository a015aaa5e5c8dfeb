package raftwire

import (
	"io"
	"sync"
	"time"
)

// inmemPipe is what a connection is to the network: it ends for a reason, and
// whoever waits on it wakes.
type inmemPipe struct {
	from, to *InmemTransport
	target   ServerAddress
	done     chan struct{} // closed by close

	mu    sync.Mutex // protects following
	err   error      // why it ended
	taken bool       // the consumer has the request
}

func (p *inmemPipe) close(err error) {
	p.mu.Lock()
	first := p.err == nil
	if first {
		p.err = err
		close(p.done)
	}
	p.mu.Unlock()
	if first {
		p.from.remove(p)
		p.to.remove(p)
	}
}

func (p *inmemPipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
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

// exchange hands command to the peer's core and copies its answer to resp.
func (p *inmemPipe) exchange(kind rpcKind, command any, body io.Reader, resp any) error {
	return p.exchangeBy(p.to.dispatcher(p.done), kind, command, body, resp)
}

func (p *inmemPipe) exchangeBy(d Dispatcher, kind rpcKind, command any, body io.Reader, resp any) error {
	p.setTaken(false)
	if !d.Dispatch(command, body, isHeartbeat(command)) {
		return p.failure()
	}
	p.setTaken(true)
	answer, ok := d.Answer()
	if !ok {
		return p.failure()
	}
	return p.copyAnswer(kind, answer, resp)
}

// copyAnswer does what the wire does to an answer.
func (p *inmemPipe) copyAnswer(kind rpcKind, answer RPCResponse, resp any) error {
	text := answerText(kind, answer)
	if answers(kind, answer.Response) {
		copyResponse(resp, answer.Response)
	}
	if text != "" {
		return &RemoteError{Op: kind.String(), Peer: p.target, Text: text}
	}
	return nil
}

// pipeLink is a link of a pipeline: requests are served one after the other
// by a goroutine of the receiving transport.
type pipeLink struct {
	pipe     *inmemPipe
	requests chan *AppendEntriesRequest // as large as the window, so that post never blocks
	answers  chan inmemAnswer           // likewise

	mu       sync.Mutex // protects following
	deadline *time.Timer
}

type inmemAnswer struct {
	resp AppendEntriesResponse
	err  error
}

func newPipeLink(pipe *inmemPipe) *pipeLink {
	return &pipeLink{
		pipe:     pipe,
		requests: make(chan *AppendEntriesRequest, inmemWindow),
		answers:  make(chan inmemAnswer, inmemWindow),
	}
}

// serve hands the requests to the receiver's core until the pipe ends.
func (l *pipeLink) serve() {
	d := l.pipe.to.dispatcher(l.pipe.done)
	for {
		select {
		case request := <-l.requests:
			var a inmemAnswer
			a.err = l.pipe.exchangeBy(d, rpcAppendEntries, request, nil, &a.resp)
			l.answers <- a
		case <-l.pipe.done:
			return
		}
	}
}

func (l *pipeLink) peer() ServerAddress { return l.pipe.target }

func (l *pipeLink) post(f *appendFuture, _ bool) error {
	if err := l.pipe.failure(); err != nil {
		return err
	}
	l.requests <- cloneRequest(f.args).(*AppendEntriesRequest)
	return nil
}

func (l *pipeLink) flush() {}

func (l *pipeLink) receive(resp *AppendEntriesResponse, beforeWait func()) (size int64, err error) {
	beforeWait()
	select {
	case a := <-l.answers:
		*resp = a.resp
		return 0, a.err
	case <-l.pipe.done:
		return 0, l.pipe.failure()
	}
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
