package raftwire

import (
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/ring"
	"github.com/raftwire/raftwire/internal/tasks"
)

// flushAfter is how many bytes of answers gather before they are written, even if more
// answers are ready. It is also how many gather while a write is under way.
const flushAfter = 4 << 10

// replies brings back what an inbound connection owes its peer, in the order of
// the requests. Where requests come one at a time the session does that, between
// them. Where they come faster it starts the sender, a goroutine that ends as
// soon as nothing is pending. While it runs the session sends nothing.
type replies struct {
	conn   *netConn
	meter  *meter
	limit  int                                 // of those that are pending
	sender func()                              // sendAll, made once: it is started often
	wrong  func(peer ServerAddress, err error) // is told of answers of a wrong type

	_      conn.CacheLine
	posted int // bytes since the last flush; owned by whoever sends

	_        conn.CacheLine
	mu       sync.Mutex               // protects following
	pending  ring.Queue[pendingReply] // to requests that were taken; nobody collects them yet
	sending  bool                     // the sender runs
	failed   bool                     // it has given up, and the connection ends
	progress sync.Cond                // broadcast when it collects the next, and when it ends
}

// pendingReply is the answer to a request.
type pendingReply struct {
	kind    rpcKind
	said    bool // who sends it: then the answer says so, too
	answer  PendingAnswer
	serving *serving // for the meter, or nil
}

func (r *replies) init(c *netConn, m *meter, limit int) {
	r.conn, r.meter, r.limit = c, m, limit
	r.sender = r.sendAll
	r.progress.L = &r.mu
}

// add notes that an answer is pending. If more requests are here already, it starts the
// sender. If too many are pending, it waits until the sender has collected one.
func (r *replies) add(o pendingReply, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending.Push(o)
	if more && !r.sending && !r.failed {
		r.sending = true
		go r.sender()
	}
	for r.sending && r.pending.Len()+1 >= r.limit { // with the one that the sender waits for
		r.wait()
	}
}

// wait is how the session waits for the sender. It is ready for the next request only
// afterwards. mu is held.
func (r *replies) wait() {
	r.progress.Wait()
	r.meter.ready()
}

// pop returns the oldest pending answer.
func (r *replies) pop() (o pendingReply, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take()
}

// popUnsent is pop for the session: nothing is for it while the sender runs, whose end
// it may await. On a connection that has ended it fails, and what else has come is not
// looked at.
func (r *replies) popUnsent(await bool) (o pendingReply, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for await && r.sending {
		r.wait()
	}
	if r.failed || tasks.IsClosed(r.conn.Done) {
		return o, false, errEnded
	}
	if !r.sending {
		o, ok = r.take()
	}
	return o, ok, nil
}

// take is pop with mu held.
func (r *replies) take() (o pendingReply, ok bool) {
	if r.pending.Len() == 0 {
		return o, false
	}
	o = r.pending.Pop()
	r.meter.answered = o.serving
	return o, true
}

// shrink lets the memory of the queue go, if it is not used.
func (r *replies) shrink() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending.Len() == 0 && !r.sending {
		r.pending = ring.Queue[pendingReply]{}
	}
}

// sendAll is the sender. If it fails nobody takes its place: whose answer it had
// is told by the meter when the connection has ended.
func (r *replies) sendAll() {
	for ended := false; !ended; {
		err := r.sendPending()
		if err != nil {
			_ = r.conn.Close(err)
		}
		ended = r.endSender(err != nil)
	}
}

func (r *replies) endSender(failed bool) (ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending.Len() > 0 && !failed {
		return false
	}
	r.sending, r.failed = false, failed
	r.progress.Broadcast()
	return true
}

// abandon waits for the sender, which the end of the connection ends. It tells the meter
// of the answers that are not sent because of that: the one that was being collected, and
// those that are pending.
func (r *replies) abandon(err error) {
	r.awaitSender()
	for ok := true; ok; _, ok = r.pop() {
		r.meter.end(0, err)
	}
}

func (r *replies) awaitSender() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.sending {
		r.progress.Wait()
	}
}

// sendPending sends what is pending. Answers that are there share a write, but do not
// wait for others: another goroutine writes them, and those come next that were
// given meanwhile.
func (r *replies) sendPending() error {
	together := false // with the answer before
	for o, ok := r.pop(); ok; o, ok = r.pop() {
		r.progress.Broadcast()
		if !o.answer.Ready() || r.posted >= flushAfter {
			r.flushSoon()
			together = false
		}
		answer, err := r.collect(o, together)
		if err == nil {
			err = r.post(o, answer)
		}
		if err != nil {
			return err
		}
		together = true
	}
	return r.flush()
}

// collect waits for an answer, unless it was there together with the one before.
func (r *replies) collect(o pendingReply, together bool) (RPCResponse, error) {
	answer, ok := o.answer.Await(r.conn.Done)
	if !ok {
		return answer, errEnded
	}
	r.meter.answer(together)
	return answer, nil
}

// send sends an answer that was collected.
func (r *replies) send(o pendingReply, answer RPCResponse) error {
	if err := r.post(o, answer); err != nil {
		return err
	}
	return r.flush()
}

func (r *replies) post(o pendingReply, answer RPCResponse) error {
	answer, wrong := answerTo(o.kind, answer)
	if wrong {
		r.wrong(r.conn.peer, answer.Error)
	}
	var size int
	said := o.said
	err := r.conn.Post(func(b *conn.Batch) {
		at := appendResponse(b, answer)
		if said {
			b.Bytes = r.conn.accepted.AddTo(b.Bytes, at, identity.Allowed)
		}
		size = b.Added()
	})
	if err == nil {
		r.posted += size
		r.meter.end(size, answer.Error)
	}
	return err
}

func (r *replies) flushSoon() {
	if r.posted > 0 {
		r.posted = 0
		r.conn.FlushSoon()
	}
}

func (r *replies) flush() error {
	if r.posted == 0 {
		return nil
	}
	r.posted = 0
	return r.conn.Flush(time.Time{})
}
