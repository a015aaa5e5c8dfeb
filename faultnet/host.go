package faultnet

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/errno"
)

// Host is a machine with one process on it, which may listen and dial.
type Host struct {
	net  *Network
	name string

	// protected by net.mu
	state    hostState
	lives    int // counts crashes, so that a dial knows that it is from before
	refusing bool
	failing  bool   // Accept fails
	layer    *Layer // the open one, or nil
	conns    map[*Conn]struct{}
}

type hostState uint8

const (
	hostUp      hostState = iota
	hostCrashed           // the machine runs: it refuses and resets
	hostOff               // the machine does not: it is silent
)

// Name returns the host's name, which is also its address.
func (h *Host) Name() string { return h.name }

// Listen opens the host's listener. A host has one at a time.
func (h *Host) Listen() (*Layer, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if err := h.mayListen(); err != nil {
		return nil, &net.OpError{Op: "listen", Net: networkName, Addr: Addr(h.name), Err: err}
	}
	h.layer = &Layer{host: h, life: h.lives}
	h.layer.arrived.L = &h.net.mu
	h.net.changed.Broadcast()
	return h.layer, nil
}

func (h *Host) mayListen() error {
	switch {
	case h.state != hostUp:
		return net.ErrClosed
	case h.layer != nil:
		return errno.AddressInUse
	}
	return nil
}

// Dial connects to the host called address. It returns when the connection
// stands, although nobody may have accepted it yet, or when ctx is done. It
// waits while a link between the two is cut.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.dial(ctx, h.net.host(address), h.lives)
}

// Refuse makes the host refuse new connections although it listens.
func (h *Host) Refuse(refuse bool) { h.apply(either(refuse, Refuse, Admit)) }

// FailAccepts makes Accept fail on the host as if there were too many open
// files, as soon as a connection waits for it. The connection goes on waiting.
func (h *Host) FailAccepts(fail bool) { h.apply(either(fail, FailAccepts, Accept)) }

// Crash ends the host's process: its listener and connections are closed, its
// peers are reset, dials to it are refused. Whatever still runs on it finds
// its connections closed and its Layer dead, also after Restart.
func (h *Host) Crash() { h.apply(Crash) }

// PowerOff takes the machine away: like Crash, but nobody is told. What is sent
// to it is held, and answered with a reset after Restart. Dials to it wait.
func (h *Host) PowerOff() { h.apply(PowerOff) }

// Restart brings the host back after Crash or PowerOff, without its listener
// and connections: Listen and Dial work again.
func (h *Host) Restart() { h.apply(Restart) }

func either(begin bool, a, end Action) Action {
	if begin {
		return a
	}
	return end
}

func (h *Host) apply(a Action) { h.net.must(Fault{Action: a, Hosts: []string{h.name}}) }

// What follows is called with net.mu held.

func (h *Host) setRefusing(refuse bool) {
	h.refusing = refuse
	h.net.changed.Broadcast()
}

func (h *Host) restart() {
	wasOff := h.state == hostOff
	h.state = hostUp
	if !wasOff {
		return // its links have worked all along
	}
	for _, l := range h.net.orderedLinks() {
		if l.from == h || l.to == h {
			l.reopen()
		}
	}
}

// stop ends the process, from inside or with the machine. A machine that is
// off stays so.
func (h *Host) stop(state hostState) {
	if h.state == hostOff {
		return
	}
	h.state = state
	h.lives++
	if h.layer != nil {
		h.layer.shut()
	}
	for _, c := range ordered(h.conns) {
		c.abort()
	}
	h.net.changed.Broadcast()
}

// dial connects for the process that lived after so many crashes.
func (h *Host) dial(ctx context.Context, to *Host, life int) (net.Conn, error) {
	stop := context.AfterFunc(ctx, h.net.wake)
	defer stop()
	c, err := h.connect(ctx, to, life)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: networkName, Addr: Addr(to.name), Err: err}
	}
	return c, nil
}

// connect does the handshake: there, a place in the backlog, and back.
func (h *Host) connect(ctx context.Context, to *Host, life int) (*Conn, error) {
	if h.state != hostUp {
		return nil, net.ErrClosed
	}
	if err := h.travel(ctx, h.net.link(h, to), life, to.decided); err != nil {
		return nil, err
	}
	if to.refuses() {
		if err := h.travel(ctx, h.net.link(to, h), life, nil); err != nil {
			return nil, err
		}
		return nil, errno.Refused
	}
	client, server := h.pair(to)
	to.layer.enqueue(server)
	if err := h.travel(ctx, h.net.link(to, h), life, nil); err != nil {
		client.abort()
		return nil, err
	}
	return client, nil
}

// travel waits as long as a packet takes over the link, and then for ready.
func (h *Host) travel(ctx context.Context, l *Link, life int, ready func() bool) error {
	held := true
	var due time.Time
	for {
		switch {
		case ctx.Err() != nil:
			return cancelled(ctx)
		case h.lives != life:
			return net.ErrClosed
		case l.blocked():
			held = true
		case held:
			held, due = false, l.due(0)
			if wait := time.Until(due); wait > 0 {
				timer := time.AfterFunc(wait, h.net.wake)
				defer timer.Stop()
			}
			continue
		case !time.Now().Before(due) && (ready == nil || ready()):
			return nil
		}
		h.net.changed.Wait()
	}
}

// decided reports whether a dial can be answered, with a yes or a no. If not,
// the backlog is full and the dial waits.
func (h *Host) decided() bool {
	return h.refuses() || len(h.layer.backlog) < maxBacklog
}

func (h *Host) refuses() bool {
	return h.refusing || h.layer == nil
}

// pair makes the two ends of a connection.
func (h *Host) pair(to *Host) (client, server *Conn) {
	n := h.net
	client, server = n.newConn(h), n.newConn(to)
	client.peer, server.peer = server, client
	client.out, server.out = n.link(h, to), n.link(to, h)
	client.local, server.local = h.portAddr(client.number), Addr(to.name)
	client.remote, server.remote = server.local, client.local
	return client, server
}

// portAddr is the address of a dialling end: the host's without its port.
func (h *Host) portAddr(number int) Addr {
	name := h.name
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return Addr(net.JoinHostPort(name, strconv.Itoa(firstPort+number)))
}

func cancelled(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}

// maxBacklog is how many connections wait for Accept before dials have to.
const maxBacklog = 4096

// Layer is a host's listener, and dials from it: a raftwire.StreamLayer. It
// belongs to the process that opened it, and is of no use after a crash.
type Layer struct {
	host *Host
	life int // the host's lives then

	// protected by host.net.mu
	arrived sync.Cond
	backlog []*Conn
	closed  bool
}

var _ raftwire.StreamLayer = (*Layer)(nil)

// Accept returns the next connection. It blocks until there is one or until
// the listener is closed, and then returns net.ErrClosed. See
// [Host.FailAccepts] for another error.
func (l *Layer) Accept() (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	for len(l.backlog) == 0 && !l.closed {
		l.arrived.Wait()
	}
	if err := l.acceptError(); err != nil {
		return nil, &net.OpError{Op: "accept", Net: networkName, Addr: l.Addr(), Err: err}
	}
	if len(l.backlog) == maxBacklog {
		l.host.net.changed.Broadcast()
	}
	c := l.backlog[0]
	l.backlog = l.backlog[1:]
	return c, nil
}

func (l *Layer) acceptError() error {
	switch {
	case l.closed:
		return net.ErrClosed
	case l.host.failing:
		return errno.TooManyFiles
	}
	return nil
}

// Close stops listening and resets connections that were not accepted yet. It
// leaves the others alone, and Dial goes on to work.
func (l *Layer) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: networkName, Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.shut()
	return nil
}

// Addr returns the host's address.
func (l *Layer) Addr() net.Addr { return Addr(l.host.name) }

// Dial is [Layer.DialContext] with a limit of its own; 0 or less means no limit.
func (l *Layer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		return l.DialContext(context.Background(), address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, address)
}

// DialContext is [Host.Dial] from the layer's host.
func (l *Layer) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	return l.host.dial(ctx, l.host.net.host(string(address)), l.life)
}

func (l *Layer) enqueue(c *Conn) {
	l.backlog = append(l.backlog, c)
	l.arrived.Signal()
}

func (l *Layer) shut() {
	l.closed = true
	l.host.layer = nil
	for _, c := range l.backlog {
		c.abort()
	}
	l.backlog = nil
	l.arrived.Broadcast()
	l.host.net.changed.Broadcast()
}
