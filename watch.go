package raftwire

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

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
	conn    *netConn
	waiting *waitingRequests

	// Owned by the session; the timer's function reads it only during the wait.
	request any       // that waits to be taken by the core; nil if that was taken
	from    time.Time // the caller may seem to have gone before: see offerBody

	waits atomic.Uint64 // odd while the session waits for the core
	armed atomic.Bool   // timer is set
	taken atomic.Bool   // the timer's function has, or is about to have, conn.In

	mu      sync.Mutex // held while conn.In changes hands; protects following
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

// end ends it: conn.In is the session's again, or of whoever reads a snapshot,
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
// the other wrote: lend the end of the wait, or end that conn.In was taken.
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
	case !w.conn.IsWatched():
		w.conn.StartWatching()
	case w.conn.WatchEnded() && sock.HasHungUp(w.conn.Raw):
		_ = w.conn.Close(io.EOF)
	}
}

func senderOf(c *netConn, command any) sender { return sender{hostOf(c.peer), addressIn(command)} }

func (w *callerWatch) takeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting.remove(w)
	if w.conn.IsWatched() {
		w.conn.StopWatching()
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
