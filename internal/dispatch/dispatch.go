// Package dispatch hands inbound requests to the channel of a Raft core and
// collects the answers. It is generic over the types of request and answer,
// because those of raftwire and of hashicorp/raft differ in name only: both
// bind the same code, and no goroutine stands between them.
package dispatch

import (
	"io"
	"sync/atomic"

	"github.com/raftwire/raftwire/internal/ring"
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

// Line is one connection's side of the desk, owned by that connection's
// goroutine. Requests taken and not yet answered wait in order.
type Line[Q, A any] struct {
	desk *Desk[Q, A]
	done <-chan struct{}

	// The request being offered; it stays when Dispatch returns early.
	offering bool
	offer    Q
	answers  chan A

	pending ring.Queue[chan A] // requests taken and not answered

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
	if l.handOver(heartbeat) {
		l.taken()
		return true
	}
	return false
}

func (l *Line[Q, A]) handOver(heartbeat bool) bool {
	if heartbeat {
		if handle := l.desk.heartbeat.Load(); handle != nil {
			(*handle)(l.offer)
			return true
		}
	}
	// A send that need not wait costs a fraction of a select of three.
	select {
	case l.desk.consumer <- l.offer:
		return true
	default:
	}
	select {
	case l.desk.consumer <- l.offer:
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
	var none A
	if !l.collected && (l.closed() || !l.await()) {
		return none, false
	}
	answer := l.answer
	l.collected, l.answer = false, none
	l.pending.Pop()
	return answer, true
}

// await receives the oldest answer.
func (l *Line[Q, A]) await() bool {
	select {
	case l.answer = <-l.oldest():
		return true
	default:
	}
	select {
	case l.answer = <-l.oldest():
		return true
	case <-l.done:
		return false
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
	l.pending.Push(l.answers)
	l.offering, l.offer, l.answers = false, none, nil
}

// oldest returns nil, which blocks for ever in a select, if nothing is pending.
func (l *Line[Q, A]) oldest() chan A {
	if l.pending.Len() == 0 {
		return nil
	}
	return l.pending.At(0)
}
