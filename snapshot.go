package raftwire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sock"
)

// A snapshot travels as a request, the body, and an answer. Size is what the request
// says of the body's length. No receiver reads more than that; a body that is shorter
// travels as it is: some programs compress a body under way.

const (
	// snapshotChunk is how much is read and written at once.
	snapshotChunk = 64 << 10

	maxTLSRecord = 16 << 10 // RFC 8446 §5.1

	// emptyReads is how many reads of a snapshot may in a row yield neither bytes
	// nor an error.
	emptyReads = 100

	// maxRestoreTimeout caps the default of RestoreTimeout.
	maxRestoreTimeout = time.Hour

	// silentTimeouts is how many Timeouts a sender waits for a peer that takes
	// nothing of a snapshot, and answers no other request either.
	silentTimeouts = 3
)

// stallLimits are how long a snapshot may make no progress.
type stallLimits struct {
	timeout time.Duration // for one request; 0 means no limit
	stall   time.Duration // for any stall; 0 means no limit
}

// defaultStallLimits are those for a timeout if nothing else is configured.
func defaultStallLimits(timeout time.Duration) stallLimits {
	if timeout <= 0 {
		return stallLimits{}
	}
	return stallLimits{timeout, max(defaultSnapshotStallTimeout, timeout)}
}

// sendUntil returns when a sender gives up that has made no progress since then,
// and whose peer has answered another request at answered; zero means never.
func (l stallLimits) sendUntil(since, answered time.Time) (until time.Time) {
	if l.stall > 0 {
		until = since.Add(l.stall)
	}
	if l.timeout <= 0 {
		return until
	}
	if answered.After(since) {
		since = answered
	}
	if silent := since.Add(silentTimeouts * l.timeout); until.IsZero() || silent.Before(until) {
		until = silent
	}
	return until
}

// errStalled says why a sender has given up.
func (l stallLimits) errStalled(since time.Time) error {
	if l.stall > 0 && time.Since(since) >= l.stall {
		return errno.Timeout(fmt.Sprintf("sending the snapshot: no progress for SnapshotStallTimeout (%v): the peer reads nothing", l.stall))
	}
	return errno.Timeout(fmt.Sprintf("sending the snapshot: no progress, and the peer answered no other request, for %d Timeouts (%v)", silentTimeouts, silentTimeouts*l.timeout))
}

// InstallSnapshot implements [Transport]. It uses a new connection, so that
// nothing has to be tried twice, and closes it afterwards. If the peer answers
// before it has got everything, sending stops and that answer is returned. No more
// than Size bytes are sent: no peer reads more, and hashicorp/raft would take the
// rest for requests. After a shorter body the sending side of the connection is
// closed, where the connection can do that: then a peer that waits for the rest
// fails at once.
func (n *NetworkTransport) InstallSnapshot(id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return n.request(id, target, rpcInstallSnapshot, args, resp, func(to destination, start time.Time) (sizes, error) {
		data, err := orEmpty(data, args.Size)
		if err != nil {
			return sizes{}, err
		}
		return n.sendSnapshot(to, start, args, resp, data)
	})
}

// orEmpty returns data, or a reader of nothing if it is nil and may be.
func orEmpty(data io.Reader, size int64) (io.Reader, error) {
	switch {
	case !isNil(data):
		return data, nil
	case size > 0:
		return nil, fmt.Errorf("nil reader: data must yield the %d bytes of Size", size)
	}
	return strings.NewReader(""), nil
}

func (n *NetworkTransport) sendSnapshot(to destination, start time.Time, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) (sizes, error) {
	if n.IsShutdown() {
		return sizes{}, n.down()
	}
	c, err := n.dial(to)
	if err != nil {
		return sizes{}, err
	}
	c.usedAt = start
	defer n.discard(c, errors.New("snapshot sent"))
	sock.RaiseUserTimeout(c.Raw, n.snapshotPatience(args.Size))
	sock.LimitWrites(c.Raw, n.stallLimits.stall)
	n.snapshotPace.enter()
	defer n.snapshotPace.leave()
	s := snapshotSender{conn: c, answered: make(chan struct{}), pacer: &n.snapshotPace, progress: newProgress(c, to.id, args.Size)}
	if args.Size > conn.LargeMessage {
		c.SetLarge()
	}
	s.clock = writeClock{conn: c, limits: n.stallLimits, resumes: conn.CanGather(c.Raw)}
	if err := c.send(to.deadline, rpcInstallSnapshot, n.newTime, args); err != nil {
		return c.last, c.hangUp(err)
	}
	_ = c.Raw.SetDeadline(time.Time{}) // progress counts from here on
	if !n.tasks.Start(s.awaitAnswer) {
		return c.last, n.down()
	}
	s.sendBody(data, args.Size)
	err = s.finish(n.restoreLimit(args.Size), resp)
	if err == nil {
		c.traffic.answered(start)
	}
	return s.sizes(), err
}

// snapshotPatience is how long the connection of a snapshot may have to wait in
// all, which its socket must not cut short; 0 means for ever.
func (n *NetworkTransport) snapshotPatience(size int64) time.Duration {
	restore := n.restoreLimit(size)
	if restore <= 0 || n.stallLimits.stall <= 0 {
		return 0
	}
	return n.stallLimits.stall + restore
}

// restoreLimit is how long a follower may take to restore size bytes; 0 means
// for ever. It never divides by zero and never overflows.
func (n *NetworkTransport) restoreLimit(size int64) time.Duration {
	if n.restoreTimeout > 0 || n.timeout <= 0 {
		return n.restoreTimeout
	}
	scale := n.TimeoutScale
	if scale <= 0 {
		scale = DefaultTimeoutScale
	}
	limit := max(10, float64(size/int64(scale))) * float64(n.timeout)
	return time.Duration(min(limit, float64(max(maxRestoreTimeout, n.timeout))))
}

// snapshotSender sends one snapshot. The caller's goroutine writes, since it
// owns the reader; another waits for the answer, which may come early.
type snapshotSender struct {
	conn  *netConn
	pacer *pacer
	clock writeClock

	// Set by awaitAnswer before it closes answered.
	answered chan struct{}
	resp     InstallSnapshotResponse
	err      error

	progress progress
	failure  error // of sendBody
	peerGone bool  // a write failed, though not by a timeout
}

// awaitAnswer reads the answer, and then wakes the sender from a write that
// the peer will not read any more.
func (s *snapshotSender) awaitAnswer() {
	if s.err = s.conn.Await(); s.err != nil {
		s.err = s.conn.hangUp(s.err)
	} else {
		s.err = s.conn.receive(rpcInstallSnapshot, &s.resp)
	}
	close(s.answered)
	_ = s.conn.Raw.SetWriteDeadline(conn.LongAgo)
}

// errSendingOver ends copyBody when the peer has answered.
var errSendingOver = errors.New("answered")

func (s *snapshotSender) sendBody(data io.Reader, size int64) {
	sent, err := copyBody(data, size, s.write)
	switch {
	case err == nil && sent < size:
		sock.CloseWrite(s.conn.Raw)
	case err != nil && err != errSendingOver:
		// Without half-closing, and with the last piece unsent: the peer must not
		// take what it has for the whole.
		s.failure = s.conn.Close(err)
	}
	s.progress.end()
}

// copyBody gives what data yields to write, up to limit bytes, and returns how many
// were written. What a Read yields is held back until the next one: if that fails, no
// follower may have got the whole body. So a reader that checks what it has read can
// still report that at its end.
func copyBody(data io.Reader, limit int64, write func(piece []byte) error) (sent int64, err error) {
	data = &restlessReader{Reader: data}
	size := min(max(limit, 1), snapshotChunk)
	held, next := make([]byte, 0, size), make([]byte, size)
	for {
		n, err := data.Read(next)
		if err != nil && err != io.EOF {
			return sent, fmt.Errorf("reading the snapshot: %w", err)
		}
		if failed := write(held); failed != nil {
			return sent, failed
		}
		sent += int64(len(held))
		held, next = next[:min(int64(n), limit-sent)], held[:size]
		switch {
		case err == io.EOF:
			if err = write(held); err == nil {
				sent += int64(len(held))
			}
			return sent, err
		case n > 0 && len(held) == 0:
			return sent, nil // the rest would be over the limit
		}
	}
}

// restlessReader ends with io.ErrNoProgress where its reader yields nothing again
// and again.
type restlessReader struct {
	io.Reader
	empty int
}

func (r *restlessReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.empty++; n > 0 {
		r.empty = 0
	}
	if r.empty >= emptyReads && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// write writes a piece, unless the peer has answered.
func (s *snapshotSender) write(piece []byte) error {
	for len(piece) > 0 {
		now := s.awaitTurn(min(int64(len(piece)), s.atOnce()))
		if err := s.writeNow(piece[:now]); err != nil {
			return err
		}
		piece = piece[now:]
	}
	return nil
}

func (s *snapshotSender) writeNow(piece []byte) error {
	s.clock.progress()
	for len(piece) > 0 {
		n, err := s.writeOnce(piece)
		if n > 0 {
			s.conn.traffic.Out.Add(uint64(n))
			s.progress.add(int64(n))
		}
		if n > 0 && (err == nil || s.clock.resumes) {
			s.clock.progress()
		}
		piece = piece[n:]
		if err = s.judge(err); err != nil {
			return err
		}
	}
	return nil
}

// writeOnce looks for the answer after the clock has begun: awaitAnswer wakes the
// write by a deadline, which the clock may have cleared.
func (s *snapshotSender) writeOnce(piece []byte) (int, error) {
	s.clock.begin()
	defer s.clock.end()
	if s.isAnswered() {
		return 0, errSendingOver
	}
	return s.conn.Raw.Write(piece)
}

// judge returns why not to go on after a write that ended with err.
func (s *snapshotSender) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case s.isAnswered():
		return errSendingOver
	case errors.Is(err, errno.TimedOut):
		return explainUnacknowledged(err)
	case !errno.IsTimeout(err):
		// The peer is gone. It may have answered before: that counts, if it can
		// still be read.
		s.peerGone = true
		return errSendingOver
	case s.clock.isOver() || !s.clock.resumes:
		return s.clock.errStalled()
	}
	return nil // it was a look at how much was written
}

// atOnce is how much is written with one call. TLS does not go on where a deadline
// has interrupted it, so there it is no more than a record; and another layer may be
// TLS.
func (s *snapshotSender) atOnce() int64 {
	if s.clock.resumes {
		return snapshotChunk
	}
	return maxTLSRecord
}

// awaitTurn waits until some of n bytes may be sent, and returns how many, or until
// the connection ends.
func (s *snapshotSender) awaitTurn(n int64) int64 {
	now, wait := s.pacer.reserve(n)
	if wait > 0 {
		pauseFor(wait, s.answered)
	}
	return now
}

func (s *snapshotSender) isAnswered() bool { return isClosed(s.answered) }

// finish waits for the answer: for at most limit, if it is positive, while the
// peer restores, and no longer than for anything else if the peer is gone.
func (s *snapshotSender) finish(limit time.Duration, resp *InstallSnapshotResponse) error {
	if s.peerGone {
		limit = s.conn.Timeout
	}
	if limit > 0 {
		_ = s.conn.Raw.SetReadDeadline(time.Now().Add(limit))
	}
	<-s.answered
	if s.failure != nil {
		return s.failure
	}
	*resp = s.resp
	return s.err
}

// sizes is called after finish.
func (s *snapshotSender) sizes() sizes {
	return sizes{request: s.conn.last.request + s.progress.event.Done, response: s.conn.In.Consumed()}
}

// writeClock interrupts a write that makes no progress. How much of one was written
// shows only when it ends. So one that can go on afterwards is interrupted now and
// then to see that; one over TLS cannot.
type writeClock struct {
	conn    *netConn
	limits  stallLimits
	resumes bool // a write goes on where it was interrupted

	mu          sync.Mutex // protects following
	timer       *time.Timer
	since       time.Time // when there was progress
	writing     bool
	interrupted bool // the connection has a write deadline in the past
}

// progress begins a stall anew.
func (w *writeClock) progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
}

func (w *writeClock) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = true
	if w.interrupted {
		w.interrupted = false
		_ = w.conn.Raw.SetWriteDeadline(time.Time{})
	}
	w.setTimer()
}

func (w *writeClock) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = false
	if w.timer != nil {
		w.timer.Stop()
	}
}

// setTimer sets the timer for the next look. mu is held.
func (w *writeClock) setTimer() {
	until := w.until()
	if until.IsZero() {
		return
	}
	wait := time.Until(until)
	if w.resumes && w.limits.timeout > 0 {
		wait = min(wait, w.limits.timeout)
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.look)
	} else {
		w.timer.Reset(wait)
	}
}

// look interrupts the write if it is time, or waits longer because the peer has
// answered other requests.
func (w *writeClock) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.writing:
	case w.resumes, !time.Now().Before(w.until()):
		w.interrupted = true
		_ = w.conn.Raw.SetWriteDeadline(conn.LongAgo)
	default:
		w.setTimer()
	}
}

// until is when to give up; zero is never. mu is held.
func (w *writeClock) until() time.Time {
	return w.limits.sendUntil(w.since, w.conn.traffic.lastAnswered())
}

func (w *writeClock) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	until := w.until()
	return !until.IsZero() && !time.Now().Before(until)
}

func (w *writeClock) errStalled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limits.errStalled(w.since)
}

// leastPace is what each snapshot may send in a second at least: twice what a
// receiver asks for, because links are not even.
const leastPace = 2 * MinSnapshotBytesPerSecond

// pacer spreads what is sent evenly over time, in the order of its calls.
type pacer struct {
	rate int64 // bytes per second; 0 means no limit

	mu        sync.Mutex // protects following
	snapshots int64      // under way
	free      time.Time  // when all that was reserved has had its time
}

func (p *pacer) enter() { p.count(1) }
func (p *pacer) leave() { p.count(-1) }

func (p *pacer) count(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshots += n
}

// reserve takes the time for some of n bytes: for a tenth of a second of the
// snapshot's share, so that the receiver sees progress. It returns how many, and how
// long it is until then. Time that nobody took is lost, so there are no bursts.
func (p *pacer) reserve(n int64) (now int64, wait time.Duration) {
	if p.rate <= 0 {
		return n, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	share := max(p.rate/p.snapshots, leastPace)
	now = min(n, share/10)
	if began := time.Now(); p.free.Before(began) {
		p.free = began
	} else {
		wait = p.free.Sub(began)
	}
	p.free = p.free.Add(time.Duration(float64(now) / float64(share*p.snapshots) * float64(time.Second)))
	return now, wait
}

// progressPause is the shortest time between two calls of SnapshotProgress,
// but for the last.
const progressPause = time.Second

// progress counts the bytes of a snapshot's body, and tells the hook of them.
type progress struct {
	tell  func(SnapshotEvent) // hook, or nil
	event SnapshotEvent
	told  time.Duration // when tell was called last, since epoch
}

func newProgress(c *netConn, id ServerID, total int64) progress {
	return progress{
		tell:  c.hooks.SnapshotProgress,
		event: SnapshotEvent{ID: id, Peer: c.peer, Inbound: c.inbound, Total: total},
	}
}

// add counts n bytes, unless the transfer is over.
func (p *progress) add(n int64) {
	if n == 0 || p.event.Over {
		return
	}
	first := p.event.Done == 0
	if p.event.Done += n; p.tell == nil {
		return
	}
	if now := sinceEpoch(); first || now-p.told >= progressPause {
		p.told = now
		p.tell(p.event)
	}
}

func (p *progress) end() {
	if p.event.Over {
		return
	}
	p.event.Over = true
	if p.tell != nil {
		p.tell(p.event)
	}
}
