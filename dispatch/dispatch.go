// Package dispatch hands inbound requests to the channel of a Raft core and
// collects the answers. It is generic over the types of request and answer,
// because those of raftwire and of hashicorp/raft differ in name only: both
// bind the same code, and no goroutine stands between them. It is for adapters
// and for cores that have request types of their own; other programs need none
// of it.
package dispatch

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
)

// Dispatcher is where all connections of a transport hand in their requests.
type Dispatcher[Q, A any] struct {
	consumer  chan Q
	heartbeat atomic.Pointer[func(Q)]
	request   func(command any, body io.Reader, answers chan<- A) Q
}

// New returns a dispatcher that hands requests to consumer; request makes one.
func New[Q, A any](consumer chan Q, request func(command any, body io.Reader, answers chan<- A) Q) *Dispatcher[Q, A] {
	return &Dispatcher[Q, A]{consumer: consumer, request: request}
}

// Consumer returns the channel that requests are handed to.
func (d *Dispatcher[Q, A]) Consumer() <-chan Q { return d.consumer }

// SetHeartbeatHandler sets the function that takes heartbeats; nil unsets it.
func (d *Dispatcher[Q, A]) SetHeartbeatHandler(handle func(Q)) {
	if handle == nil {
		d.heartbeat.Store(nil)
		return
	}
	d.heartbeat.Store(&handle)
}

// Open returns the dispatcher of a connection that ends when done is closed.
func (d *Dispatcher[Q, A]) Open(done <-chan struct{}) *ConnDispatcher[Q, A] {
	return &ConnDispatcher[Q, A]{dispatcher: d, done: done}
}

// ConnDispatcher is one connection's side of the dispatcher.
type ConnDispatcher[Q, A any] struct {
	dispatcher *Dispatcher[Q, A]
	done       <-chan struct{}

	waits func()      // is called while a request waits; or nil
	timer *time.Timer // is left running after a wait: most are over sooner
}

// waitsEvery is the time between calls of what OnWait was given.
const waitsEvery = 50 * time.Millisecond

// OnWait makes Dispatch call waits every 50 ms while a request waits to be taken. The
// first call comes after 50 ms at the earliest.
func (c *ConnDispatcher[Q, A]) OnWait(waits func()) { c.waits = waits }

// Dispatch hands a request over, and blocks until it is taken. It returns where
// its answer comes, or nil if the dispatcher's done channel was closed first.
func (c *ConnDispatcher[Q, A]) Dispatch(command any, body io.Reader, heartbeat bool) Answers[A] {
	if tasks.IsClosed(c.done) {
		return nil
	}
	answers := make(Answers[A], answersPerRequest)
	if !c.handOver(c.dispatcher.request(command, body, answers), heartbeat) {
		return nil
	}
	return answers
}

func (c *ConnDispatcher[Q, A]) handOver(request Q, heartbeat bool) bool {
	if heartbeat {
		if handle := c.dispatcher.heartbeat.Load(); handle != nil {
			(*handle)(request)
			return true
		}
	}
	// A send that need not wait costs a fraction of a select of two.
	select {
	case c.dispatcher.consumer <- request:
		return true
	default:
	}
	for ticks := 0; ; ticks++ {
		select {
		case c.dispatcher.consumer <- request:
			return true
		case <-c.done:
			return false
		case <-c.tick():
		}
		if ticks > 0 { // the first may be of a wait before
			c.waits()
		}
		c.timer.Reset(waitsEvery)
	}
}

// tick returns a channel that yields within waitsEvery.
func (c *ConnDispatcher[Q, A]) tick() <-chan time.Time {
	if c.waits == nil {
		return nil
	}
	if c.timer == nil {
		c.timer = time.NewTimer(waitsEvery)
	}
	return c.timer.C
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
