package layers

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/tasks"
)

// inbound takes the connections of a listener and finds out, for each on a goroutine
// of its own, which layer it is for. That takes bytes of a peer, who may be slow, or
// not be one. Nobody waits for that: the time for it is limited, and so is the number
// of connections that have not said yet what they want.
type inbound struct {
	acceptor door.Acceptor // with the listener, the logger and Closed
	opening  sync.Once     // of acceptor

	// identify finds the layer for a connection, and prepares the visit to it. It may
	// wrap the connection, and ends as soon as that is closed.
	identify func(next *door.Visit) (*Handoff, error)

	door     door.Door
	refusals door.Refusals
	tasks    tasks.Group
	done     chan struct{} // closed by close

	closing  sync.Once
	closeErr error // of listener; to be read when the tasks have ended
}

// init is called when the other fields are set.
func (in *inbound) init(refused func(raftwire.RefusalEvent)) {
	in.done = make(chan struct{})
	in.acceptor.Done, in.acceptor.Take, in.acceptor.Tasks = in.done, in.take, &in.tasks
	in.door.Tasks, in.door.Refusals = &in.tasks, &in.refusals
	if refused != nil {
		in.refusals.Hook = func(reason door.Reason, peer, host string, err error) {
			refused(raftwire.RefusalEvent{Reason: string(reason), Peer: raftwire.ServerAddress(peer), Host: host, Err: err})
		}
	}
}

// open begins to take connections, the first time, unless that has been closed.
func (in *inbound) open() {
	in.opening.Do(func() { in.acceptor.Start() })
}

// take gives a connection a goroutine. It does not block.
func (in *inbound) take(visit *door.Visit) {
	verified := visit.Identified
	visit.Identified = false // a verified peer has not said either for which layer it is
	in.door.Admit(visit, func() { in.serve(visit, verified) })
}

// serve finds the layer for a connection and hands it over. The connection may have
// been closed at any time.
func (in *inbound) serve(visit *door.Visit, verified bool) {
	next := &door.Visit{Conn: visit.Conn, Peer: visit.Peer, Identified: verified, Verify: visit.Verify, Ended: visit.Ended}
	layer, err := in.identify(next)
	if why := visit.Identify(); why != nil {
		err = why
	}
	visit.Ended = nil // that is for next now
	if err == nil {
		visit.Leave()
		err = layer.deliver(next)
	} else {
		next.Close()
		visit.Leave()
	}
	if err != nil {
		in.report(visit.Peer, err)
	}
}

// report says why a connection was not handed over.
func (in *inbound) report(peer string, err error) {
	gone := errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
	in.refusals.Report(in.acceptor.Logger, peer, err, gone)
}

// close ends everything that is not handed over yet, and waits for its goroutines as
// Close of a transport does.
func (in *inbound) close() error {
	in.closing.Do(func() {
		in.opening.Do(func() {}) // it is not opened any more
		in.door.Close(net.ErrClosed)
		close(in.done)
		in.tasks.Start(in.closeListener)
		door.CloseAll(in.door.Visits(), net.ErrClosed, 0)
	})
	if err := in.tasks.AwaitEnd(); err != nil {
		return err
	}
	return in.closeErr
}

// closeLayer closes a layer that takes the connections. It does not block: the Close of
// one that waits for Accept may.
func (in *inbound) closeLayer(layer *Handoff) {
	end := func() { _ = layer.Close() }
	if !in.tasks.Start(end) {
		end()
	}
}

func (in *inbound) closeListener() { in.closeErr = in.acceptor.Close() }
