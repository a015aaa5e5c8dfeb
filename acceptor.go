package raftwire

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

const (
	// The backoff after a failed Accept doubles from the one to the other.
	minAcceptBackoff = 5 * time.Millisecond
	maxAcceptBackoff = time.Second

	// acceptEndsWithin is how long Close gives an Accept to return once the listener
	// is closed. Those that return at all take microseconds.
	acceptEndsWithin = 10 * time.Millisecond
)

// acceptor accepts the connections of a listener until done is closed.
//
// A listener of somebody else's may have an Accept that its Close does not end: a
// goroutine then stays in it. So the goroutine refers to nothing but the acceptor,
// and after stop the acceptor refers to nothing but the listener.
type acceptor struct {
	accept func() (net.Conn, error) // of the listener
	done   <-chan struct{}
	ended  chan struct{} // closed when run has returned

	target atomic.Pointer[acceptTarget] // nil after stop
}

// acceptTarget is what an acceptor works for.
type acceptTarget struct {
	// handle takes a connection. The next is accepted when it has returned, so it
	// calls nothing that may block: no hook, no logger, no method of the connection.
	handle func(net.Conn)

	logger  hclog.Logger
	tasks   *tasks.Group
	logging atomic.Bool // a line is being written
}

func newAcceptor(accept func() (net.Conn, error), done <-chan struct{}, target *acceptTarget) *acceptor {
	a := &acceptor{accept: accept, done: done, ended: make(chan struct{})}
	a.target.Store(target)
	return a
}

// run accepts connections. After an error it tries again, ever more slowly.
func (a *acceptor) run() {
	defer close(a.ended)
	var backoff time.Duration
	closed := false // by somebody else, and the log has it
	for {
		raw, err := checkConn(a.accept())
		if err == nil {
			if !a.handOver(raw) {
				return
			}
			backoff, closed = 0, false
			continue
		}
		if isClosed(a.done) {
			return
		}
		isNew := !closed
		closed = errors.Is(err, net.ErrClosed)
		a.report(err, closed, isNew)
		backoff = min(max(2*backoff, minAcceptBackoff), maxAcceptBackoff)
		if !pauseFor(backoff, a.done) {
			return
		}
	}
}

// handOver returns false after stop: the connection is closed then.
func (a *acceptor) handOver(raw net.Conn) bool {
	target := a.target.Load()
	if target == nil {
		sock.Close(raw)
		return false
	}
	target.handle(raw)
	return true
}

// report says why Accept failed: each time, since the backoff bounds it to a line a
// second, but only once that the listener was closed.
func (a *acceptor) report(err error, closed, isNew bool) {
	target := a.target.Load()
	switch {
	case target == nil:
	case !closed:
		target.log("failed to accept connection", err)
	case isNew:
		target.log("the listener was closed by somebody else: nothing is accepted any more", err)
	}
}

// log writes a line on a goroutine of its own, unless the line before is still being
// written: a logger that blocks must not stop the acceptor.
func (t *acceptTarget) log(text string, err error) {
	if !t.logging.CompareAndSwap(false, true) {
		return
	}
	t.tasks.Start(func() {
		defer t.logging.Store(false)
		t.logger.Error(text, keyError, err)
	})
}

// stop lets go of what the acceptor works for. done is closed already.
func (a *acceptor) stop() { a.target.Store(nil) }

// awaitEnd is called when the listener has been closed, and says so if Accept does
// not return.
func (a *acceptor) awaitEnd(logger hclog.Logger) {
	if pauseFor(acceptEndsWithin, a.ended) {
		logger.Info("the listener's Accept did not return when the listener was closed: one goroutine stays in it, and closes what it still gets")
	}
}

// pauseFor waits; false means that done was closed meanwhile.
func pauseFor(pause time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
