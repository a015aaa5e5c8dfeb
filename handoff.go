package raftwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/sock"
)

// DialFunc connects to a peer. It gives up when ctx is done, which has no effect
// on the connection afterwards.
type DialFunc func(ctx context.Context, address ServerAddress) (net.Conn, error)

// maxHandedOff is how many connections wait for Accept before more are
// refused. A transport takes each at once; what gathers here is not wanted.
const maxHandedOff = 1024

// HandoffLayer is a [StreamLayer] whose connections are accepted by somebody
// else, who hands over those that are meant for it: a [Mux], or a program's own
// listener for several protocols. All methods may be called by several
// goroutines.
type HandoffLayer struct {
	addr    net.Addr
	dial    DialFunc
	under   StreamLayer // what dial dials with, if that is known
	release func()      // called by Close, once; may be nil

	// admit is called by Accept, and returns what it is to return, or nil if the
	// connection was closed. It may be nil.
	admit func(net.Conn) net.Conn

	keyed bool // connections have shown a key of a Mux

	conns chan net.Conn
	done  chan struct{} // closed by Close

	mu     sync.Mutex // orders Handoff and Close; protects following
	closed bool
}

var _ StreamLayer = (*HandoffLayer)(nil)

// NewHandoffLayer returns a layer that advertises addr and dials with dial. On
// each new connection dial must first send whatever the peer's listener tells the
// layer by, a first byte for example; a connection that it returns beside an error
// is closed. Close closes the layer; so does a transport over it. Without a dial
// the layer only accepts; without an addr NewHandoffLayer panics.
func NewHandoffLayer(addr net.Addr, dial DialFunc) *HandoffLayer {
	if sock.IsNil(addr) {
		panic("raftwire: NewHandoffLayer has no addr: give it the address that peers are told")
	}
	if dial == nil {
		dial = cannotDial
	}
	return newHandoffLayer(addr, dial)
}

func newHandoffLayer(addr net.Addr, dial DialFunc) *HandoffLayer {
	return &HandoffLayer{
		addr:  addr,
		dial:  dial,
		conns: make(chan net.Conn, maxHandedOff),
		done:  make(chan struct{}),
	}
}

func cannotDial(context.Context, ServerAddress) (net.Conn, error) { return nil, errCannotDial }

var (
	errCannotDial  = errors.New("raftwire: handoff: this layer cannot dial: give NewHandoffLayer a DialFunc")
	errNoConn      = errors.New("raftwire: handoff: the connection is nil: look at the error that came with it")
	errUnverified  = errors.New("raftwire: handoff: this layer is of a Mux over TLS, and takes only connections whose peers that has verified")
	errNotAccepted = fmt.Errorf("raftwire: handoff: %d connections wait for Accept, which nobody calls", maxHandedOff)
)

// Handoff gives the layer a connection that was accepted elsewhere. What says
// for whom it is must have been read from it, and no more. The connection is the
// layer's from then on; if there is an error it has been closed: net.ErrClosed,
// or that too many wait for Accept, or that the layer is of a Mux over TLS, which
// verifies all that come. A nil conn is an error. Handoff does not block.
func (l *HandoffLayer) Handoff(conn net.Conn) error {
	if sock.IsNil(conn) {
		return errNoConn
	}
	if l.admit != nil { // which takes only what it knows
		sock.Close(conn)
		return errUnverified
	}
	return l.deliver(conn)
}

// deliver is Handoff for connections that admit knows, if there is one.
func (l *HandoffLayer) deliver(conn net.Conn) error {
	err := l.enqueue(conn)
	if err != nil {
		sock.Close(conn)
	}
	return err
}

func (l *HandoffLayer) enqueue(conn net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.errClosed("handoff")
	}
	select {
	case l.conns <- conn:
		return nil
	default:
		return errNotAccepted
	}
}

// Accept returns the next connection. It blocks until there is one or until
// the layer is closed, and then returns net.ErrClosed in a *net.OpError.
func (l *HandoffLayer) Accept() (net.Conn, error) {
	for {
		conn, err := l.take()
		if err != nil || l.admit == nil {
			return conn, err
		}
		if conn = l.admit(conn); conn != nil {
			return conn, nil
		}
	}
}

// take is Accept without admit.
func (l *HandoffLayer) take() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, l.errClosed("accept")
	}
}

// Close closes the layer and the connections that wait for Accept. It leaves
// alone the listener that they came from and the connections that were
// accepted; Dial goes on to work. A second Close returns net.ErrClosed.
func (l *HandoffLayer) Close() error {
	if !l.shut() {
		return l.errClosed("close")
	}
	if l.release != nil {
		l.release()
	}
	for {
		select {
		case conn := <-l.conns:
			sock.Close(conn)
		default:
			return nil
		}
	}
}

func (l *HandoffLayer) shut() (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	close(l.done)
	return true
}

func (l *HandoffLayer) errClosed(op string) error {
	closed := &net.OpError{Op: op, Err: net.ErrClosed}
	if !sock.IsNil(l.addr) { // the listener under a Mux may have none
		closed.Net, closed.Addr = l.addr.Network(), l.addr
	}
	return closed
}

// Addr returns the address that peers are told.
func (l *HandoffLayer) Addr() net.Addr { return l.addr }

// Dial is [HandoffLayer.DialContext] with a limit of its own; 0 means no limit.
func (l *HandoffLayer) Dial(address ServerAddress, timeout time.Duration) (net.Conn, error) {
	return dialing.Within(l.DialContext, address, timeout)
}

// DialContext connects to the same layer of the peer at address.
func (l *HandoffLayer) DialContext(ctx context.Context, address ServerAddress) (net.Conn, error) {
	conn, err := sock.CheckConn(l.dial(ctx, address))
	if err != nil && conn != nil {
		sock.Close(conn)
		conn = nil
	}
	return conn, err
}

// CanCancelDials is for this module only: see dialing.CanCancel.
func (l *HandoffLayer) CanCancelDials() dialing.Cancels {
	return dialing.Cancels(l.under == nil || dialing.CanCancel(l.under))
}
