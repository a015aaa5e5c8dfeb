// Package dispatch hands inbound requests to the channel of a Raft core and
// collects the answers. It is generic over the types of request and answer,
// because those of raftwire and of hashicorp/raft differ in name only: both
// bind the same code, and no goroutine stands between them.
package dispatch

import (
	"io"
	"sync/atomic"
)

// Desk is where all connections of a transport hand in their requests.
type Desk[Q, A any] struct {
	consumer  chan Q
	heartbeat atomic.Pointer[func(Q)]
	request   func(command any, body io.Reader, answers chan<- A) Q
}

// NewDesk returns a desk that hands requests to consumer; request makes one.
func NewDesk[Q, A any](consumer chan Q, request func(command any, body io.Reader, answers chan<- A) Q) *Desk[Q, A] {
	return &Desk[Q, A]{consumer: consumer, request: request}
}

// Consumer returns the channel that requests are handed to.
func (d *Desk[Q, A]) Consumer() <-chan Q { return d.consumer }

// SetHeartbeatHandler sets the function that takes heartbeats; nil unsets it.
func (d *Desk[Q, A]) SetHeartbeatHandler(handle func(Q)) {
	if handle == nil {
		d.heartbeat.Store(nil)
		return
	}
	d.heartbeat.Store(&handle)
}

// Open returns the line of a connection that ends when done is closed.
func (d *Desk[Q, A]) Open(done <-chan struct{}) *Line[Q, A] {
	return &Line[Q, A]{desk: d, done: done}
}

// answersPerRequest is the capacity of a request's answer channel: a core that
// answers twice by mistake is not blocked, even if nobody collects the first.
const answersPerRequest = 2

// compactAt bounds the places that a line keeps for requests long answered.
const compactAt = 64

// Line is one connection's side of the desk, owned by that connection's
// goroutine. Requests taken and not yet answered wait in order.
type Line[Q, A any] struct {
	desk *Desk[Q, A]
	done <-chan struct{}

	// The request being offered; it stays when Dispatch returns early.
	offering bool
	offer    Q
	answers  chan A

	// Requests taken, oldest first from pending[head].
	pending []chan A
	head    int

	// The oldest one's answer, if it came while the next was being offered.
	collected bool
	answer    A
}

// Dispatch implements raftwire.Dispatcher.
func (l *Line[Q, A]) Dispatch(command any, body io.Reader, heartbeat bool) bool {
	if l.collected || l.closed() {
		return false
	}
	if !l.offering {
		l.answers = make(chan A, answersPerRequest)
		l.offer = l.desk.request(command, body, l.answers)
		l.offering = true
	}
	if heartbeat {
		if handle := l.desk.heartbeat.Load(); handle != nil {
			(*handle)(l.offer)
			l.taken()
			return true
		}
	}
	select {
	case l.desk.consumer <- l.offer:
		l.taken()
		return true
	case l.answer = <-l.oldest():
		l.collected = true
		return false
	case <-l.done:
		return false
	}
}

// Ready implements raftwire.Dispatcher.
func (l *Line[Q, A]) Ready() bool {
	return l.collected || len(l.oldest()) > 0
}

// Answer is raftwire.Dispatcher's, but for the answer's type.
func (l *Line[Q, A]) Answer() (A, bool) {
	if l.collected {
		l.collected = false
		answer := l.answer
		l.pop()
		return answer, true
	}
	var none A
	if l.closed() {
		return none, false
	}
	select {
	case answer := <-l.oldest():
		l.pop()
		return answer, true
	case <-l.done:
		return none, false
	}
}

func (l *Line[Q, A]) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *Line[Q, A]) taken() {
	var none Q
	l.pending = append(l.pending, l.answers)
	l.offering, l.offer, l.answers = false, none, nil
}

// oldest returns nil, which blocks for ever in a select, if nothing is pending.
func (l *Line[Q, A]) oldest() chan A {
	if l.head == len(l.pending) {
		return nil
	}
	return l.pending[l.head]
}

func (l *Line[Q, A]) pop() {
	var none A
	l.answer = none
	l.pending[l.head] = nil
	if l.head++; l.head >= compactAt || l.head == len(l.pending) {
		l.pending, l.head = append(l.pending[:0], l.pending[l.head:]...), 0
	}
}
