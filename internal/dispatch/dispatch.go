// Package dispatch hands inbound requests to the channel of a Raft core and
// collects the answers. It is generic over the types of request and answer,
// because those of raftwire and of hashicorp/raft differ in name only: both
// bind the same code, and no goroutine stands between them.
package dispatch

import (
	"io"
	"sync/atomic"
	"time"
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

// Line is one connection's side of the desk.
type Line[Q, A any] struct {
	desk *Desk[Q, A]
	done <-chan struct{}

	waits func()      // is called while a request waits; or nil
	timer *time.Timer // is left running after a wait: most are over sooner
}

// waitsEvery is the time between calls of what OnWait was given.
const waitsEvery = 50 * time.Millisecond

// OnWait has waits called now and then, by Dispatch, while a request waits to be
// taken: first after waitsEvery, at the earliest.
func (l *Line[Q, A]) OnWait(waits func()) { l.waits = waits }

// Dispatch hands a request over, and blocks until it is taken. It returns where
// its answer comes, or nil if the line's done channel was closed first.
func (l *Line[Q, A]) Dispatch(command any, body io.Reader, heartbeat bool) Answers[A] {
	if l.closed() {
		return nil
	}
	answers := make(Answers[A], answersPerRequest)
	if !l.handOver(l.desk.request(command, body, answers), heartbeat) {
		return nil
	}
	return answers
}

func (l *Line[Q, A]) handOver(request Q, heartbeat bool) bool {
	if heartbeat {
		if handle := l.desk.heartbeat.Load(); handle != nil {
			(*handle)(request)
			return true
		}
	}
	// A send that need not wait costs a fraction of a select of two.
	select {
	case l.desk.consumer <- request:
		return true
	default:
	}
	for ticks := 0; ; ticks++ {
		select {
		case l.desk.consumer <- request:
			return true
		case <-l.done:
			return false
		case <-l.tick():
		}
		if ticks > 0 { // the first may be of a wait before
			l.waits()
		}
		l.timer.Reset(waitsEvery)
	}
}

// tick returns a channel that yields within waitsEvery.
func (l *Line[Q, A]) tick() <-chan time.Time {
	if l.waits == nil {
		return nil
	}
	if l.timer == nil {
		l.timer = time.NewTimer(waitsEvery)
	}
	return l.timer.C
}

func (l *Line[Q, A]) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// answersPerRequest is the capacity of a request's answer channel: a core that
// answers twice by mistake is not blocked, even if nobody collects the first.
const answersPerRequest = 2

// Answers is the channel on which a request's answer comes.
type Answers[A any] chan A

// Ready reports whether Await would return at once.
func (a Answers[A]) Ready() bool { return len(a) > 0 }

// Await blocks for the answer. It returns false if done is closed before.
func (a Answers[A]) Await(done <-chan struct{}) (answer A, ok bool) {
	select {
	case answer = <-a:
		return answer, true
	default:
	}
	select {
	case answer = <-a:
		return answer, true
	case <-done:
		return answer, false
	}
}
