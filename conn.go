package raftwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/tasks"
)

// netConn is a connection to a peer, either end of it.
type netConn struct {
	conn.Conn
	peer    ServerAddress
	id      ServerID // of the peer, for hooks; "" if inbound
	hooks   *Hooks
	traffic *traffic

	// Who the nodes at both ends say they are; nil without an Identity, and at the
	// other end.
	dialled  *identity.Dialled
	accepted *identity.Accepted

	opened time.Duration // when, since epoch; only for ConnClosed

	// Owned by the call that has the connection, and by the pool while it is idle.
	usedAt time.Time     // when the last call on it began; zero if there was none
	spent  time.Duration // of the time of the call that it was dialled for, before it stood
	last   sizes         // of the last call on it

	// Beside each other: ten thousand connections are idle, and there is a step in what
	// memory they cost.
	inbound      bool
	answeredLate bool // owned as usedAt: after the call that it was dialled for had given up
	retired      bool // protected by pool.connPoolLock: not to be kept any more
}

// sizes are those of a request and its answer on the wire.
type sizes struct{ request, response int64 }

// newConn returns a connection that reports to hooks and is counted in t. The end
// of an outgoing one is reported by whoever closes it, that of an inbound one by
// its own goroutine.
func newConn(raw net.Conn, peer ServerAddress, timeout time.Duration, tasks *tasks.Group, hooks *Hooks, t *traffic, inbound bool) *netConn {
	c := &netConn{peer: peer, hooks: hooks, traffic: t, inbound: inbound}
	c.Init(raw, timeout, tasks, &t.Counter)
	if !inbound {
		c.Ended = c.reportEnd
	}
	return c
}

func (c *netConn) reportOpening() {
	if c.hooks.ConnClosed != nil {
		c.opened = sinceEpoch()
	}
	if c.hooks.ConnOpened != nil {
		c.hooks.ConnOpened(c.event())
	}
}

func (c *netConn) event() ConnEvent {
	e := ConnEvent{ID: c.id, Peer: c.peer, Inbound: c.inbound}
	if c.inbound {
		e.Host = hostOf(c.peer)
	}
	return e
}

func (c *netConn) reportEnd(err error) {
	if closed := c.hooks.ConnClosed; closed != nil {
		e := c.event()
		e.Err, e.Age = err, sinceEpoch()-c.opened
		closed(e)
	}
}

// freshFor is how long after the beginning of its last call a connection is not
// checked. The check would cost calls without a pause 7 % (1x128, measured on the
// machine of docs/measured.md), and they send before a second answer could come. If
// the peer has gone within that time, the request fails without an answer and is tried
// again.
const freshFor = 100 * time.Microsecond

func (c *netConn) isFresh(now time.Time) bool {
	return !c.IsWatched() && !now.IsZero() && now.Sub(c.usedAt) < freshFor
}

// beginCall prepares for a call to a server that begins at start.
func (c *netConn) beginCall(to destination, start time.Time) {
	c.usedAt, c.answeredLate = start, false
	c.introduce(to)
}

// introduce makes the next request say whom it is for, if that is new.
func (c *netConn) introduce(to destination) {
	if c.dialled != nil {
		c.dialled.Introduce(string(to.id), string(to.addr), string(to.target))
	}
}

// appendRequest appends a request, with an introduction if that is due.
func (c *netConn) appendRequest(b *conn.Batch, kind rpcKind, args any, newTime bool) {
	at := appendRequest(b, kind, args, newTime)
	if c.dialled.Says() {
		b.Bytes = c.dialled.AddTo(b.Bytes, at)
	}
}

// call sends a request and reads its answer into resp. answered reports whether
// any byte of an answer arrived: if not, and the connection had been idle in a
// pool, the request may be tried again elsewhere. A *RemoteError leaves the
// connection sound, any other error closes it, unless mayBeLate says so. If ctx ends
// before call returns, the connection is closed.
func (c *netConn) call(ctx context.Context, deadline time.Time, kind rpcKind, newTime bool, args, resp any) (answered bool, err error) {
	defer c.closeAfter(ctx)()
	if err = c.send(deadline, kind, newTime, args); err != nil {
		return false, c.hangUp(err)
	}
	if err = c.awaitAnswer(deadline); err != nil {
		if !c.mayBeLate(err) {
			err = c.hangUp(err)
		}
		return false, err
	}
	err = c.receive(kind, resp)
	c.last.response = c.In.Consumed()
	return true, err
}

// closeAfter closes the connection when ctx ends, until stop is called. stop closes it,
// too, if ctx has ended: the caller may look at Failure then.
func (c *netConn) closeAfter(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	end := func() {
		c.CloseAside(endOf(ctx), func() {})
		_ = c.Raw.SetDeadline(conn.LongAgo) // a foreign Close may block
	}
	cancel := context.AfterFunc(ctx, end)
	return func() {
		if !cancel() {
			end()
		}
	}
}

// mayBeLate reports whether the wait for an answer has ended with err only because
// making the connection took the time of the call. The connection is open then, and its
// next message is that answer.
func (c *netConn) mayBeLate(err error) bool { return c.spent > 0 && errno.IsTimeout(err) }

// isUnused reports whether no request was ever sent on a connection that was dialled.
func (c *netConn) isUnused() bool { return c.usedAt.IsZero() }

// send sends a request, and sets the deadline for it and for what follows.
func (c *netConn) send(deadline time.Time, kind rpcKind, newTime bool, args any) error {
	c.last = sizes{}
	if err := checkIntroduction(c.dialled, args); err != nil {
		return err
	}
	_ = c.Raw.SetDeadline(deadline)
	return c.Send(func(b *conn.Batch) {
		c.appendRequest(b, kind, args, newTime)
		c.last.request = int64(b.Added())
	}, deadline)
}

// awaitAnswer blocks until a byte of the answer to what send has sent is there.
func (c *netConn) awaitAnswer(deadline time.Time) error {
	if c.last.request <= conn.LargeMessage || deadline.IsZero() {
		return c.Await()
	}
	clock := conn.LargeClock(c.Timeout, deadline)
	return c.awaitSteadily(&clock, func() error { return c.CheckAcked(&clock) })
}

// awaitSteadily waits for the first byte of an answer until check, which looks at
// clock, returns an error.
func (c *netConn) awaitSteadily(clock *progress.Clock, check func() error) error {
	for {
		_ = c.Raw.SetReadDeadline(clock.NextLook())
		err := c.Await()
		if err == nil {
			_ = c.Raw.SetReadDeadline(clock.Deadline()) // for the rest of it
		}
		if !errno.IsTimeout(err) || c.Failure() != nil {
			return err
		}
		if late := check(); late != nil {
			return late
		}
	}
}

// hangUp closes a connection that was dialled because of err, which came in
// place of an answer, and returns what that means. A peer that goes although it
// has never answered had a reason: until then nothing was consumed. In the middle of
// a large request that is a stall rather than another protocol.
func (c *netConn) hangUp(err error) error {
	err = c.Close(err)
	if errors.Is(err, errno.TimedOut) {
		return explainUnacknowledged(err)
	}
	if c.In.Consumed() > 0 || err != io.EOF && !errno.IsCut(err) {
		return err
	}
	hint := " (does it want TLS, or a Mux key?)"
	if c.SentLarge() {
		hint = ""
	}
	return fmt.Errorf("the peer closed the connection without an answer: its log says why%s: %w", hint, err)
}

// explainUnacknowledged says what it means that the system has ended a connection.
func explainUnacknowledged(err error) error {
	return fmt.Errorf("the peer's machine did not acknowledge or take the bytes that were sent to it for as long as the system allows (TCP_USER_TIMEOUT or keep-alive, see TCPConfig): %w", err)
}

// receive reads an answer into resp, which is zero afterwards unless an answer
// was read to its end.
func (c *netConn) receive(kind rpcKind, resp any) error {
	text, err := readResponse(&c.In, resp)
	if err != nil {
		return c.Close(err)
	}
	if err := c.dialled.CheckAnswer(); err != nil {
		clearMessage(resp)
		return c.Close(err)
	}
	if text != "" {
		return &RemoteError{Op: kind.String(), Peer: c.peer, Text: text}
	}
	return nil
}
