package raftwire

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sock"
)

// Dialling. A call without an idle connection starts a dial on a goroutine that it
// does not own, and waits for whatever comes first: that dial, another one to the
// address, or a connection that another call gives back. When the call gives up the
// dial goes on: a connection that takes longer than a call may take would never be
// made otherwise. What comes of it goes to a call that waits, or into the pool.

const (
	// maxAbandoned and maxAbandonedTo are how many dials may outlive their calls, in
	// all and to one address. They are also how many may hang that cannot be ended:
	// then no more are started.
	maxAbandoned   = 64
	maxAbandonedTo = 4

	// minDialTime is the least time that a dial has that can be ended.
	minDialTime = 30 * time.Second
)

var (
	errTimeout       = errno.Timeout("i/o timeout")
	errDialAbandoned = errors.New("ended after its call had given up: later dials took its place")
	errAddressLeft   = errors.New("the peer has a new address")
)

// dials are those of a pool. It is protected by connPoolLock.
type dials struct {
	abandoned list.List // of dials without a call, the one that was left first in front
	stuck     int       // dials under way that cannot be ended, or were and have not returned
	stalled   list.List // of stalledCalls, which wait for one of those to return
}

// dial is an attempt to connect. Its goroutine may never return from a stream
// layer's code: then it must not keep the transport's memory after Close.
type dial struct {
	id     ServerID // of the call that started it, for hooks
	addr   ServerAddress
	begun  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine ends

	owner atomic.Pointer[NetworkTransport] // nil once the transport is closed

	// Protected by pool.connPoolLock.
	peer       *peerConns // nil once the transport is closed, or the dial is over
	generation int
	call       *connWaiter   // is told of an error; or nil
	abandoned  *list.Element // in dials.abandoned, or nil
	stuck      bool          // counted in dials.stuck
	returned   bool          // from the stream layer
	why        error         // it was ended, and its connection is not wanted
}

// connWaiter is a call that waits for a connection.
type connWaiter struct {
	id      ServerID // that it calls
	unused  bool     // only one will do on which nothing was sent
	dial    *dial
	stalled *list.Element // in dials.stalled, or nil
	ready   chan delivery // for one
}

// delivery is what a connWaiter waits for.
type delivery struct {
	conn   *netConn
	pooled bool // conn was idle, or another call's
	err    error
}

// dial returns a connection to addr on which nothing was sent.
func (n *NetworkTransport) dial(id ServerID, addr ServerAddress, deadline time.Time) (*netConn, error) {
	c, _, err := n.await(id, addr, deadline, time.Time{}, true)
	return c, err
}

// await waits for a connection to addr, until the deadline. For now see pool.get.
func (n *NetworkTransport) await(id ServerID, addr ServerAddress, deadline, now time.Time, unused bool) (c *netConn, reused bool, err error) {
	if err := n.addresses.mayDial(addr); err != nil {
		return nil, false, err
	}
	if !deadline.IsZero() && time.Until(deadline) <= 0 {
		return nil, false, fmt.Errorf("dial: %w", errTimeout)
	}
	expired, stop := deadlineTimer(deadline)
	defer stop()
	for {
		got, err := n.awaitOne(id, addr, expired, unused)
		switch {
		case err != nil:
			return nil, false, err
		case !got.pooled:
			n.noteSpent(got.conn, deadline)
			return got.conn, false, nil
		case got.conn.isFresh(now) || got.conn.IsSilent():
			return got.conn, true, nil
		}
		n.discard(got.conn, errPeerGone)
	}
}

// deadlineTimer returns a channel that yields at a time; zero is never.
func deadlineTimer(deadline time.Time) (expired <-chan time.Time, stop func() bool) {
	if deadline.IsZero() {
		return after(0)
	}
	return after(max(1, time.Until(deadline)))
}

// after is time.After with a stop; 0 or less is never.
func after(d time.Duration) (<-chan time.Time, func() bool) {
	if d <= 0 {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}

// noteSpent notes how much of its time the call had spent when its connection stood,
// if that is much and the pool would keep the connection: see conn.mayBeLate.
func (n *NetworkTransport) noteSpent(c *netConn, deadline time.Time) {
	if n.timeout <= 0 || n.maxPool == 0 {
		return
	}
	if spent := n.timeout - time.Until(deadline); spent > n.timeout/10 {
		c.spent = spent
	}
}

func (n *NetworkTransport) awaitOne(id ServerID, addr ServerAddress, expired <-chan time.Time, unused bool) (delivery, error) {
	w := &connWaiter{id: id, unused: unused, ready: make(chan delivery, 1)}
	isNew, err := n.join(addr, w)
	if err != nil {
		return delivery{}, err
	}
	if isNew {
		n.sweep() // one address often takes the place of another
	}
	select {
	case got := <-w.ready:
		return got, got.err
	case <-expired:
		err = errTimeout
	case <-n.shutdownCh:
		err = ErrTransportShutdown
	}
	hanging := n.leave(addr, w)
	if got := w.received(); got.conn != nil { // at the same moment
		n.giveBack(got)
	}
	if hanging != "" {
		err = errno.Timeout(fmt.Sprintf("%v: %s", err, hanging))
	}
	n.addresses.doubt(addr)
	return delivery{}, fmt.Errorf("dial: %w", err)
}

// received returns what w has been given, if anything.
func (w *connWaiter) received() (got delivery) {
	select {
	case got = <-w.ready:
	default:
	}
	return got
}

func (n *NetworkTransport) giveBack(got delivery) {
	switch {
	case !got.pooled:
		n.put(got.conn)
	case !n.push(got.conn): // which it came from
		n.discard(got.conn, errors.New("the pool is full"))
	}
}

// join makes w wait, with a dial under way for it if there may be one more.
func (n *NetworkTransport) join(addr ServerAddress, w *connWaiter) (isNew bool, err error) {
	n.connPoolLock.Lock()
	defer n.connPoolLock.Unlock()
	if n.closed {
		return false, ErrTransportShutdown
	}
	peer, isNew := n.peer(addr)
	peer.traffic.setID(w.id)
	if !w.unused {
		if c := n.popIdle(addr); c != nil {
			w.ready <- delivery{conn: c, pooled: true}
			return isNew, nil
		}
	}
	peer.waiting = append(peer.waiting, w)
	switch d := n.young(peer); {
	case d != nil:
		n.adopt(d, w)
	case n.mayStart(peer):
		n.start(peer, w)
	default:
		w.stalled = n.dials.stalled.PushBack(stalledCall{peer, w})
	}
	n.sort(peer)
	return isNew, nil
}

type stalledCall struct {
	peer *peerConns
	call *connWaiter
}

// young returns a dial whose call has gone and that may well succeed, or nil.
// connPoolLock is held, as for what follows.
func (n *NetworkTransport) young(peer *peerConns) *dial {
	for _, d := range slices.Backward(peer.dials) {
		if n.timeout > 0 && time.Since(d.begun) >= n.timeout {
			return nil
		}
		if d.abandoned != nil {
			return d
		}
	}
	return nil
}

// adopt makes an abandoned dial that of a call.
func (p *pool) adopt(d *dial, w *connWaiter) {
	p.dials.abandoned.Remove(d.abandoned)
	d.abandoned, d.call, w.dial = nil, w, d
}

func (p *pool) mayStart(peer *peerConns) bool {
	return p.dials.stuck < maxAbandoned && peer.stuck() < maxAbandonedTo
}

func (p *peerConns) stuck() (count int) {
	for _, d := range p.dials {
		if d.stuck {
			count++
		}
	}
	return count
}

func (n *NetworkTransport) start(peer *peerConns, w *connWaiter) {
	ctx, cancel := n.dialLimit()
	d := &dial{id: w.id, addr: peer.addr, begun: time.Now(), cancel: cancel, done: make(chan struct{}), peer: peer, generation: n.generation, call: w}
	d.owner.Store(n)
	w.dial = d
	peer.traffic.lastDial.Store(d.begun.UnixNano())
	peer.dials = append(peer.dials, d)
	if !n.canCancel {
		n.setStuck(d)
	}
	go d.run(ctx, n.stream)
}

func (p *pool) setStuck(d *dial) {
	if !d.stuck {
		d.stuck = true
		p.dials.stuck++
	}
}

// dialLimit returns the context of a dial.
func (n *NetworkTransport) dialLimit() (context.Context, context.CancelFunc) {
	ctx := dialing.OnOwnGoroutine(n.life)
	switch {
	case n.timeout <= 0:
		return context.WithCancel(ctx)
	case n.canCancel:
		return context.WithTimeout(ctx, max(minDialTime, 4*n.timeout))
	}
	// Each takes up a place until it returns, and there must be one for another try
	// within each Timeout.
	return context.WithTimeout(ctx, 2*n.timeout)
}

// leave ends the wait of w. If that was for dials that hang, it says so.
func (n *NetworkTransport) leave(addr ServerAddress, w *connWaiter) (hanging string) {
	n.connPoolLock.Lock()
	defer n.connPoolLock.Unlock()
	peer := n.peers[addr]
	if peer == nil || !slices.Contains(peer.waiting, w) {
		return ""
	}
	if w.stalled != nil {
		hanging = n.hanging(peer)
	}
	n.remove(peer, w)
	return hanging
}

func (p *pool) hanging(peer *peerConns) string {
	if count := peer.stuck(); count >= maxAbandonedTo {
		return fmt.Sprintf("%d dials to the address hang, the first for %v: the StreamLayer's Dial does not return", count, time.Since(peer.dials[0].begun).Round(time.Millisecond))
	}
	return fmt.Sprintf("%d dials hang, to this address and others: the StreamLayer's Dial does not return", p.dials.stuck)
}

// deliver ends the wait of w with something.
func (p *pool) deliver(peer *peerConns, w *connWaiter, got delivery) {
	w.ready <- got
	p.remove(peer, w)
}

// remove makes w wait no more. Its dial goes on.
func (p *pool) remove(peer *peerConns, w *connWaiter) {
	peer.waiting = slices.Delete(peer.waiting, slices.Index(peer.waiting, w), slices.Index(peer.waiting, w)+1)
	if w.stalled != nil {
		p.dials.stalled.Remove(w.stalled)
		w.stalled = nil
	}
	if d := w.dial; d != nil && d.call == w {
		d.call = nil
		p.abandon(d)
	}
	p.sort(peer)
}

// abandon leaves a dial to itself, at the cost of the oldest if there are many.
func (p *pool) abandon(d *dial) {
	if d.returned || d.why != nil || d.peer == nil {
		return
	}
	d.abandoned = p.dials.abandoned.PushBack(d)
	var first *dial
	count := 0
	for _, other := range d.peer.dials {
		if other.abandoned != nil {
			if count++; first == nil {
				first = other
			}
		}
	}
	if count > maxAbandonedTo {
		p.cancel(first, errDialAbandoned)
	}
	if p.dials.abandoned.Len() > maxAbandoned {
		p.cancel(p.dials.abandoned.Front().Value.(*dial), errDialAbandoned)
	}
}

// cancel ends a dial, and has what it may yet bring closed.
func (p *pool) cancel(d *dial, why error) {
	if d.why != nil {
		return
	}
	d.why = why
	if d.abandoned != nil {
		p.dials.abandoned.Remove(d.abandoned)
		d.abandoned = nil
	}
	if !d.returned {
		p.setStuck(d)
	}
	d.cancel()
}

// cancelAbandoned ends the dials to a peer whose calls have gone.
func (p *pool) cancelAbandoned(peer *peerConns, why error) {
	for _, d := range peer.dials {
		if d.abandoned != nil {
			p.cancel(d, why)
		}
	}
}

// run dials. It holds nothing of the transport while it does.
func (d *dial) run(ctx context.Context, stream StreamLayer) {
	defer close(d.done)
	raw, err := dialing.Stream(ctx, stream, d.addr)
	d.cancel()
	if n := d.owner.Load(); n != nil {
		n.dialled(d, raw, err)
	} else if err == nil {
		sock.Close(raw)
	}
}

// dialled takes what a dial has brought.
func (n *NetworkTransport) dialled(d *dial, raw net.Conn, err error) {
	home, why := n.setReturned(d)
	if err == nil && why != nil {
		sock.Close(raw)
	}
	if home == nil { // Close has told of it
		return
	}
	if why != nil {
		err = why
	}
	n.reportDial(d, err)
	if err != nil {
		if why == nil {
			n.addresses.doubt(d.addr)
		}
		n.fail(d, err)
		return
	}
	sock.RaiseUserTimeout(raw, n.timeout)
	c := newConn(raw, d.addr, n.timeout, &n.tasks, &n.hooks, &home.traffic, false)
	c.In.SetLimit("the limit of an answer", maxAnswerBytes)
	c.home, c.id = home, d.id
	c.reportOpening()
	late, err := n.succeed(d, c)
	switch {
	case err != nil:
		_ = c.Close(err)
	case late:
		n.put(c)
	}
}

// setReturned notes that the stream layer has returned. It returns why the dial was
// ended, if it was, and no peer if the transport was closed.
func (n *NetworkTransport) setReturned(d *dial) (home *peerConns, why error) {
	n.connPoolLock.Lock()
	defer n.connPoolLock.Unlock()
	if d.peer == nil {
		return nil, ErrTransportShutdown
	}
	d.returned = true
	if d.abandoned != nil {
		n.dials.abandoned.Remove(d.abandoned)
		d.abandoned = nil
	}
	return d.peer, d.why
}

func (n *NetworkTransport) reportDial(d *dial, err error) {
	if dialed := n.hooks.Dialed; dialed != nil {
		if err != nil && n.IsShutdown() {
			err = ErrTransportShutdown // which has ended it
		}
		dialed(DialEvent{ID: d.id, Peer: d.addr, Took: time.Since(d.begun), Err: err})
	}
}

// fail ends a dial without a connection.
func (n *NetworkTransport) fail(d *dial, err error) {
	n.connPoolLock.Lock()
	defer n.connPoolLock.Unlock()
	peer := n.over(d)
	if peer != nil && d.call != nil {
		n.deliver(peer, d.call, delivery{err: fmt.Errorf("dial: %w", err)})
	}
}

// succeed ends a dial with a connection, which goes to its call, or else to one that
// has waited longest; late says that there is none. With an error the connection is
// of no use.
func (n *NetworkTransport) succeed(d *dial, c *netConn) (late bool, err error) {
	n.connPoolLock.Lock()
	defer n.connPoolLock.Unlock()
	peer := n.over(d)
	switch {
	case peer == nil:
		return false, ErrTransportShutdown
	case d.why != nil:
		return false, d.why
	}
	err = n.addConn(c, d.generation)
	w := d.call
	if errors.Is(err, errStale) && w != nil {
		n.start(peer, w) // CloseStreams has overtaken it
	}
	if err != nil {
		return false, err
	}
	if w == nil {
		w = peer.nextFor(c)
	}
	if w == nil {
		return true, nil
	}
	n.deliver(peer, w, delivery{conn: c})
	return false, nil
}

// over takes d out of what is under way, and starts dials that have waited for its
// place. It returns nil if the transport is closed.
func (n *NetworkTransport) over(d *dial) *peerConns {
	peer := d.peer
	if peer == nil {
		return nil
	}
	d.peer = nil
	peer.dials = slices.DeleteFunc(peer.dials, func(other *dial) bool { return other == d })
	if d.stuck {
		n.dials.stuck--
		n.startStalled()
	}
	n.sort(peer)
	return peer
}

func (n *NetworkTransport) startStalled() {
	for e := n.dials.stalled.Front(); e != nil; {
		next := e.Next()
		if s := e.Value.(stalledCall); n.mayStart(s.peer) {
			n.dials.stalled.Remove(e)
			s.call.stalled = nil
			n.start(s.peer, s.call)
		}
		e = next
	}
}

// nextFor returns the call that has waited longest and may have c, or nil.
func (p *peerConns) nextFor(c *netConn) *connWaiter {
	for _, w := range p.waiting {
		if !w.unused || c.isUnused() {
			return w
		}
	}
	return nil
}

// disown closes the pool to dials.
func (p *pool) disown() (all, unreturned []*dial) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	p.closed = true
	for _, peer := range p.busyPeers() {
		for _, d := range peer.dials {
			if !d.returned {
				unreturned = append(unreturned, d)
			}
			d.owner.Store(nil)
			d.peer, d.call, d.abandoned = nil, nil, nil
		}
		all = append(all, peer.dials...)
		peer.dials = nil
	}
	return all, unreturned
}
