package raftwire

import (
	"context"
	"errors"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
)

// AppendEntries implements [Transport].
func (n *NetworkTransport) AppendEntries(id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return n.AppendEntriesContext(context.Background(), id, target, args, resp)
}

// AppendEntriesContext implements [WithContext].
func (n *NetworkTransport) AppendEntriesContext(ctx context.Context, id ServerID, target ServerAddress, args *AppendEntriesRequest, resp *AppendEntriesResponse) error {
	return n.call(ctx, id, target, rpcAppendEntries, args, resp)
}

// RequestVote implements [Transport].
func (n *NetworkTransport) RequestVote(id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return n.RequestVoteContext(context.Background(), id, target, args, resp)
}

// RequestVoteContext implements [WithContext].
func (n *NetworkTransport) RequestVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestVoteRequest, resp *RequestVoteResponse) error {
	return n.call(ctx, id, target, rpcRequestVote, args, resp)
}

// RequestPreVote implements [WithPreVote].
func (n *NetworkTransport) RequestPreVote(id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return n.RequestPreVoteContext(context.Background(), id, target, args, resp)
}

// RequestPreVoteContext implements [WithContext].
func (n *NetworkTransport) RequestPreVoteContext(ctx context.Context, id ServerID, target ServerAddress, args *RequestPreVoteRequest, resp *RequestPreVoteResponse) error {
	return n.call(ctx, id, target, rpcRequestPreVote, args, resp)
}

// TimeoutNow implements [Transport].
func (n *NetworkTransport) TimeoutNow(id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return n.TimeoutNowContext(context.Background(), id, target, args, resp)
}

// TimeoutNowContext implements [WithContext].
func (n *NetworkTransport) TimeoutNowContext(ctx context.Context, id ServerID, target ServerAddress, args *TimeoutNowRequest, resp *TimeoutNowResponse) error {
	return n.call(ctx, id, target, rpcTimeoutNow, args, resp)
}

// AppendEntriesPipeline implements [Transport].
func (n *NetworkTransport) AppendEntriesPipeline(id ServerID, target ServerAddress) (AppendPipeline, error) {
	return n.openPipeline(context.Background(), id, target, nil)
}

// AppendEntriesPipelineContext implements [WithContext].
func (n *NetworkTransport) AppendEntriesPipelineContext(ctx context.Context, id ServerID, target ServerAddress) (AppendPipeline, error) {
	return n.openPipeline(ctx, id, target, nil)
}

// AppendEntriesPipelineTo implements [WithPipelineSink]. A nil sink means the
// pipeline's Consumer.
func (n *NetworkTransport) AppendEntriesPipelineTo(id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	return n.openPipeline(context.Background(), id, target, sink)
}

func (n *NetworkTransport) openPipeline(ctx context.Context, id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error) {
	if n.maxInFlight < minInFlightForPipelining && !n.IsShutdown() {
		return nil, ErrPipelineReplicationNotSupported
	}
	to, err := n.addresses.destination(ctx, id, target, time.Now())
	if err != nil {
		return nil, n.explain(rpcAppendEntries, to.addr, orEndOf(ctx, err))
	}
	c, _, err := n.connect(to, time.Time{})
	if err != nil {
		return nil, n.explain(rpcAppendEntries, to.addr, orEndOf(ctx, err))
	}
	c.introduce(to)
	p := newPipeline(c.peer, newNetLink(&n.pool, c, n.newTime), n.maxInFlight, n.timeout, sink, &n.tasks)
	p.id, p.callBegun, p.callDone, p.traffic = id, n.hooks.CallBegun, n.hooks.CallDone, c.traffic
	n.setPipeline(c, p)
	if !p.begin() {
		return nil, n.down()
	}
	return p, nil
}

// call sends a request and waits for its answer: on an idle connection if
// there is one, else on a new one.
func (n *NetworkTransport) call(ctx context.Context, id ServerID, target ServerAddress, kind rpcKind, args, resp any) error {
	return n.request(ctx, id, target, kind, args, resp, func(to destination, start time.Time) (sizes, error) {
		return n.callAt(to, start, kind, args, resp)
	})
}

// request is what all requests have in common: it finds the address, checks
// args, has send do the rest, explains its error, and tells the hooks.
func (n *NetworkTransport) request(ctx context.Context, id ServerID, target ServerAddress, kind rpcKind, args, resp any, send func(to destination, start time.Time) (sizes, error)) error {
	if err := beginCall(args, resp); err != nil {
		return n.explain(kind, target, err)
	}
	start := time.Now()
	n.reportBegin(kind, id, target, start, args)
	to, err := n.addresses.destination(ctx, id, target, start)
	if err == nil {
		err = checkRequest(args)
	}
	var size sizes
	if err == nil {
		size, err = send(to, start)
	}
	err = n.explain(kind, to.addr, orEndOf(ctx, err))
	n.reportCall(kind, id, to.addr, start, args, size, err)
	return err
}

func (n *NetworkTransport) callAt(to destination, start time.Time, kind rpcKind, args, resp any) (sizes, error) {
	c, reused, err := n.connectFor(kind, to, start)
	if err != nil {
		return sizes{}, err
	}
	c.beginCall(to, start)
	answered, err := c.call(to.ctx, to.deadline, kind, n.newTime, args, resp)
	if err != nil && reused && !answered && lostWhileIdle(err) && to.ctx.Err() == nil && !c.traffic.hasRefused(kind, err) {
		n.discard(c, err)
		n.drop(to.addr, errors.New("another connection to the peer was dead"), false)
		if c, err = n.dial(to); err != nil {
			return sizes{}, err
		}
		c.beginCall(to, start)
		_, err = c.call(to.ctx, to.deadline, kind, n.newTime, args, resp)
	}
	if kind == rpcRequestPreVote {
		err = c.traffic.learnPreVotes(err)
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
func (n *NetworkTransport) connectFor(kind rpcKind, to destination, now time.Time) (c *netConn, reused bool, err error) {
	c, reused, err = n.connect(to, now)
	if reused && kind == rpcRequestPreVote && c.traffic.refusesPreVotes() {
		n.put(c)
		c, err = n.dial(to)
		reused = false
	}
	return c, reused, err
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
	return !errno.IsTimeout(err) && !errors.Is(err, errStreamsClosed) && !errors.Is(err, ErrClosePeer) && !errors.Is(err, ErrTransportShutdown)
}

// release gives a connection back after a call that ended with err.
func (n *NetworkTransport) release(c *netConn, kind rpcKind, err error) {
	switch {
	case c.Failure() != nil:
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
func (n *NetworkTransport) awaitLate(c *netConn, kind rpcKind) {
	_ = c.Raw.SetReadDeadline(c.usedAt.Add(c.spent + n.timeout))
	c.EndWriteDeadline() // the call's, which is over
	c.spent, c.answeredLate = 0, true
	err := c.Await()
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

// connect returns a connection for the caller's sole use. now is that of
// pool.get: with the zero time every idle connection is checked.
func (n *NetworkTransport) connect(to destination, now time.Time) (c *netConn, reused bool, err error) {
	if n.IsShutdown() {
		return nil, false, n.down()
	}
	if c := n.get(to.addr, now); c != nil {
		c.traffic.setID(to.id)
		return c, true, nil
	}
	return n.await(to, now, false)
}
