package layers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// maxHandedOff is how many connections wait for Accept before more are
// refused. A transport takes each at once; what gathers here is not wanted.
const maxHandedOff = 1024

// Handoff is a [raftwire.StreamLayer] whose connections are accepted by somebody
// else, who hands over those that are meant for it: a [Mux], or a program's own
// listener for several protocols. All methods may be called by several
// goroutines.
type Handoff struct {
	addr    net.Addr
	dial    DialFunc
	under   raftwire.StreamLayer // what dial dials with, if that is known
	release func()               // called by Close, once; may be nil

	verified bool // takes only connections whose peers the layer under it has verified
	expiring any  // what Expires asks, or nil

	conns chan *door.Visit
	done  chan struct{} // closed by Close

	mu sync.Mutex // orders Handoff and Close; protects following
	to door.Taker // takes the connections in place of Accept, if its Take is set
}

var _ raftwire.StreamLayer = (*Handoff)(nil)

// NewHandoff returns a layer that advertises addr and dials with dial. On each new
// connection dial must first send what the peer's listener recognizes the layer by, a
// first byte for example. A connection that it returns beside an error is closed. Close
// closes the layer; so does a transport over it. Without a dial the layer only accepts.
// Without an addr NewHandoff panics.
func NewHandoff(addr net.Addr, dial DialFunc) *Handoff {
	if sock.IsNil(addr) {
		panic("raftwire: NewHandoff has no addr: give it the address that peers are told")
	}
	if dial == nil {
		dial = cannotDial("give NewHandoff a DialFunc")
	}
	return newHandoff(addr, dial)
}

func newHandoff(addr net.Addr, dial DialFunc) *Handoff {
	return &Handoff{
		addr:  addr,
		dial:  dial,
		conns: make(chan *door.Visit, maxHandedOff),
		done:  make(chan struct{}),
	}
}

var (
	errNoConn      = errors.New("raftwire: handoff: the connection is nil: look at the error that came with it")
	errUnverified  = errors.New("raftwire: handoff: this layer is of a Mux over TLS, and takes only connections whose peers that has verified")
	errNotAccepted = fmt.Errorf("raftwire: handoff: %d connections wait for Accept, which nobody calls", maxHandedOff)
)

// Handoff gives the layer a connection that was accepted elsewhere. Before, read from it
// what says for which layer it is, and no more. The connection belongs to the layer from
// then on. If there is an error, Handoff has closed it: the layer is closed
// (net.ErrClosed), or too many connections wait for Accept, or the layer belongs to a Mux
// over TLS, which takes only what that has verified. A nil conn is an error. Handoff does
// not block.
func (l *Handoff) Handoff(conn net.Conn) error {
	if sock.IsNil(conn) {
		return errNoConn
	}
	if l.verified {
		sock.Close(conn)
		return errUnverified
	}
	return l.deliver(&door.Visit{Conn: conn})
}

// deliver closes the connection if nobody takes it.
func (l *Handoff) deliver(v *door.Visit) error {
	take, err := l.enqueue(v)
	switch {
	case err != nil:
		v.Close()
	case take != nil:
		take(v)
	}
	return err
}

// enqueue returns what takes the connection if Accept does not.
func (l *Handoff) enqueue(v *door.Visit) (take func(*door.Visit), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case tasks.IsClosed(l.done):
		return nil, l.errClosed("handoff")
	case l.to.Take != nil:
		return l.to.Take, nil
	}
	select {
	case l.conns <- v:
		return nil, nil
	default:
		return nil, errNotAccepted
	}
}

// HandTo is for this module only: see door.Source.
func (l *Handoff) HandTo(listener net.Listener, to door.Taker) bool {
	if listener != net.Listener(l) {
		return false
	}
	if !l.setTaker(to) {
		to.Closed()
		return true
	}
	for {
		select {
		case v := <-l.conns:
			to.Take(v)
		default:
			return true
		}
	}
}

// setTaker returns false if the layer is closed: then nobody else tells the taker.
func (l *Handoff) setTaker(to door.Taker) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if tasks.IsClosed(l.done) {
		return false
	}
	l.to = to
	return true
}

// Accept returns the next connection. It blocks until there is one or until
// the layer is closed, and then returns net.ErrClosed in a *net.OpError.
func (l *Handoff) Accept() (net.Conn, error) {
	for {
		select {
		case v := <-l.conns:
			if v.VerifyAgain() != nil {
				v.Close()
				continue
			}
			if v.Ended == nil {
				return v.Conn, nil
			}
			return sock.OnClose(v.Conn, v.Ended), nil
		case <-l.done:
			return nil, l.errClosed("accept")
		}
	}
}

// Close closes the layer and the connections that wait for Accept. It leaves
// alone the listener that they came from and the connections that were
// accepted; Dial goes on to work. A second Close returns net.ErrClosed.
func (l *Handoff) Close() error {
	first, closed := l.shut()
	if !first {
		return l.errClosed("close")
	}
	if closed != nil {
		closed()
	}
	if l.release != nil {
		l.release()
	}
	for {
		select {
		case v := <-l.conns:
			v.Close()
		default:
			return nil
		}
	}
}

// shut returns true the first time, and what is to be told of it.
func (l *Handoff) shut() (first bool, closed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if tasks.IsClosed(l.done) {
		return false, nil
	}
	closed = l.to.Closed
	l.to = door.Taker{}
	close(l.done)
	return true, closed
}

func (l *Handoff) errClosed(op string) error {
	closed := &net.OpError{Op: op, Err: net.ErrClosed}
	if !sock.IsNil(l.addr) { // the listener under a Mux may have none
		closed.Net, closed.Addr = l.addr.Network(), l.addr
	}
	return closed
}

// Addr returns the address that peers are told.
func (l *Handoff) Addr() net.Addr { return l.addr }

// Dial is [Handoff.DialContext] with a limit of its own; 0 means no limit.
func (l *Handoff) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(l.DialContext, address, timeout)
}

// DialContext connects to the same layer of the peer at address.
func (l *Handoff) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return closeBesideError(l.dial(ctx, address))
}

// Expires returns what [TLS.Expires] does, for a layer of a [Mux] that has
// MuxConfig.TLS or a [TLS] as its listener. Otherwise both times are zero.
func (l *Handoff) Expires() (certificate, ca time.Time) { return expiresOf(l.expiring) }

// CanCancelDials is for this module only: see dialing.CanCancel.
func (l *Handoff) CanCancelDials() dialing.Cancels {
	return dialing.Cancels(l.under == nil || dialing.CanCancel(l.under))
}
