package raftwire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A snapshot travels as a request, Size raw bytes, and an answer. It is bounded
// by progress: each chunk that is written or read has the transport's timeout,
// and the wait for the follower's restore, after the last byte, a limit of its
// own.

const (
	// snapshotChunk is how much is read and written at once.
	snapshotChunk = 64 << 10

	maxTLSRecord = 16 << 10 // RFC 8446 §5.1

	// emptyReads is how many reads of a snapshot may in a row yield neither bytes
	// nor an error.
	emptyReads = 100

	// maxRestoreTimeout caps the default of RestoreTimeout.
	maxRestoreTimeout = time.Hour
)

// InstallSnapshot implements [Transport]. It uses a new connection, so that
// nothing has to be tried twice, and closes it afterwards. If the peer answers
// before it has got everything, sending stops and that answer is returned.
func (n *NetworkTransport) InstallSnapshot(id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return n.request(id, target, rpcInstallSnapshot, args, resp, func(addr ServerAddress, start time.Time) (sizes, error) {
		data, err := orEmpty(data, args.Size)
		if err != nil {
			return sizes{}, err
		}
		return n.sendSnapshot(addr, start, args, resp, data)
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

func (n *NetworkTransport) sendSnapshot(addr ServerAddress, start time.Time, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) (sizes, error) {
	if n.IsShutdown() {
		return sizes{}, n.down()
	}
	deadline := n.deadline(start)
	c, err := n.dial(addr, deadline)
	if err != nil {
		return sizes{}, err
	}
	defer n.discard(c, errors.New("snapshot sent"))
	s := snapshotSender{conn: c, answered: make(chan struct{}), pacer: &n.snapshotPace, progress: newProgress(c, args.Size)}
	if err := c.send(deadline, rpcInstallSnapshot, n.newTime, args); err != nil {
		return c.last, c.close(err)
	}
	_ = c.raw.SetDeadline(time.Time{}) // progress counts from here on
	if !n.tasks.start(s.awaitAnswer) {
		return c.last, n.down()
	}
	s.sendBody(data, args.Size)
	err = s.finish(n.restoreLimit(args.Size), resp)
	if err == nil {
		c.traffic.answered(start)
	}
	return s.sizes(), err
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
	conn  *conn
	pacer *pacer

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
	if s.err = s.conn.await(); s.err != nil {
		s.err = s.conn.hangUp(s.err)
	} else {
		s.err = s.conn.receive(rpcInstallSnapshot, &s.resp)
	}
	close(s.answered)
	_ = s.conn.raw.SetWriteDeadline(longAgo)
}

// errSendingOver ends copyBody when the peer has answered.
var errSendingOver = errors.New("answered")

func (s *snapshotSender) sendBody(data io.Reader, size int64) {
	sent, err := s.sendFile(data, size)
	if err == nil {
		err = copyBody(data, sent, size, s.write)
	}
	if err != nil && err != errSendingOver {
		s.failure = s.conn.close(err)
	}
	s.progress.end()
}

// copyBody gives what is left of exactly size bytes of data to write, in
// chunks. The last one is held back until the reader has ended with it: a
// follower must not install a snapshot whose reader has more or less than was
// announced.
func copyBody(data io.Reader, sent, size int64, write func(chunk []byte) error) error {
	data = &restlessReader{Reader: data}
	buf := make([]byte, min(size-sent, snapshotChunk)+1)
	for left := size - sent; ; {
		want := min(left, snapshotChunk)
		if want == left {
			want++ // one more than is left shows a reader that is too long
		}
		got, err := io.ReadFull(data, buf[:want])
		if err = checkBody(err, size-left+int64(got), size); err != nil {
			return err
		}
		if left -= int64(got); got > 0 {
			err = write(buf[:got])
		}
		if err != nil || left == 0 {
			return err
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

// checkBody judges a read that has brought the total to got bytes.
func checkBody(err error, got, size int64) error {
	switch ended := err == io.EOF || err == io.ErrUnexpectedEOF; {
	case got > size:
		return fmt.Errorf("the snapshot's reader yields more than Size, which is %d bytes", size)
	case ended && got < size:
		return fmt.Errorf("the snapshot's reader ended after %d of %d bytes: %w", got, size, io.ErrUnexpectedEOF)
	case err != nil && !ended:
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	return nil
}

// write writes a chunk, unless the peer has answered. A write that is slow but
// not stalled goes on where its deadline interrupted it.
func (s *snapshotSender) write(chunk []byte) error {
	for len(chunk) > 0 {
		piece := s.pacer.piece(min(int64(len(chunk)), s.atOnce()))
		if !s.mayWrite(piece) {
			return errSendingOver
		}
		n, err := s.conn.raw.Write(chunk[:piece])
		s.sent(int64(n))
		switch chunk = chunk[n:]; {
		case err == nil:
		case !isTimeout(err):
			return s.leaveToAnswer()
		case s.isStalled(int64(n), err):
			return errStalled(err)
		}
	}
	return nil
}

// atOnce is how much is written under one deadline. TLS does not go on where a
// deadline has interrupted it, so there it is no more than a record.
func (s *snapshotSender) atOnce() int64 {
	if _, secured := s.conn.raw.(tlsConn); secured {
		return maxTLSRecord
	}
	return snapshotChunk
}

func (s *snapshotSender) sent(n int64) {
	s.conn.traffic.wrote(n)
	s.progress.add(n)
}

// mayWrite waits for the turn of the next n bytes, and sets the deadline for
// writing them; false means that the peer has answered. The deadline comes
// before the look at that: awaitAnswer overrides it, once answered is closed.
func (s *snapshotSender) mayWrite(n int64) bool {
	s.awaitTurn(n)
	if s.conn.timeout > 0 {
		_ = s.conn.raw.SetWriteDeadline(time.Now().Add(s.conn.timeout))
	}
	return !s.isAnswered()
}

// awaitTurn waits no longer than the connection lasts.
func (s *snapshotSender) awaitTurn(n int64) {
	if wait := s.pacer.reserve(n); wait > 0 {
		pauseFor(wait, s.answered)
	}
}

// isStalled judges a write of n bytes that ended with err.
func (s *snapshotSender) isStalled(n int64, err error) bool {
	return n == 0 && isTimeout(err) && !s.isAnswered()
}

func errStalled(err error) error {
	return fmt.Errorf("sending the snapshot: no progress: %w", err)
}

// leaveToAnswer ends sending because the peer is gone. It may have answered
// before: that counts, if it can still be read.
func (s *snapshotSender) leaveToAnswer() error {
	s.peerGone = true
	return errSendingOver
}

func (s *snapshotSender) isAnswered() bool { return isClosed(s.answered) }

// finish waits for the answer: for at most limit, if it is positive, while the
// peer restores, and no longer than for anything else if the peer is gone.
func (s *snapshotSender) finish(limit time.Duration, resp *InstallSnapshotResponse) error {
	if s.peerGone {
		limit = s.conn.timeout
	}
	if limit > 0 {
		_ = s.conn.raw.SetReadDeadline(time.Now().Add(limit))
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
	return sizes{request: s.conn.last.request + s.progress.event.Done, response: s.conn.in.Consumed()}
}

// pacer spreads what is sent evenly over time, in the order of its calls.
type pacer struct {
	rate int64 // bytes per second; 0 means no limit

	mu   sync.Mutex // protects following
	free time.Time  // when all that was reserved has had its time
}

// piece returns how much of n bytes may be sent at once: not more than a tenth
// of a second has time for, so that the receiver sees progress.
func (p *pacer) piece(n int64) int64 {
	if p.rate <= 0 {
		return n
	}
	return min(n, max(p.rate/10, 1))
}

// reserve takes the time for n bytes, and returns how long it is until then.
// Time that nobody took is lost, so there are no bursts.
func (p *pacer) reserve(n int64) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return wait
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

func newProgress(c *conn, total int64) progress {
	return progress{
		tell:  c.hooks.SnapshotProgress,
		event: SnapshotEvent{Peer: c.peer, Inbound: c.inbound, Total: total},
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

// snapshotBody is the Reader of an inbound InstallSnapshot: size bytes straight
// from the connection. It belongs to the consumer until the consumer answers.
// It has a WriteTo for io.Copy.
type snapshotBody struct {
	conn       *conn
	beforeRead func() error // as conn.in has it, for reads past it
	claim      func()       // takes conn.in from whoever watches the sender

	answered atomic.Bool // a Read under way is to end

	mu       sync.Mutex // protects following, and conn.in while the body is open
	left     int64
	err      error
	lost     bool // left is not known any more
	closed   bool
	progress progress // hook is called with mu held: what is over stays so
}

var errBodyClosed = errors.New("raftwire: snapshot read after it was answered")

// Read returns io.EOF after the announced size, an error that is
// io.ErrUnexpectedEOF if the sender went before, and a timeout if it stalls.
func (b *snapshotBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	b.claim()
	n, err := b.read(p)
	b.progress.add(int64(n))
	return n, err
}

func (b *snapshotBody) read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	got, err := b.conn.in.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(got)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if got > 0 && b.left == 0 {
		err = nil
	}
	return got, b.fail(err)
}

// fail makes err that of every further Read, unless interrupt has brought it
// about, and says what it means to the snapshot.
func (b *snapshotBody) fail(err error) error {
	if err == nil || b.isInterrupt(err) {
		return err
	}
	b.err = b.explain(err)
	return b.err
}

func (b *snapshotBody) explain(err error) error {
	total := b.progress.event.Total
	at := fmt.Sprintf("after %d of %d bytes", total-b.left, total)
	switch {
	case b.lost:
		return err
	case judge(err) == stalled:
		return timeoutError(fmt.Sprintf("the snapshot stalled %s: nothing came for Timeout (%v)", at, b.conn.timeout))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the sender ended the snapshot %s: %w", at, err)
	}
	return fmt.Errorf("the snapshot broke off %s: %w", at, err)
}

// isInterrupt reports whether err is what interrupt has done to a Read.
func (b *snapshotBody) isInterrupt(err error) bool {
	return isTimeout(err) && b.answered.Load() && !b.closed
}

// close takes the body back from the consumer, also from a Read under way, and
// returns how much is unread.
func (b *snapshotBody) close() (unread int64) {
	b.answered.Store(true)
	b.interrupt()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.progress.end()
	return b.left
}

// interrupt ends a Read under way if the body was answered. Read calls it, too,
// when it has set a deadline.
func (b *snapshotBody) interrupt() {
	if b.answered.Load() {
		_ = b.conn.raw.SetReadDeadline(longAgo)
	}
}

// over ends the progress of the body, and returns how much of it the consumer
// has read.
func (b *snapshotBody) over() (read int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress.end()
	return b.progress.event.Done
}

// failure returns why a Read failed, if the connection is of no more use then.
// It is called after close.
func (b *snapshotBody) failure() error {
	if b.lost {
		return nil // that was the file
	}
	return b.err
}

// drain reads what the consumer left: a sender that looks for the answer only
// after its last byte would otherwise never see it.
func (b *snapshotBody) drain() error {
	if b.lost {
		b.err = nil // of the file; the connection is sound
	}
	buf := make([]byte, snapshotChunk)
	for b.left > 0 {
		if _, err := b.read(buf); err != nil {
			return err
		}
	}
	return nil
}
