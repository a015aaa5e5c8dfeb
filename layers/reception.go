package layers

import (
	"container/list"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
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
	sort func(door.Handover) (door.Handover, *Handoff, error)

	crowded, slow error // what connections end with that were sent away

	refusals door.Refusals
	tasks    tasks.Group
	done     chan struct{} // closed by close

	closing  sync.Once
	closeErr error // of listener; to be read when the tasks have ended

	mu       sync.Mutex     // protects following
	visitors list.List      // of *visitor, the oldest first
	running  int            // goroutines of visitors, with those that have been sent away
	acceptor *door.Acceptor // nil until open
	closed   bool
}

// visitor is a connection whose layer is not known yet.
type visitor struct {
	door.Handover

	// protected by reception.mu
	place *list.Element // nil once it has left
	why   error         // why it was sent away
}

// maxLeaving is how many connections that were sent away may have a goroutine still.
const maxLeaving = 1024

var (
	errCrowded = door.Refuse(door.TooManyConns, "too many others came before it said for which layer it is: raise MaxUnsorted if that is what you want")
	errSlow    = door.Refuse(door.Silent, "it did not say in time for which layer it is")
)

func (r *reception) setDefaults() {
	if r.timeout == 0 {
		r.timeout = defaultSortTimeout
	}
	if r.limit == 0 {
		r.limit = defaultMaxUnsorted
	}
	if r.logger == nil {
		r.logger = logs.Default()
	}
	if r.crowded == nil {
		r.crowded, r.slow = errCrowded, errSlow
	}
	r.done = make(chan struct{})
}

// open begins to accept, unless the reception is closed.
func (r *reception) open() {
	if door.HandTo(r.listener, r.receive) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.acceptor = door.NewAcceptor(r.listener.Accept, r.done, &door.Target{
		Handle: func(conn net.Conn) { r.receive(door.Handover{Conn: conn}) },
		Logger: r.logger,
		Tasks:  &r.tasks,
	})
	go r.acceptor.Run()
}

// receive gives a connection a goroutine. The acceptor calls it: nothing in it may
// block.
func (r *reception) receive(h door.Handover) {
	v := &visitor{Handover: h}
	oldest, ok := r.register(v)
	if oldest != nil && r.dismiss(oldest, r.crowded) {
		r.tasks.Start(func() { sock.Close(oldest.Conn) })
	}
	if !ok || !r.tasks.Start(func() { r.attend(v) }) {
		h.Close()
	}
}

// register makes room for v. It returns the oldest visitor if there is one too many,
// and false if v cannot have a goroutine: the reception is closed, or too many that
// were sent away have not ended.
func (r *reception) register(v *visitor) (oldest *visitor, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false
	}
	if r.running >= r.limit+1024 {
		r.refusals.Add(door.TooManyConns)
		return nil, false
	}
	r.running++
	v.place = r.visitors.PushBack(v)
	if r.visitors.Len() > r.limit {
		oldest = r.visitors.Front().Value.(*visitor)
	}
	return oldest, true
}

// attend finds v's layer and hands it over.
func (r *reception) attend(v *visitor) {
	defer r.end()
	timer := time.AfterFunc(r.timeout, func() { r.sendAway(v, r.slow) })
	sorted, layer, err := r.sort(v.Handover)
	timer.Stop()
	if why := r.leave(v); why != nil {
		err = why
	}
	if err == nil {
		err = layer.deliver(sorted)
	} else {
		v.Close()
	}
	if err != nil {
		r.report(v.Conn, err)
	}
}

func (r *reception) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
}

// report says why a connection was not handed over.
func (r *reception) report(conn net.Conn, err error) {
	gone := errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
	r.refusals.Report(r.logger, sock.RemoteAddress(conn), err, gone)
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
		sock.Close(v.Conn)
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

// close ends the reception with all its visitors, and waits for its goroutines as
// Close of a transport does.
func (r *reception) close() error {
	r.closing.Do(r.beginClose)
	if err := r.tasks.AwaitEnd(); err != nil {
		return err
	}
	return r.closeErr
}

// beginClose has all that may block done on other goroutines.
func (r *reception) beginClose() {
	acceptor := r.shut()
	r.tasks.Start(func() {
		r.closeErr = r.listener.Close()
		if acceptor != nil {
			acceptor.Stop()
			acceptor.AwaitEnd(r.logger)
		}
	})
	for _, v := range r.present() {
		r.tasks.Start(func() { r.sendAway(v, net.ErrClosed) })
	}
}

func (r *reception) shut() *door.Acceptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	close(r.done)
	return r.acceptor
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

// refusedHook returns what tells hook of refusals, or nil.
func refusedHook(hook func(raftwire.RefusalEvent)) func(reason door.Reason, peer, host string, err error) {
	if hook == nil {
		return nil
	}
	return func(reason door.Reason, peer, host string, err error) {
		hook(raftwire.RefusalEvent{Reason: reason.String(), Peer: raftwire.ServerAddress(peer), Host: host, Err: err})
	}
}
