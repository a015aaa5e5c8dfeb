package raftwire

import (
	"context"
	"errors"
	"time"
)

// call sends a request and waits for its answer: on an idle connection if
// there is one, else on a new one.
func (n *NetworkTransport) call(id ServerID, target ServerAddress, kind rpcKind, args, resp any) error {
	return n.request(id, target, kind, args, resp, func(addr ServerAddress, start time.Time) (sizes, error) {
		return n.callAt(id, addr, start, kind, args, resp)
	})
}

// request is what all requests have in common: it finds the address, checks
// args, has send do the rest, explains its error, and tells the hooks.
func (n *NetworkTransport) request(id ServerID, target ServerAddress, kind rpcKind, args, resp any, send func(addr ServerAddress, start time.Time) (sizes, error)) error {
	if err := beginCall(args, resp); err != nil {
		return n.explain(kind, target, err)
	}
	start := time.Now()
	n.reportBegin(kind, id, target, start, args)
	addr, err := n.address(id, target, n.deadline(start))
	if err == nil {
		err = checkRequest(args)
	}
	var size sizes
	if err == nil {
		size, err = send(addr, start)
	}
	err = n.explain(kind, addr, err)
	n.reportCall(kind, id, addr, start, args, size, err)
	return err
}

func (n *NetworkTransport) callAt(id ServerID, addr ServerAddress, start time.Time, kind rpcKind, args, resp any) (sizes, error) {
	deadline := n.deadline(start)
	c, reused, err := n.connectFor(kind, id, addr, deadline, start)
	if err != nil {
		return sizes{}, err
	}
	c.usedAt = start
	answered, err := c.call(deadline, kind, n.newTime, args, resp)
	if err != nil && reused && !answered && lostWhileIdle(err) && !c.home.hasRefused(kind, err) {
		n.discard(c, err)
		n.drop(addr, errors.New("another connection to the peer was dead"))
		if c, err = n.dial(id, addr, deadline); err != nil {
			return sizes{}, err
		}
		c.usedAt = start
		_, err = c.call(deadline, kind, n.newTime, args, resp)
	}
	if kind == rpcRequestPreVote {
		err = c.home.learnPreVotes(err)
	}
	size := c.last
	if err == nil {
		c.traffic.answered(start)
	}
	n.release(c, kind, err)
	return size, err
}

// connectFor is connect, but a peer that has refused a pre-vote gets the next one on
// a connection of its own: it closes that, too, if it has none.
func (n *NetworkTransport) connectFor(kind rpcKind, id ServerID, addr ServerAddress, deadline, now time.Time) (c *conn, reused bool, err error) {
	if kind == rpcRequestPreVote && n.refusesPreVotes(addr) {
		c, err = n.dial(id, addr, deadline)
		return c, false, err
	}
	return n.connect(id, addr, deadline, now)
}

func (n *NetworkTransport) reportBegin(kind rpcKind, id ServerID, target ServerAddress, start time.Time, args any) {
	if begun := n.hooks.CallBegun; begun != nil {
		e := callEvent(kind, id, target, start, args, 0, sizes{}, nil)
		lend(begun, &e)
	}
}

func (n *NetworkTransport) reportCall(kind rpcKind, id ServerID, addr ServerAddress, start time.Time, args any, size sizes, err error) {
	if done := n.hooks.CallDone; done != nil {
		e := callEvent(kind, id, addr, start, args, time.Since(start), size, err)
		lend(done, &e)
	}
}

func callEvent(kind rpcKind, id ServerID, peer ServerAddress, start time.Time, args any, took time.Duration, size sizes, err error) CallEvent {
	return CallEvent{
		Kind: kind.String(), Heartbeat: isHeartbeat(args), ID: id, Peer: peer, Start: start, Took: took, Entries: entriesIn(args),
		RequestBytes: size.request, ResponseBytes: size.response, Err: err,
	}
}

// lostWhileIdle reports whether the first error on an idle connection means
// that its peer had left it. That can come to light at the very moment of its
// use, and then the request may be tried once on a new connection. It must not
// after a timeout, when the peer may be at work on it, nor after a Close of
// our own.
func lostWhileIdle(err error) bool {
	return !isTimeout(err) && !errors.Is(err, errStreamsClosed) && !errors.Is(err, ErrClosePeer) && !errors.Is(err, ErrTransportShutdown)
}

// release gives a connection back after a call that ended with err.
func (n *NetworkTransport) release(c *conn, kind rpcKind, err error) {
	switch {
	case c.failure() != nil:
		n.discard(c, err)
	case c.mayBeLate(err):
		if !n.tasks.Start(func() { n.awaitLate(c, kind) }) {
			n.discard(c, err)
		}
	default:
		c.spent = 0
		n.put(c)
	}
}

// awaitLate keeps a connection whose answer comes late because it had to be made
// first. Over a long link no call would ever succeed if each had to do both within
// its Timeout: the next one finds the connection.
func (n *NetworkTransport) awaitLate(c *conn, kind rpcKind) {
	_ = c.raw.SetReadDeadline(c.usedAt.Add(c.spent + n.timeout))
	c.endWriteDeadline() // the call's, which is over
	c.spent = 0
	err := c.await()
	if err != nil {
		err = c.hangUp(err)
	} else {
		err = c.receive(kind, newResponse(kind))
	}
	n.release(c, kind, err)
}

// explain is the package's explain, but an error that comes of the transport's
// own Close becomes what calls on a closed transport return.
func (n *NetworkTransport) explain(kind rpcKind, target ServerAddress, err error) error {
	if _, remote := err.(*RemoteError); err != nil && !remote && n.IsShutdown() {
		return n.down()
	}
	return explain(kind, target, err)
}

// deadline returns when a call that begins at start must have ended; zero is
// never.
func (n *NetworkTransport) deadline(start time.Time) time.Time {
	if n.timeout <= 0 {
		return time.Time{}
	}
	return start.Add(n.timeout)
}

// address returns where to reach a server, or target and an error.
func (n *NetworkTransport) address(id ServerID, target ServerAddress, deadline time.Time) (ServerAddress, error) {
	return n.addresses.find(id, target, func() (context.Context, context.CancelFunc) { return n.dialContext(deadline) })
}

// connect returns a connection to addr for the caller's sole use. now is that of
// pool.get: with the zero time every idle connection is checked.
func (n *NetworkTransport) connect(id ServerID, addr ServerAddress, deadline, now time.Time) (c *conn, reused bool, err error) {
	if n.IsShutdown() {
		return nil, false, n.down()
	}
	if c := n.get(addr, now); c != nil {
		c.traffic.setID(id)
		return c, true, nil
	}
	return n.await(id, addr, deadline, now, false)
}

// dialContext returns a context that ends at the deadline and on Close.
func (n *NetworkTransport) dialContext(deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithCancel(n.life)
	}
	return context.WithDeadline(n.life, deadline)
}
