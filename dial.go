package raftwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// Dialling. A call without an idle connection starts a dial on a goroutine that it
// does not own, and waits for whatever comes first: that dial, another one to the
// address, or a connection that another call gives back. When the call gives up the
// dial goes on: a connection that takes longer than a call may take would never be
// made otherwise. What comes of it goes to a call that waits, or into the pool.

const (
	// maxDials and maxDialsTo are how many dials may be left to themselves, in all
	// and to one address: those whose call has gone, and all of a layer whose dials
	// cannot be ended.
	maxDials   = 64
	maxDialsTo = 4

	// minDialTime is the least time that a dial has that can be ended.
	minDialTime = 30 * time.Second
)

var (
	errDialAbandoned = errors.New("ended after its call had given up: later dials took its place")
	errAddressLeft   = errors.New("the peer has a new address")
)

// maxAnswerBytes is how large an answer may be. The longest hold the text of an
// error, or the addresses of peers.
const maxAnswerBytes = 16 << 20

// dialer is what a pool makes connections with.
type dialer struct {
	stream    StreamLayer
	self      *identity.Self  // nil without an Identity
	canCancel bool            // dials end with their context
	timeout   time.Duration   // of calls; 0 means no limit
	life      context.Context // ends on Close, and with it dials under way
	done      <-chan struct{} // closed by Close
	doubt     func(ServerID)  // is told of servers that could not be reached
	tasks     *tasks.Group
	hooks     *Hooks
}

// dial is an attempt to connect. Its goroutine may never return from a stream
// layer's code: then it must not keep the transport's memory after Close.
type dial struct {
	id     ServerID // of the call that started it, for hooks
	addr   ServerAddress
	begun  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine ends

	owner atomic.Pointer[pool] // nil once the transport is closed

	// Protected by pool.connPoolLock.
	peer       *peerConns // nil once the transport is closed, or the dial is over
	generation int
	call       *connWaiter // is told of an error; or nil
	counted    bool        // in pool.dials
	returned   bool        // from the stream layer
	why        error       // it was ended, and its connection is not wanted
}

// connWaiter is a call that waits for a connection.
type connWaiter struct {
	id     ServerID // that it calls
	unused bool     // only one will do on which nothing was sent
	dial   *dial    // nil while there are too many
	ready  chan delivery
}

// delivery is what a connWaiter waits for.
type delivery struct {
	conn   *netConn
	pooled bool // conn was idle, or another call's
	err    error
}

// dial returns a connection on which nothing was sent.
func (p *pool) dial(to destination) (*netConn, error) {
	c, _, err := p.await(to, time.Time{}, true)
	return c, err
}

// await waits for a connection, until the deadline or the end of the context. For now see pool.get.
func (p *pool) await(to destination, now time.Time, unused bool) (c *netConn, reused bool, err error) {
	if to.unconfirmed != nil {
		return nil, false, to.unconfirmed
	}
	if !to.deadline.IsZero() && time.Until(to.deadline) <= 0 {
		return nil, false, fmt.Errorf("dial: %w", errno.ErrTimeout)
	}
	expired, stop := tasks.Until(to.deadline)
	defer stop()
	for {
		got, err := p.awaitOne(to, expired, unused)
		switch {
		case err != nil:
			return nil, false, err
		case !got.pooled:
			p.noteSpent(got.conn, to.deadline)
			return got.conn, false, nil
		case got.conn.isFresh(now) || got.conn.IsSilent():
			return got.conn, true, nil
		}
		p.discard(got.conn, errPeerGone)
	}
}

// noteSpent notes how much of its time the call had spent when its connection stood,
// if that is much: see netConn.mayBeLate.
func (p *pool) noteSpent(c *netConn, deadline time.Time) {
	limit := p.dialer.timeout
	if spent := limit - time.Until(deadline); limit > 0 && spent > limit/10 {
		c.spent = spent
	}
}

func (p *pool) awaitOne(to destination, expired <-chan time.Time, unused bool) (delivery, error) {
	w := &connWaiter{id: to.id, unused: unused, ready: make(chan delivery, 1)}
	isNew, err := p.join(to.addr, w)
	if err != nil {
		return delivery{}, err
	}
	if isNew {
		p.sweep() // one address often takes the place of another
	}
	select {
	case got := <-w.ready:
		return got, got.err
	case <-expired:
		err = errno.ErrTimeout
	case <-to.ctx.Done():
		err = endOf(to.ctx)
	case <-p.dialer.done:
		err = ErrTransportShutdown
	}
	if hanging := p.leave(to.addr, w); hanging != "" {
		err = fmt.Errorf("%w: %s", err, hanging)
	}
	select {
	case got := <-w.ready: // at the same moment
		p.giveBack(got)
	default:
	}
	if to.ctx.Err() != context.Canceled { // which says nothing about the peer
		p.dialer.doubt(to.id)
	}
	return delivery{}, fmt.Errorf("dial: %w", err)
}

func (p *pool) giveBack(got delivery) {
	switch {
	case got.conn == nil:
	case !got.pooled:
		p.put(got.conn)
	case !p.push(got.conn): // which it came from
		p.discard(got.conn, errors.New("the pool is full"))
	}
}

// join makes w wait, with a dial under way for it if there may be one more.
func (p *pool) join(addr ServerAddress, w *connWaiter) (isNew bool, err error) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if p.closed {
		return false, ErrTransportShutdown
	}
	peer, isNew := p.peer(addr)
	peer.traffic.setID(w.id)
	if !w.unused {
		if c := p.popIdle(addr); c != nil {
			w.ready <- delivery{conn: c, pooled: true}
			return isNew, nil
		}
	}
	peer.waiting = append(peer.waiting, w)
	if d := p.young(peer); d != nil {
		d.call, w.dial = w, d
		p.count(d)
	} else {
		p.start(peer, w)
	}
	p.sort(peer)
	return isNew, nil
}

// young returns a dial whose call has gone and that may well succeed, or nil.
// connPoolLock is held, as for what follows.
func (p *pool) young(peer *peerConns) *dial {
	for _, d := range slices.Backward(peer.dials) {
		if p.dialer.timeout > 0 && time.Since(d.begun) >= p.dialer.timeout {
			return nil
		}
		if d.isAbandoned() {
			return d
		}
	}
	return nil
}

func (d *dial) isAbandoned() bool { return d.call == nil && d.why == nil && !d.returned }

// start starts a dial for w, unless too many are left to themselves: then the oldest
// ones are ended, and w waits for the place of one.
func (p *pool) start(peer *peerConns, w *connWaiter) {
	if p.isFull(peer, 0) {
		return
	}
	ctx, cancel := p.dialLimit()
	d := &dial{id: w.id, addr: peer.addr, begun: time.Now(), cancel: cancel, done: make(chan struct{}), peer: peer, generation: p.generation, call: w}
	d.owner.Store(p)
	w.dial = d
	peer.traffic.lastDial.Store(d.begun.UnixNano())
	peer.dials = append(peer.dials, d)
	p.count(d)
	go d.run(ctx, p.dialer.stream)
}

// isFull reports whether as many dials to a peer, or in all, are left to themselves as
// may be, and some more. It ends the oldest then.
func (p *pool) isFull(peer *peerConns, more int) bool {
	switch {
	case peer.counted() >= maxDialsTo+more:
		keepAbandoned(maxDialsTo-1+more, peer.dials)
	case p.dials >= maxDials+more:
		keepAbandoned(maxDials-1+more, p.allDials())
	default:
		return false
	}
	return true
}

// count counts d if it is left to itself. If it no longer is, and gives the first place
// free, calls to any peer may have waited for that. The peer that became busy last comes
// first: others have their dials, and those that hang would have all the places.
func (p *pool) count(d *dial) {
	before := d.counted
	d.counted = d.peer != nil && (d.call == nil || !p.dialer.canCancel)
	switch {
	case d.counted && !before:
		p.dials++
	case !d.counted && before:
		if p.dials--; p.dials == maxDials-1 {
			for _, peer := range slices.Backward(p.busyPeers()) {
				p.startWaiting(peer)
			}
		}
	}
}

func (p *peerConns) counted() (count int) {
	for _, d := range p.dials {
		if d.counted {
			count++
		}
	}
	return count
}

func (p *pool) allDials() (all []*dial) {
	for _, peer := range p.busyPeers() {
		all = append(all, peer.dials...)
	}
	return all
}

// keepAbandoned ends the oldest dials that were abandoned, but for some.
func keepAbandoned(count int, dials []*dial) {
	abandoned := slices.DeleteFunc(slices.Clone(dials), func(d *dial) bool { return !d.isAbandoned() })
	slices.SortStableFunc(abandoned, func(a, b *dial) int { return a.begun.Compare(b.begun) })
	for _, d := range abandoned[:max(0, len(abandoned)-count)] {
		d.end(errDialAbandoned)
	}
}

// dialLimit returns the context of a dial.
func (p *pool) dialLimit() (context.Context, context.CancelFunc) {
	ctx := dialing.OnOwnGoroutine(p.dialer.life)
	switch {
	case p.dialer.timeout <= 0:
		return context.WithCancel(ctx)
	case p.dialer.canCancel:
		return context.WithTimeout(ctx, max(minDialTime, 4*p.dialer.timeout))
	}
	// Each takes up a place until it returns, and there must be one for another try
	// within each Timeout.
	return context.WithTimeout(ctx, 2*p.dialer.timeout)
}

// leave ends the wait of w. If that was for dials that hang, it says so.
func (p *pool) leave(addr ServerAddress, w *connWaiter) (hanging string) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peer := p.peers[addr]
	if peer == nil || !slices.Contains(peer.waiting, w) {
		return ""
	}
	if w.dial == nil {
		hanging = p.hanging(peer)
	}
	p.remove(peer, w)
	return hanging
}

func (p *pool) hanging(peer *peerConns) string {
	if count := peer.counted(); count >= maxDialsTo {
		return fmt.Sprintf("%d dials to the address hang, the first for %v: the StreamLayer's Dial does not return", count, time.Since(peer.dials[0].begun).Round(time.Millisecond))
	}
	return fmt.Sprintf("%d dials hang, to this address and others: the StreamLayer's Dial does not return", p.dials)
}

// deliver ends the wait of w with something.
func (p *pool) deliver(peer *peerConns, w *connWaiter, got delivery) {
	w.ready <- got
	p.remove(peer, w)
}

// remove makes w wait no more. Its dial goes on.
func (p *pool) remove(peer *peerConns, w *connWaiter) {
	peer.waiting = slices.DeleteFunc(peer.waiting, func(other *connWaiter) bool { return other == w })
	if d := w.dial; d != nil && d.call == w {
		d.call = nil
		p.count(d)
		p.isFull(peer, 1)
	}
	p.sort(peer)
}

// end ends a dial, and has what it may yet bring closed. It counts until it returns.
func (d *dial) end(why error) {
	if d.why == nil {
		d.why = why
		d.cancel()
	}
}

// endAbandoned ends the dials to a peer whose calls have gone.
func (p *peerConns) endAbandoned(why error) {
	for _, d := range p.dials {
		if d.isAbandoned() {
			d.end(why)
		}
	}
}

// run dials. It holds nothing of the transport while it does.
func (d *dial) run(ctx context.Context, stream StreamLayer) {
	defer close(d.done)
	raw, err := dialing.Stream(ctx, stream, d.addr)
	d.cancel()
	if p := d.owner.Load(); p != nil {
		p.dialled(d, raw, err)
	} else if err == nil {
		sock.Close(raw)
	}
}

// dialled takes what a dial has brought.
func (p *pool) dialled(d *dial, raw net.Conn, err error) {
	home, why := p.setReturned(d)
	if err == nil && why != nil {
		sock.Close(raw)
	}
	if home == nil { // Close has told of it
		return
	}
	if why != nil {
		err = why
	}
	p.reportDial(d, err)
	var c *netConn
	if err == nil {
		c = p.newConn(d, raw, home)
	} else if why == nil {
		p.dialer.doubt(d.id)
	}
	late, err := p.finish(d, c, err)
	switch {
	case c == nil:
	case err != nil:
		_ = c.Close(err)
	case late:
		p.put(c)
	}
}

func (p *pool) newConn(d *dial, raw net.Conn, home *peerConns) *netConn {
	sock.RaiseUserTimeout(raw, p.dialer.timeout)
	c := newConn(raw, d.addr, p.dialer.timeout, p.dialer.tasks, p.dialer.hooks, &home.traffic, false)
	c.In.SetLimit("the limit of an answer", maxAnswerBytes)
	c.id = d.id
	c.dialled = identity.Dial(p.dialer.self, &c.In)
	c.reportOpening()
	return c
}

// setReturned notes that the stream layer has returned. It returns why the dial was
// ended, if it was, and no peer if the transport was closed.
func (p *pool) setReturned(d *dial) (home *peerConns, why error) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if d.peer == nil {
		return nil, ErrTransportShutdown
	}
	d.returned = true
	return d.peer, d.why
}

func (p *pool) reportDial(d *dial, err error) {
	if dialed := p.dialer.hooks.Dialed; dialed != nil {
		if err != nil && tasks.IsClosed(p.dialer.done) {
			err = ErrTransportShutdown // which has ended it
		}
		dialed(DialEvent{ID: d.id, Peer: d.addr, Took: time.Since(d.begun), Err: err})
	}
}

// finish ends a dial. Its connection, or else failure, goes to its call. A connection
// without a call goes to one that has waited longest; late says that there is none. With
// an error the connection is of no use.
func (p *pool) finish(d *dial, c *netConn, failure error) (late bool, err error) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	peer := p.over(d)
	if peer == nil {
		return false, ErrTransportShutdown
	}
	w := d.call
	switch err = cmp.Or(failure, d.why); {
	case err != nil && w != nil:
		p.deliver(peer, w, delivery{err: fmt.Errorf("dial: %w", err)})
	case err != nil:
	case d.generation != p.generation: // CloseStreams has overtaken it
		err = errStreamsClosed
		if w != nil {
			w.dial = nil
			p.start(peer, w)
		}
	default:
		p.addConn(c, peer)
		if w == nil {
			w = peer.nextFor(c)
		}
		if w == nil {
			return true, nil
		}
		p.deliver(peer, w, delivery{conn: c})
	}
	return false, err
}

// over takes d out of what is under way, and starts dials that have waited for its
// place. It returns nil if the transport is closed.
func (p *pool) over(d *dial) *peerConns {
	peer := d.peer
	if peer == nil {
		return nil
	}
	d.peer = nil
	peer.dials = slices.DeleteFunc(peer.dials, func(other *dial) bool { return other == d })
	p.count(d)
	p.startWaiting(peer)
	p.sort(peer)
	return peer
}

func (p *pool) startWaiting(peer *peerConns) {
	for _, w := range peer.waiting {
		if w.dial == nil {
			p.start(peer, w)
		}
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
			d.peer, d.call = nil, nil
		}
		all = append(all, peer.dials...)
		peer.dials = nil
	}
	return all, unreturned
}

// endDials gives up what is under way for good, tells of it, and returns it. Dials that
// do not return are on their own from then on.
func (p *pool) endDials() []*dial {
	dials, unreturned := p.disown()
	p.dialer.tasks.Start(func() { // hooks may block
		for _, d := range unreturned {
			p.reportDial(d, ErrTransportShutdown)
		}
	})
	return dials
}

// dialGrace is how long Close waits for dials that it has ended.
const dialGrace = 100 * time.Millisecond

// awaitDials waits for dials that end with their context, but not for ever: that of a
// foreign layer may not.
func (p *pool) awaitDials(dials []*dial) {
	if !p.dialer.canCancel {
		return
	}
	expired, stop := tasks.After(dialGrace)
	defer stop()
	for _, d := range dials {
		select {
		case <-d.done:
		case <-expired:
			return
		}
	}
}
