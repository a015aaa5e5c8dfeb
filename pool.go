package raftwire

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// errStreamsClosed is what connections end with that CloseStreams closed.
var errStreamsClosed = errors.New("connection closed by CloseStreams")

// errPeerGone is what idle connections end with whose peer has ended them.
var errPeerGone = errors.New("the peer closed the idle connection")

// pool knows every open connection of a transport, and keeps the idle outgoing
// ones for each peer. It dials nothing and waits for nothing but a look at a
// connection's state.
type pool struct {
	maxPool int

	connPoolLock sync.Mutex // protects following
	connPool     map[ServerAddress][]*conn
	open         map[*conn]struct{} // idle and in use, both directions
	traffic      map[ServerAddress]*traffic
	generation   int // of connections; CloseStreams begins a new one
	closed       bool
}

// get takes an idle connection to addr that is alive, or returns nil. The one
// used last comes first: it is the most likely to be alive and warm. One whose
// last call began less than freshFor before now is not checked; with the zero
// time all are.
func (p *pool) get(addr ServerAddress, now time.Time) *conn {
	for {
		c := p.pop(addr)
		if c == nil || c.isFresh(now) || c.isSilent() {
			return c
		}
		p.discard(c, errPeerGone)
	}
}

func (p *pool) pop(addr ServerAddress) *conn {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	idle := p.connPool[addr]
	if len(idle) == 0 {
		delete(p.connPool, addr) // perhaps nobody asks for it again
		return nil
	}
	last := len(idle) - 1
	c := idle[last]
	idle[last] = nil
	p.connPool[addr] = idle[:last]
	return c
}

// put gives a connection back after an answer was read to its end. It is kept
// unless it is closed, the pool for its peer is full, or bytes are left over
// that belong to no request.
func (p *pool) put(c *conn) {
	if c.in.Buffered() > 0 {
		p.discard(c, errors.New("the peer sent more than an answer"))
		return
	}
	if !canPeek(c.raw) {
		c.startWatching()
	} else if !c.isDrained() {
		p.discard(c, errors.New("the peer sent more than an answer, or has gone"))
		return
	}
	if !p.push(c) {
		p.discard(c, errors.New("the pool is full, or the peer has a new address"))
	}
}

func (p *pool) push(c *conn) bool {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if _, open := p.open[c]; !open || c.retired || len(p.connPool[c.peer]) >= p.maxPool {
		return false
	}
	p.connPool[c.peer] = append(p.connPool[c.peer], c)
	return true
}

// discard closes a connection that is not in the pool, and forgets it.
func (p *pool) discard(c *conn, why error) {
	defer p.forget(c) // also if a hook panics
	_ = c.close(why)
}

func (p *pool) forget(c *conn) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	delete(p.open, c)
}

// drop closes the idle connections to addr.
func (p *pool) drop(addr ServerAddress, why error) {
	for c := p.pop(addr); c != nil; c = p.pop(addr) {
		p.discard(c, why)
	}
}

// retire closes the idle connections to addr, and those in use once they are
// given back: nobody will ask for them again.
func (p *pool) retire(addr ServerAddress) {
	p.markRetired(addr)
	p.drop(addr, errors.New("the peer has a new address"))
}

func (p *pool) markRetired(addr ServerAddress) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	for c := range p.open {
		c.retired = c.retired || !c.inbound && c.peer == addr
	}
}

// sweep closes the idle connections whose peers have gone. Their addresses may
// have gone with them, and then nobody would ask for them again.
func (p *pool) sweep() {
	for _, c := range p.takeDead() {
		c.closeAside(errPeerGone, func() { p.forget(c) }) // the caller is about to call another peer
	}
}

// takeDead takes the dead out of the pool. It waits for nothing: a look at a
// socket does not, nor does a watch that found the end of its connection.
func (p *pool) takeDead() (dead []*conn) {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	for addr, idle := range p.connPool {
		p.connPool[addr] = slices.DeleteFunc(idle, func(c *conn) bool {
			gone := c.isDead()
			if gone {
				dead = append(dead, c)
			}
			return gone
		})
	}
	maps.DeleteFunc(p.connPool, func(_ ServerAddress, idle []*conn) bool { return len(idle) == 0 })
	return dead
}

// current returns the generation that a connection begun now belongs to.
func (p *pool) current() int {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	return p.generation
}

// errStale is returned by add for a connection begun before CloseStreams.
var errStale = errors.New("connection from before CloseStreams")

// add makes c one of the pool's open connections. It refuses, and the caller
// must close c, if the pool is closed or a new generation has begun since.
func (p *pool) add(c *conn, generation int) error {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	if p.closed {
		return ErrTransportShutdown
	}
	if generation != p.generation {
		return errStale
	}
	if p.open == nil {
		p.open = make(map[*conn]struct{})
		p.connPool = make(map[ServerAddress][]*conn)
	}
	p.open[c] = struct{}{}
	return nil
}

// reset closes every open connection and begins a new generation. If final, no
// further connection is accepted. Each is closed on a goroutine of its own, which
// tells hooks as well, so that none holds up the others; reset waits until they are
// closed, for closeWait at most, and not for hooks. If final, the caller waits for
// all those goroutines.
func (p *pool) reset(why error, final bool) {
	open := p.renew(final)
	closed := make(chan struct{}, len(open))
	for c := range open {
		c.closeAside(why, func() { closed <- struct{}{} })
	}
	if final {
		return
	}
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	for range open {
		select {
		case <-closed:
		case <-patience.C:
			return
		}
	}
}

// renew empties the pool and returns what was open: the connections are closed
// without holding the lock.
func (p *pool) renew(final bool) map[*conn]struct{} {
	p.connPoolLock.Lock()
	defer p.connPoolLock.Unlock()
	open := p.open
	if open != nil {
		p.open = make(map[*conn]struct{})
		p.connPool = make(map[ServerAddress][]*conn)
	}
	p.generation++
	p.closed = p.closed || final
	return open
}
