// Package door is what inbound connections pass: the accept loop, and what is said of
// those that are refused.
package door

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/logs"
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

// Acceptor accepts the connections of a listener until done is closed.
//
// A listener of somebody else's may have an Accept that its Close does not end: a
// goroutine then stays in it. So the goroutine refers to nothing but the acceptor,
// and after Stop the acceptor refers to nothing but the listener.
type Acceptor struct {
	accept func() (net.Conn, error) // of the listener
	done   <-chan struct{}
	ended  chan struct{} // closed when Run has returned

	target atomic.Pointer[Target] // nil after Stop
}

// Target is what an acceptor works for.
type Target struct {
	// Handle takes a connection. The next is accepted when it has returned, so it
	// calls nothing that may block: no hook, no logger, no method of the connection.
	Handle func(net.Conn)

	// Closed is called when somebody else has closed the listener, and then the
	// acceptor ends. If it is nil, the acceptor goes on to try.
	Closed func()

	Logger  hclog.Logger
	Tasks   *tasks.Group
	logging atomic.Bool // a line is being written
}

func NewAcceptor(accept func() (net.Conn, error), done <-chan struct{}, target *Target) *Acceptor {
	a := &Acceptor{accept: accept, done: done, ended: make(chan struct{})}
	a.target.Store(target)
	return a
}

// Run accepts connections. After an error it tries again, ever more slowly.
func (a *Acceptor) Run() {
	defer close(a.ended)
	var backoff time.Duration
	closed := false // by somebody else, and the log has it
	for {
		raw, err := sock.CheckConn(a.accept())
		if err == nil {
			if !a.handOver(raw) {
				return
			}
			backoff, closed = 0, false
			continue
		}
		if tasks.IsClosed(a.done) {
			return
		}
		isNew := !closed
		closed = errors.Is(err, net.ErrClosed)
		if a.report(err, closed, isNew) {
			return
		}
		backoff = min(max(2*backoff, minAcceptBackoff), maxAcceptBackoff)
		if !tasks.Pause(backoff, a.done) {
			return
		}
	}
}

// handOver returns false after Stop: the connection is closed then.
func (a *Acceptor) handOver(raw net.Conn) bool {
	target := a.target.Load()
	if target == nil {
		sock.Close(raw)
		return false
	}
	target.Handle(raw)
	return true
}

// report says why Accept failed: each time, since the backoff bounds it to a line a
// second, but only once that the listener was closed. It returns true if that is the
// end.
func (a *Acceptor) report(err error, closed, isNew bool) (end bool) {
	target := a.target.Load()
	switch {
	case target == nil:
	case !closed:
		target.log("failed to accept connection", err)
	case isNew:
		target.log(closedByOther, err)
		if target.Closed != nil {
			target.Closed()
			return true
		}
	}
	return false
}

const closedByOther = "the listener was closed by somebody else: nothing is accepted any more"

// log writes a line on a goroutine of its own, unless the line before is still being
// written: a logger that blocks must not stop the acceptor.
func (t *Target) log(text string, err error) {
	if !t.logging.CompareAndSwap(false, true) {
		return
	}
	t.Tasks.Start(func() {
		defer t.logging.Store(false)
		t.Logger.Error(text, logs.KeyError, err)
	})
}

// Stop lets go of what the acceptor works for. done is closed already.
func (a *Acceptor) Stop() { a.target.Store(nil) }

// AwaitEnd is called when the listener has been closed, and says so if Accept does
// not return.
func (a *Acceptor) AwaitEnd(logger hclog.Logger) {
	if tasks.Pause(acceptEndsWithin, a.ended) {
		logger.Info("the listener's Accept did not return when the listener was closed: one goroutine stays in it, and closes what it still gets")
	}
}

// ReportClosed says that a Source was closed by somebody else.
func ReportClosed(logger hclog.Logger, group *tasks.Group) {
	(&Target{Logger: logger, Tasks: group}).log(closedByOther, net.ErrClosed)
}
