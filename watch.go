package raftwire

import (
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

// Watching: a goroutine reads from a connection while nobody else does, to
// learn that the peer has gone. What it reads stays in the buffer for whoever
// reads next. It is needed where a request must not be sent on a connection
// that is dead, and where one must not be handed over whose caller has gone.

// startWatching lends c.in to a goroutine until stopWatching.
func (c *conn) startWatching() {
	c.watch = make(chan struct{})
	// A connection without deadlines could not be taken back.
	if c.raw.SetReadDeadline(time.Time{}) != nil || !c.tasks.Start(c.watchPeer) {
		close(c.watch)
	}
}

func (c *conn) watchPeer() {
	defer close(c.watch)
	hook := c.in.SetBefore(nil)
	var err error
	for err == nil && c.in.Buffered() < watchLimit {
		err = c.in.Fill()
	}
	c.in.SetBefore(hook)
	if err != nil && !isTimeout(err) {
		_ = c.close(err)
	}
}

// heedsWithin is how long a read under way may take to end by its deadline.
const heedsWithin = time.Second

var errHeedless = errors.New("the stream layer's connection does not heed its deadlines")

// stopWatching takes c.in back.
func (c *conn) stopWatching() {
	_ = c.raw.SetReadDeadline(longAgo)
	if !isClosed(c.watch) && pauseFor(heedsWithin, c.watch) {
		_ = c.close(errHeedless)
		<-c.watch
	}
	c.watch = nil
	_ = c.raw.SetReadDeadline(time.Time{})
}

// freshFor is how long after the beginning of its last call a connection is not
// looked at: calls without a pause would lose 7 % to it (1x128, measured on the
// machine of docs/measured.md), and what they send is on its way before a second answer
// could come. If the peer has gone within that time, the request fails without an
// answer and is tried again.
const freshFor = 100 * time.Microsecond

func (c *conn) isFresh(now time.Time) bool {
	return c.watch == nil && !now.IsZero() && now.Sub(c.usedAt) < freshFor
}

// isSilent reports whether an idle connection from the pool is alive, with
// nothing to read. Where the system can peek at a socket it is asked now, also for
// what a watch has not read yet, which other connections have had since they became
// idle.
func (c *conn) isSilent() bool {
	if c.watch != nil {
		c.stopWatching()
		if c.failure() != nil || c.in.Buffered() > 0 {
			return false
		}
	}
	return c.peekSilent()
}

// peekSilent asks the socket. It makes what it asks with only once: each call on a
// pooled connection needs it.
func (c *conn) peekSilent() bool {
	if c.peek == nil {
		c.peek = sock.NewPeek(c.raw)
	}
	return c.peek()
}

// isDead reports whether an idle connection in the pool is known to be of no
// use any more.
func (c *conn) isDead() bool {
	if c.watch == nil {
		return !c.peekSilent()
	}
	return c.failure() != nil
}

// isDrained reports whether everything that was read from the socket has come
// out of the connection. TLS reads ahead, and what it holds a look at the
// socket would not find.
func (c *conn) isDrained() bool {
	if _, secured := c.raw.(*tls.Conn); !secured {
		return true
	}
	_ = c.raw.SetReadDeadline(longAgo) // the socket is not read
	err := c.in.Fill()
	_ = c.raw.SetReadDeadline(time.Time{})
	return isTimeout(err)
}

const (
	// watchAfter is the time between looks at the session: if it has waited for
	// the core from one to the next, its caller is watched. Most waits are
	// shorter, and cost two additions.
	watchAfter = 50 * time.Millisecond

	// watchLimit is how much of what a caller has sent ahead is read to find
	// that it has closed. If there is more, the socket may know of it: see sock.HasHungUp.
	watchLimit = 16 << 10
)

// callerWatch closes an inbound connection whose caller goes while the core
// has not answered. A dead request is then not handed over any more. It also tells
// which requests have waited for the core.
type callerWatch struct {
	conn    *conn
	waiting *waitingRequests

	// Owned by the session; the timer's function reads it only during the wait.
	request any       // that waits to be taken by the core; nil if that was taken
	from    time.Time // the caller may seem to have gone before: see offerBody

	waits atomic.Uint64 // odd while the session waits for the core
	armed atomic.Bool   // timer is set
	taken atomic.Bool   // the timer's function has, or is about to have, conn.in

	mu      sync.Mutex // held while conn.in changes hands; protects following
	timer   *time.Timer
	seen    uint64 // waits when the timer fired last
	stopped bool
}

// begin begins a wait for the core: to take request, or for answers if that is nil.
func (w *callerWatch) begin(request any) {
	w.request = request
	w.waits.Add(1)
	if !w.armed.Load() {
		w.arm()
	}
}

// end ends it: conn.in is the session's again, or of whoever reads a snapshot,
// and nobody watches until the next begin.
func (w *callerWatch) end() {
	w.waits.Add(1)
	if w.taken.Load() {
		w.takeBack()
	}
	w.request = nil // an idle connection keeps none
}

// arm sets the timer. It goes on while the session is busy and stops by
// itself, so that a request does not pay for it.
func (w *callerWatch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed.CompareAndSwap(false, true) {
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, w.check)
	} else {
		w.timer.Reset(watchAfter)
	}
}

// check runs when the timer fires. It watches the caller if the session still
// waits as it did the last time.
func (w *callerWatch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now := w.waits.Load()
	if now == w.seen && now%2 == 0 {
		w.armed.Store(false)
		if w.waits.Load() == now {
			return
		}
		w.armed.Store(true) // a wait began meanwhile, and relied on the timer
	}
	if now == w.seen {
		w.lend(now)
	}
	w.seen = now
	w.timer.Reset(watchAfter)
}

// lend starts the watch unless the wait has ended. One of the two sees what
// the other wrote: lend the end of the wait, or end that conn.in was taken.
func (w *callerWatch) lend(wait uint64) {
	taken := w.taken.Swap(true)
	if w.waits.Load() != wait {
		w.taken.Store(taken)
		return
	}
	if w.request != nil {
		w.waiting.add(w, senderOf(w.conn, w.request))
	}
	switch {
	case time.Now().Before(w.from):
	case w.conn.watch == nil:
		w.conn.startWatching()
	case isClosed(w.conn.watch) && sock.HasHungUp(w.conn.raw):
		_ = w.conn.close(io.EOF)
	}
}

func senderOf(c *conn, command any) sender { return sender{hostOf(c.peer), addressIn(command)} }

func (w *callerWatch) takeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting.remove(w)
	if w.conn.watch != nil {
		w.conn.stopWatching()
	}
	w.taken.Store(false)
}

// stop ends the timer for good.
func (w *callerWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}
