package raftwire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/ring"
)

const (
	// The pause after a failed Accept doubles from the one to the other.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second

	// shrinkAfter is how long an inbound connection is silent before it lets
	// a grown input buffer go: many connections are idle, few are busy.
	shrinkAfter = time.Second
)

// listen accepts connections until the transport is closed.
func (n *NetworkTransport) listen() { acceptAll(n.stream, n.shutdownCh, n.logger, n.accept) }

// acceptAll accepts connections until done is closed. After an error it tries
// again, ever more slowly.
func acceptAll(listener net.Listener, done <-chan struct{}, logger hclog.Logger, accept func(net.Conn)) {
	var pause time.Duration
	for {
		raw, err := listener.Accept()
		if err == nil {
			pause = 0
			accept(raw)
			continue
		}
		if isClosed(done) {
			return
		}
		// Each time: the pause bounds it to a line a second.
		logger.Error("failed to accept connection", keyError, err)
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		if !pauseFor(pause, done) {
			return
		}
	}
}

// pauseFor waits; false means that done was closed meanwhile.
func pauseFor(pause time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// accept gives an inbound connection a goroutine.
func (n *NetworkTransport) accept(raw net.Conn) {
	c := newConn(raw, remoteAddress(raw), n.timeout, &n.tasks)
	c.introduce(&n.hooks, &n.inbound, true)
	c.in.SetLimit(n.maxMessageBytes)
	p, err := n.letIn(c)
	if err != nil {
		n.logEnd(c, c.close(err))
		return
	}
	n.logger.Debug("accepted connection", keyLocal, n.LocalAddr(), keyPeer, c.peer)
	s := &session{transport: n, conn: c, place: p, meter: newMeter(&n.hooks, p)}
	if !n.tasks.start(s.run) {
		n.letOut(p, ErrTransportShutdown)
	}
}

// letIn gives an inbound connection a place, at the cost of another one if
// need be.
func (n *NetworkTransport) letIn(c *conn) (*place, error) {
	p, expelled, why := n.gate.admit(c)
	if p == nil {
		return nil, why
	}
	if expelled != nil {
		_ = expelled.close(why) // its session does the rest
	}
	if err := n.add(c, n.current()); err != nil {
		n.gate.leave(p)
		return nil, err
	}
	return p, nil
}

func (n *NetworkTransport) letOut(p *place, why error) {
	n.discard(p.conn, why)
	n.gate.leave(p)
}

// remoteAddress is for logs; not every stream layer knows one.
func remoteAddress(raw net.Conn) ServerAddress {
	if addr := raw.RemoteAddr(); addr != nil {
		return ServerAddress(addr.String())
	}
	return "unknown"
}

// session serves one inbound connection. Its goroutine reads requests and
// hands them over; while more of them are already here it does not wait for
// the answer to the one before, up to a bound. Before it blocks in a read it
// has collected and sent every answer that is due, so an answer waits neither
// for a request still on its way nor for that request's consumer.
type session struct {
	transport *NetworkTransport
	conn      *conn
	place     *place

	opened     *openDispatcher // what dispatcher was opened with
	dispatcher Dispatcher
	observer   DispatchObserver // dispatcher, or nil
	meter      *meter           // for ServeDone, or nil

	owed       ring.Queue[rpcKind] // requests handed over and not yet answered
	known      bool                // a whole request has come
	waited     bool                // for the request's first byte
	inMessage  bool                // the next read continues a message
	inBody     bool                // the consumer reads a snapshot's body
	armed      bool                // a read deadline is set
	readingFor time.Time           // since when, for the observer

	watch callerWatch
}

func (s *session) run() {
	s.conn.in.SetBefore(s.beforeRead)
	s.watch.conn = s.conn
	err := s.serve()
	s.watch.stop()
	s.conn.awaitWriter() // it takes the last answers along
	err = s.conn.close(err)
	s.meter.abandon(err)
	s.transport.logEnd(s.conn, err)
	s.transport.letOut(s.place, err)
}

// serve reads requests until the connection ends, and returns why.
func (s *session) serve() error {
	for {
		if err := s.awaitRequest(); err != nil {
			return err
		}
		kind, command := s.readRequest()
		if err := s.conn.in.Err(); err != nil {
			// Those before it were right. Answers that are given soon go out;
			// then the watch, which finds the reader failed, ends the wait.
			_ = s.settle()
			return err
		}
		s.meter.decode(kind, command, s.conn.in.Consumed())
		s.recognize()
		var err error
		if snapshot, ok := command.(*InstallSnapshotRequest); ok {
			err = s.serveSnapshot(snapshot)
		} else if err = s.dispatch(kind, command, nil); err == nil {
			err = s.answerReady()
		}
		if err != nil {
			return err
		}
	}
}

// recognize notes that the peer has sent a request, and is one.
func (s *session) recognize() {
	if !s.known {
		s.known = true
		s.transport.gate.recognize(s.place)
	}
}

// errSilent ends a connection on which nothing ever came.
var errSilent = &refusal{silent, "no request began within FirstByteTimeout"}

// awaitRequest blocks until a request begins.
func (s *session) awaitRequest() error {
	s.inMessage = false
	s.openDispatcher()
	if s.observer != nil {
		s.readingFor = time.Now()
	}
	s.waited = s.conn.in.Buffered() == 0
	err := s.conn.await()
	if s.conn.in.Grown() && isTimeout(err) {
		s.conn.in.Shrink()
		err = s.conn.await()
	}
	if !s.known && isTimeout(err) {
		return errSilent
	}
	return err
}

// openDispatcher opens the transport's dispatcher, again if it was exchanged,
// once everything handed to the old one is answered.
func (s *session) openDispatcher() {
	if open := s.transport.open.Load(); open != s.opened && s.owed.Len() == 0 {
		s.opened = open
		s.dispatcher = (*open)(s.conn.done)
		s.observer, _ = s.dispatcher.(DispatchObserver)
	}
}

func (s *session) readRequest() (rpcKind, any) {
	in := &s.conn.in
	s.inMessage = true
	s.meter.begin(s.waited)
	in.Begin()
	kind := rpcKind(in.Byte())
	if s.observer == nil {
		return kind, readRequest(in, kind)
	}
	s.observer.KindRead(s.readingFor)
	began := time.Now()
	command := readRequest(in, kind)
	if in.Err() == nil {
		s.observer.Decoded(command, isHeartbeat(command), began)
	}
	return kind, command
}

// beforeRead is called when bytes have run out and a read may block.
func (s *session) beforeRead() error {
	if !s.inBody {
		if err := s.settle(); err != nil {
			return err
		}
	}
	s.setClock()
	return nil
}

// setClock sets the deadline of the next read: inside a message or a body the
// peer has to make progress, between messages it may be silent for ever, but
// not before the first.
func (s *session) setClock() {
	var limit time.Duration
	switch {
	case s.inMessage:
		limit = s.transport.timeout
	case !s.known:
		limit = s.transport.firstByteTimeout
	case s.conn.in.Grown():
		limit = shrinkAfter // awaitRequest goes on
	}
	if limit > 0 {
		_ = s.conn.raw.SetReadDeadline(time.Now().Add(limit))
	} else if s.armed {
		_ = s.conn.raw.SetReadDeadline(time.Time{})
	}
	s.armed = limit > 0
}

// dispatch hands a request over. While the consumer does not take it, answers
// to earlier ones go out.
func (s *session) dispatch(kind rpcKind, command any, body *snapshotBody) error {
	heartbeat := isHeartbeat(command)
	for !s.offer(command, body, heartbeat) {
		if err := s.answerNext(true); err != nil {
			return err
		}
	}
	s.owed.Push(kind)
	s.meter.take()
	return nil
}

// offer has the caller watched meanwhile. Whoever takes a snapshot may read it
// before Dispatch has returned, and then ends the watch.
func (s *session) offer(command any, body *snapshotBody, heartbeat bool) bool {
	s.watch.begin()
	if body == nil {
		defer s.watch.end()
		return s.dispatcher.Dispatch(command, nil, heartbeat)
	}
	body.claim = sync.OnceFunc(s.watch.end)
	defer body.claim()
	return s.dispatcher.Dispatch(command, body, heartbeat)
}

// answerReady sends the answers that are there already, and waits for more if
// too many requests are ahead.
func (s *session) answerReady() error {
	for s.owed.Len() > 0 && (s.dispatcher.Ready() || s.owed.Len() >= s.transport.maxDispatchAhead) {
		if err := s.answerNext(s.conn.in.Buffered() > 0); err != nil {
			return err
		}
	}
	return nil
}

// settle waits for every answer that is due and sends it. Those that are there
// share a write, but do not wait for the others.
func (s *session) settle() error {
	for s.owed.Len() > 0 {
		if !s.dispatcher.Ready() {
			if err := s.conn.flush(time.Time{}); err != nil {
				return err
			}
		}
		if err := s.answerNext(false); err != nil {
			return err
		}
	}
	return s.conn.flush(time.Time{})
}

// answerNext waits for the oldest answer that is due and posts it. If the
// session is busy with requests that follow, another goroutine writes it, and
// what gathers meanwhile. Otherwise that is left to settle, before the next
// read, which saves a hand-over.
func (s *session) answerNext(busy bool) error {
	kind, answer, err := s.collect()
	if err != nil {
		return err
	}
	return s.post(kind, answer, busy)
}

// post queues an answer, and if soon makes another goroutine send it.
func (s *session) post(kind rpcKind, answer RPCResponse, soon bool) (err error) {
	var size int
	encode := func(b *batch) {
		b.appendResponse(kind, answer)
		size = b.added()
	}
	if soon {
		err = s.conn.postSoon(encode)
	} else {
		err = s.conn.post(encode)
	}
	if err == nil {
		s.meter.post(kind, answer, size)
	}
	return err
}

// errEnded is returned where the connection was closed by somebody else, who
// gave the reason.
var errEnded = errors.New("connection closed")

func (s *session) collect() (rpcKind, RPCResponse, error) {
	answer, ok := s.awaitAnswer()
	if !ok {
		return 0, answer, errEnded
	}
	s.meter.answer()
	return s.owed.Pop(), answer, nil
}

func (s *session) awaitAnswer() (RPCResponse, bool) {
	if s.inBody { // the consumer reads, and sees for itself if the caller goes
		return s.dispatcher.Answer()
	}
	s.watch.begin()
	defer s.watch.end()
	return s.dispatcher.Answer()
}

// errBodyUnread ends a connection whose snapshot was answered before it was
// read: what follows on it is not a request.
var errBodyUnread = errors.New("snapshot was answered before it was read to its end")

// serveSnapshot hands a snapshot over, with its body, which the consumer reads
// until it answers. If some of it is unread then, the answer goes out at once,
// the rest is read and thrown away, and the connection ends.
func (s *session) serveSnapshot(request *InstallSnapshotRequest) error {
	if err := s.settle(); err != nil {
		return err
	}
	body := &snapshotBody{conn: s.conn, beforeRead: s.beforeRead, left: request.Size, progress: newProgress(s.conn, request.Size)}
	answer, err := s.lendBody(request, body)
	s.meter.readBody(body.over())
	if err != nil {
		return err
	}
	unread := body.close()
	err = s.post(rpcInstallSnapshot, answer, false)
	if err != nil || unread == 0 {
		return err
	}
	return s.rejectBody(body)
}

// lendBody lends the connection's input to the consumer until it answers.
func (s *session) lendBody(request *InstallSnapshotRequest, body *snapshotBody) (RPCResponse, error) {
	s.inBody = true
	if err := s.dispatch(rpcInstallSnapshot, request, body); err != nil {
		return RPCResponse{}, err
	}
	_, answer, err := s.collect()
	if err == nil {
		body.close()
		s.inBody = false
	}
	return answer, err
}

func (s *session) rejectBody(body *snapshotBody) error {
	if err := s.conn.flush(time.Time{}); err != nil {
		return err
	}
	if err := body.drain(); err != nil {
		return fmt.Errorf("%w; then: %w", errBodyUnread, err)
	}
	return errBodyUnread
}
