package raftwire

import (
	"container/list"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// reception accepts connections and finds out, for each on a goroutine of its
// own, which layer it is for: that takes bytes of a peer, who may be slow, or
// not be one. Accept never waits for that. The time for it is limited, and so is
// the number of connections that have not said yet what they want: one more
// takes the place of the oldest, so that a crowd that says nothing does not
// keep peers out.
type reception struct {
	listener net.Listener
	logger   hclog.Logger
	timeout  time.Duration
	limit    int

	// sort finds the layer for a connection, and may wrap the connection. It
	// ends as soon as the connection is closed.
	sort func(net.Conn) (net.Conn, *HandoffLayer, error)

	crowded, slow error // what connections end with that were sent away

	refusals refusals
	tasks    tasks
	done     chan struct{} // closed by close

	mu       sync.Mutex // protects following
	visitors list.List  // of *visitor, the oldest first
	closed   bool
}

// visitor is a connection whose layer is not known yet.
type visitor struct {
	conn net.Conn

	// protected by reception.mu
	place *list.Element // nil once it has left
	why   error         // why it was sent away
}

var (
	errCrowded = &refusal{reason: tooManyConns, text: "too many others came before it said for which layer it is: raise MaxUnsorted if that is what you want"}
	errSlow    = &refusal{reason: silent, text: "it did not say in time for which layer it is"}
)

func (r *reception) setDefaults() {
	if r.timeout == 0 {
		r.timeout = defaultSortTimeout
	}
	if r.limit == 0 {
		r.limit = defaultMaxUnsorted
	}
	if r.logger == nil {
		r.logger = defaultLogger()
	}
	if r.crowded == nil {
		r.crowded, r.slow = errCrowded, errSlow
	}
	r.done = make(chan struct{})
}

// accept runs until close.
func (r *reception) accept() { acceptAll(r.listener, r.done, r.logger, r.receive) }

func (r *reception) receive(conn net.Conn) {
	v := &visitor{conn: conn}
	if !r.enter(v) || !r.tasks.start(func() { r.attend(v) }) {
		_ = conn.Close()
	}
}

// enter makes room for v. It returns false once the reception is closed.
func (r *reception) enter(v *visitor) bool {
	oldest, open := r.register(v)
	if oldest != nil {
		r.sendAway(oldest, r.crowded)
	}
	return open
}

// register returns the oldest visitor if there is one too many.
func (r *reception) register(v *visitor) (oldest *visitor, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	v.place = r.visitors.PushBack(v)
	if r.visitors.Len() > r.limit {
		oldest = r.visitors.Front().Value.(*visitor)
	}
	return oldest, true
}

// attend finds v's layer and hands it over.
func (r *reception) attend(v *visitor) {
	timer := time.AfterFunc(r.timeout, func() { r.sendAway(v, r.slow) })
	conn, layer, err := r.sort(v.conn)
	timer.Stop()
	if why := r.leave(v); why != nil {
		err = why
	}
	if err == nil {
		err = layer.deliver(conn)
	}
	if err != nil {
		closeRaw(v.conn)
		r.report(v.conn, err)
	}
}

// report says why a connection was not handed over.
func (r *reception) report(conn net.Conn, err error) {
	gone := errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
	r.refusals.report(r.logger, remoteAddress(conn), err, gone)
}

// leave makes v's connection its layer's, or returns why it was sent away.
func (r *reception) leave(v *visitor) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(v)
	return v.why
}

// sendAway closes v's connection, which ends sort, unless v has left.
func (r *reception) sendAway(v *visitor, why error) {
	if r.dismiss(v, why) {
		closeRaw(v.conn)
	}
}

func (r *reception) dismiss(v *visitor, why error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.place == nil {
		return false
	}
	r.remove(v)
	v.why = why
	return true
}

// remove is called with mu held.
func (r *reception) remove(v *visitor) {
	if v.place != nil {
		r.visitors.Remove(v.place)
		v.place = nil
	}
}

// close ends the reception with all its visitors, and waits for its goroutines.
func (r *reception) close() error {
	var err error
	if r.shut() {
		err = r.listener.Close()
		for _, v := range r.present() {
			r.sendAway(v, net.ErrClosed)
		}
	}
	return errors.Join(err, r.tasks.wait())
}

func (r *reception) shut() (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.closed = true
	close(r.done)
	return true
}

// present returns the visitors.
func (r *reception) present() (all []*visitor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.visitors.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*visitor))
	}
	return all
}
