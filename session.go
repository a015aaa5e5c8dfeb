package raftwire

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/sock"
)

// shrinkAfter is how long an inbound connection is silent before it lets grown
// buffers go: many connections are idle, few are busy.
const shrinkAfter = time.Second

// session serves one inbound connection. Its goroutine reads requests and
// hands them over. Where they come one at a time it waits for each answer
// itself. If the next one is here already, it leaves the answers to a goroutine
// that exists only while some are pending, and goes on, up to a bound. So an answer
// waits neither for a request still on its way nor for that request's consumer.
type session struct {
	server *server
	conn   *netConn
	visit  *door.Visit

	opened     *openDispatcher // what dispatcher was opened with
	dispatcher Dispatcher
	meter      *meter

	identifyBy time.Time // when the first request has to begin; zero for never
	waited     bool      // for the request's first byte
	inMessage  bool      // the next read continues a message
	ranOut     bool      // of bytes, since the message began
	armed      bool      // a read deadline is set
	said       bool      // the present request says who sends it
	shrinks    bool      // when it passes, buffers go

	_       conn.CacheLine
	replies replies
	_       conn.CacheLine

	offered any           // waits to be taken by the core; or nil
	body    *snapshotBody // of offered, or nil
	waiting time.Time     // since when, if that is long
}

func newSession(n *server, c *netConn, v *door.Visit) *session {
	s := &session{server: n, conn: c, visit: v, identifyBy: v.StopTimer(), meter: newMeter(n.hooks, c)}
	s.replies.init(c, s.meter, n.maxDispatchAhead)
	s.replies.wrong = n.logWrongAnswer
	return s
}

func (s *session) run() {
	sock.RaiseUserTimeout(s.conn.Raw, s.server.timeout)
	s.conn.In.SetBefore(s.beforeRead)
	s.openDispatcher()
	err := s.serve()
	if first := s.conn.Close(err); !errors.As(err, new(*identity.Refusal)) { // which counts, whoever ends its wait
		err = first
	}
	s.visit.Leave() // first: a hook that blocks must not keep the place
	s.conn.reportEnd(err)
	s.replies.abandon(err)
	s.meter.abandon(err)
	s.server.logEnd(s.conn, err)
}

// serve reads requests until the connection ends, and returns why. A peer that
// has closed its side, or has sent what is no request, may still read: answers to
// what came before go out if the core gives them within Timeout. A peer that has
// stalled gets no such time.
func (s *session) serve() error {
	for {
		if err := s.awaitRequest(); err != nil {
			if err == io.EOF {
				s.giveLastAnswers(err)
			}
			return err
		}
		kind, command := s.readRequest()
		if err := s.conn.In.Err(); err != nil {
			if !errno.IsTimeout(err) {
				s.giveLastAnswers(err)
			}
			return s.explainStall(err)
		}
		if err := s.checkPeer(); err != nil {
			return err
		}
		s.meter.decode(kind, command, s.conn.In.Consumed(), s.ranOut)
		s.identify()
		var err error
		if snapshot, ok := command.(*InstallSnapshotRequest); ok {
			err = s.serveSnapshot(snapshot)
		} else {
			err = s.dispatch(kind, command)
		}
		if err != nil {
			return err
		}
	}
}

// checkPeer refuses a request from a node that this one is not to talk to. The
// connection ends then.
func (s *session) checkPeer() error {
	said, refusal := s.conn.accepted.CheckRequest()
	if s.said = said; refusal == nil {
		return nil
	}
	if err := s.settleUp(); err != nil {
		return err
	}
	if err := s.refuse(refusal); err != nil {
		return err
	}
	return &door.Refusal{Reason: door.Reason(refusal.Code.String()), Member: hostOf(s.conn.peer), Err: refusal}
}

// refuse answers a request with a refusal. The peer gets it only if it can send the rest
// of what it sends, a snapshot's body perhaps: it has Timeout to hang up.
func (s *session) refuse(refusal *identity.Refusal) error {
	err := s.conn.Send(func(b *conn.Batch) {
		at := appendResponse(b, RPCResponse{Error: refusal})
		if s.said {
			b.Bytes = s.conn.accepted.AddTo(b.Bytes, at, refusal.Code)
		}
	}, time.Time{})
	if err != nil {
		return err
	}
	_ = sock.CloseWrite(s.conn.Raw)
	s.conn.In.SetBefore(nil)
	_ = s.conn.Raw.SetReadDeadline(time.Now().Add(cmp.Or(s.server.timeout, defaultLinger)))
	_, _ = io.Copy(io.Discard, &s.conn.In)
	return nil
}

// giveLastAnswers brings back what is pending to a peer from which nothing more comes.
func (s *session) giveLastAnswers(why error) {
	if limit := s.server.timeout; limit > 0 {
		timer := time.AfterFunc(limit, func() { _ = s.conn.Close(why) })
		defer timer.Stop()
	}
	_ = s.settleUp()
}

// identify notes that the peer is one: it has sent a request, or has shown a
// certificate.
func (s *session) identify() {
	if !s.visit.Identified {
		_ = s.visit.Identify()
	}
}

// errSilent ends a connection on which nothing ever came.
var errSilent = &door.Refusal{
	Reason: door.Silent,
	Mild:   true,
	Err:    errors.New("no request began within FirstByteTimeout: a port scan, or a peer that has opened a pipeline without using it"),
}

// explainStall says what a timeout inside a request means.
func (s *session) explainStall(err error) error {
	if door.ReasonOf(err) != door.Stalled {
		return err
	}
	return errno.Timeout(fmt.Sprintf("a request made no progress within Timeout (%v)", s.server.timeout))
}

// awaitRequest blocks until a request begins.
func (s *session) awaitRequest() error {
	s.inMessage = false
	s.meter.await()
	s.waited = s.conn.In.Buffered() == 0
	err := s.conn.Await()
	for errno.IsTimeout(err) && s.shrinks {
		s.conn.Shrink()
		s.replies.shrink()
		err = s.conn.Await()
	}
	if s.visit.Identified || !errno.IsTimeout(err) {
		return err
	}
	if !isVerified(s.conn.Raw) {
		return errSilent
	}
	s.identify()
	return s.awaitRequest()
}

// isVerified reports whether raw is a TLS connection whose handshake is over, and
// whose peer has shown a certificate that was verified. The layers of this package
// have said so before. Others may leave the handshake to the first read.
func isVerified(raw net.Conn) bool {
	secured, ok := raw.(sock.TLSConn)
	if !ok {
		secured, ok = sock.Under(raw).(sock.TLSConn)
	}
	return ok && len(secured.ConnectionState().VerifiedChains) > 0
}

// openDispatcher opens the transport's dispatcher, again if it was exchanged while
// a request was awaited: nobody observes that one then.
func (s *session) openDispatcher() {
	if open := s.server.open.Load(); open != s.opened {
		s.opened = open
		s.dispatcher = open.dispatcher(s.conn.Done)
		s.meter.observer, _ = s.dispatcher.(ServeObserver)
		s.meter.observe = nil
		if observer, ok := s.dispatcher.(WaitObserver); ok {
			observer.OnWait(s.waits)
		}
	}
}

func (s *session) readRequest() (rpcKind, any) {
	in := &s.conn.In
	s.openDispatcher()
	s.inMessage, s.ranOut = true, false
	s.meter.begin(s.waited)
	in.Begin()
	kind := rpcKind(in.Byte())
	return kind, readRequest(in, kind)
}

// beforeRead is called when bytes have run out and a read may block. It brings back what
// is pending. If the sender does that, the session waits until it has: the next small
// request most likely comes only then. It does not wait inside a message, or after a
// large one: those are read while the sender works.
func (s *session) beforeRead() error {
	s.ranOut = true
	if err := s.answer(!s.inMessage && s.conn.In.Consumed() <= gatherUpTo); err != nil {
		return err
	}
	s.setClock()
	return nil
}

// setClock sets the deadline of the next read: inside a message the peer has
// to make progress, between messages it may be silent for ever, but
// not before the first.
func (s *session) setClock() {
	var limit time.Duration
	s.shrinks = false
	switch {
	case s.inMessage:
		limit = s.server.timeout
	case !s.visit.Identified && !s.identifyBy.IsZero():
		limit = max(1, time.Until(s.identifyBy))
	case s.conn.Grown():
		limit, s.shrinks = shrinkAfter, true // awaitRequest goes on
	}
	if limit > 0 {
		_ = s.conn.Raw.SetReadDeadline(time.Now().Add(limit))
	} else if s.armed {
		_ = s.conn.Raw.SetReadDeadline(time.Time{})
	}
	s.armed = limit > 0
}

// dispatch hands a request over, and prepares for the next one. If that is here
// already it need not wait for this answer, unless too many are pending.
func (s *session) dispatch(kind rpcKind, command any) error {
	o, err := s.offer(kind, command, nil)
	if err != nil {
		return err
	}
	s.replies.add(o, s.conn.In.Buffered() > 0)
	return nil
}

// offer hands a request over, and waits until it is taken. body is nil unless the
// request is a snapshot.
func (s *session) offer(kind rpcKind, command any, body *snapshotBody) (pendingReply, error) {
	s.offered, s.body = command, body
	var reader io.Reader
	if body != nil {
		reader = body
	}
	answer := s.dispatcher.Dispatch(command, reader, isHeartbeat(command))
	s.endWait()
	if answer == nil {
		return pendingReply{}, errEnded
	}
	return pendingReply{kind: kind, said: s.said, answer: answer, serving: s.meter.take()}, nil
}

// settleUp waits until nothing is pending, and all has been written.
func (s *session) settleUp() error {
	err := s.answer(true)
	if err == nil {
		s.conn.AwaitWriter()
		s.meter.ready()
	}
	return err
}

// answer brings the answer back that is pending, unless the sender does that, whose end
// it may await.
func (s *session) answer(await bool) error {
	o, ok, err := s.replies.popUnsent(await)
	if !ok {
		return err
	}
	answer, err := s.replies.collect(o, false)
	s.meter.ready()
	if err != nil {
		return err
	}
	return s.replies.send(o, answer)
}
