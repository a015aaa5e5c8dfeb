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

// Acceptor takes the connections of a listener until Done is closed: from a [Source],
// or else by its own accept loop.
type Acceptor struct {
	Listener net.Listener
	Done     <-chan struct{}

	// Take takes a connection. The next is accepted when it has returned, so it
	// calls nothing that may block: no hook, no logger, no method of the connection.
	Take func(*Visit)

	// Closed is called when somebody else has closed the listener, and then the
	// acceptor ends. If it is nil, an accept loop goes on to try.
	Closed func()

	Logger  hclog.Logger
	Tasks   *tasks.Group
	logging atomic.Bool // a line is being written

	owner *atomic.Pointer[Acceptor] // of the accept loop: nil in it after Close
	ended chan struct{}             // closed when there is no accept loop any more
}

// Start begins to take connections.
//
// A listener of somebody else's may have an Accept that its Close does not end: a
// goroutine then stays in it. So the accept loop refers to the acceptor through owner
// only.
func (a *Acceptor) Start() (ended <-chan struct{}) {
	a.owner, a.ended = new(atomic.Pointer[Acceptor]), make(chan struct{})
	a.owner.Store(a)
	if HandTo(a.Listener, Taker{Take: a.Take, Closed: a.sourceClosed}) {
		close(a.ended)
	} else {
		go acceptAll(a.Listener.Accept, a.Done, a.owner, a.ended)
	}
	return a.ended
}

func (a *Acceptor) sourceClosed() {
	if a.Closed != nil {
		a.Closed()
	} else if !tasks.IsClosed(a.Done) {
		a.log(closedByOther, net.ErrClosed)
	}
}

// acceptAll is the accept loop. After an error it tries again, ever more slowly. It
// logs each error, since the backoff bounds that to a line a second, but only once that
// the listener was closed.
func acceptAll(accept func() (net.Conn, error), done <-chan struct{}, owner *atomic.Pointer[Acceptor], ended chan<- struct{}) {
	defer close(ended)
	var backoff time.Duration
	wasClosed := false // by somebody else, and the log has it
	for {
		raw, err := sock.CheckConn(accept())
		a := owner.Load()
		switch {
		case a == nil && err == nil:
			sock.Close(raw)
			return
		case err == nil:
			a.Take(&Visit{Conn: raw})
			backoff, wasClosed = 0, false
			continue
		case a == nil || tasks.IsClosed(done):
			return
		}
		closed := errors.Is(err, net.ErrClosed)
		if !closed {
			a.log("failed to accept connection", err)
		} else if !wasClosed {
			a.log(closedByOther, err)
			if a.Closed != nil {
				a.Closed()
				return
			}
		}
		wasClosed = closed
		backoff = min(max(2*backoff, minAcceptBackoff), maxAcceptBackoff)
		if !tasks.Pause(backoff, done) {
			return
		}
	}
}

const closedByOther = "the listener was closed by somebody else: nothing is accepted any more"

// log writes a line on a goroutine of its own, unless the line before is still being
// written: a logger that blocks must not stop the acceptor.
func (a *Acceptor) log(text string, err error) {
	if !a.logging.CompareAndSwap(false, true) {
		return
	}
	a.Tasks.Start(func() {
		defer a.logging.Store(false)
		a.Logger.Error(text, logs.KeyError, err)
	})
}

// Close closes the listener. Done is closed already. It says so if an Accept does not
// return: its goroutine then keeps nothing but the listener.
func (a *Acceptor) Close() error {
	if a.owner == nil { // it was not started
		return a.Listener.Close()
	}
	a.owner.Store(nil)
	err := a.Listener.Close()
	if tasks.Pause(acceptEndsWithin, a.ended) {
		a.Logger.Info("the listener's Accept did not return when the listener was closed: one goroutine stays in it, and closes what it still gets")
	}
	return err
}
