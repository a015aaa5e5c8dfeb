package raftwire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

const (
	maxTLSRecord = 16 << 10 // RFC 8446 §5.1

	// maxQueued is how many bytes of requests may wait for a write that is under
	// way before the next one waits as well. It bounds the memory of a
	// connection whose peer reads slowly, and keeps deep windows of large
	// batches from queueing what they cannot send. Of answers it is flushAfter.
	maxQueued = 256 << 10

	// gatherUpTo is the size up to which requests are small: gathering several for
	// one write pays, and the next one comes when those before are answered. A
	// larger one keeps the other end busy meanwhile. It was measured.
	gatherUpTo = 4 << 10

	// keptBuffer is the largest output buffer that is kept for reuse whatever
	// it is used for, and keptWhileUsed the largest one that is kept while it
	// is used. The latter is what gathers in a busy pipeline.
	keptBuffer    = 32 << 10
	keptWhileUsed = 2 * maxQueued

	// keptWhileIdle is the largest output buffer that an inbound connection keeps
	// when it is idle.
	keptWhileIdle = 1 << 10
)

// cacheLine stands between what different goroutines write, or one writes and
// others read, for each message: if they shared a line of the processor's cache it
// would go to and fro between two cores, 50 to 150 ns each time.
type cacheLine [64]byte

// longAgo is a deadline that wakes whoever is blocked in a read or write.
var longAgo = time.Unix(1, 0)

// conn is a connection to a peer, either end of it. One goroutine at a time
// reads; any goroutine may post and flush.
//
// Output gathers: post appends a message to what is queued, and whoever
// flushes first writes all of it with one call. While that write is under way
// others only post; what they left is written next.
type conn struct {
	raw     net.Conn
	peer    ServerAddress
	id      ServerID      // of the peer, for hooks; "" if inbound
	timeout time.Duration // for each write; 0 means no limit
	tasks   *tasks.Group  // runs flushes in the background
	flusher func()        // the task that writes what is queued
	hooks   *Hooks
	traffic *traffic
	inbound bool
	opened  time.Duration // when, since epoch; only for ConnClosed

	maxQueued int // bytes that may wait for a write under way before the next message does

	_ cacheLine
	// Owned by the reading goroutine.
	in msgpack.Reader
	_  cacheLine

	// Owned by the goroutine in writeQueued.
	pieces [][]byte
	vector net.Buffers  // consumes itself, hence beside pieces
	sent   atomic.Int64 // bytes that were written

	// Owned by the call that has the connection, and by the pool while it is idle.
	// Of an inbound one watch is protected by callerWatch.mu.
	watch  chan struct{} // closed when watchPeer has ended; nil if nobody watches
	peek   func() bool   // of peekSilent, or nil
	usedAt time.Time     // when the last call on it began; zero if there was none
	spent  time.Duration // of the time of the call that it was dialled for, before it stood
	last   sizes         // of the last call on it

	home    *peerConns // what it belongs to in the pool; nil if it is inbound
	retired bool       // protected by pool.connPoolLock: not to be kept any more

	done  chan struct{} // closed by close
	large atomic.Bool   // more than largeRequest bytes were sent as one request, see hangUp

	_          cacheLine
	mu         sync.Mutex // protects following
	err        error      // why the connection ended
	out        batch      // queued
	spare      batch      // the memory of the one that was written last
	flushing   bool       // a goroutine is in writeQueued
	hardlyUsed int        // batches in a row that used less than an eighth of a large buffer
	written    sync.Cond  // broadcast after each write
}

// batch is output: bytes, with the large payloads that were cut out of them.
type batch struct {
	bytes []byte
	cuts  []cut // nil if the connection cannot gather: then nothing is cut
	size  int   // of bytes and cuts

	last struct{ bytes, cuts int } // where the last message begins
}

// sizes are those of a request and its answer on the wire.
type sizes struct{ request, response int64 }

func newConn(raw net.Conn, peer ServerAddress, timeout time.Duration, tasks *tasks.Group) *conn {
	c := &conn{raw: raw, peer: peer, timeout: timeout, tasks: tasks, maxQueued: maxQueued, done: make(chan struct{})}
	c.flusher = tasks.Task(c.flushQueued)
	c.in.Reset(c)
	c.written.L = &c.mu
	sock.LimitWrites(raw, timeout)
	if canGather(raw) {
		c.out.cuts, c.spare.cuts = []cut{}, []cut{}
	}
	return c
}

// introduce makes c report to hooks and be counted in traffic, and reports its
// opening.
func (c *conn) introduce(hooks *Hooks, t *traffic, inbound bool) {
	c.belongTo(hooks, t, inbound)
	c.reportOpening()
}

func (c *conn) belongTo(hooks *Hooks, t *traffic, inbound bool) {
	c.hooks, c.traffic, c.inbound = hooks, t, inbound
}

func (c *conn) reportOpening() {
	if c.hooks.ConnClosed != nil {
		c.opened = sinceEpoch()
	}
	if c.hooks.ConnOpened != nil {
		c.hooks.ConnOpened(c.event())
	}
}

func (c *conn) event() ConnEvent {
	e := ConnEvent{ID: c.id, Peer: c.peer, Inbound: c.inbound}
	if c.inbound {
		e.Host = hostOf(c.peer)
	}
	return e
}

// canGather reports whether net.Buffers writes to raw with one system call.
// Anything else would get a call for each piece; a TLS connection, a record.
func canGather(raw net.Conn) bool {
	switch raw.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// Read reads for c.in.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.raw.Read(p)
	c.traffic.read(int64(n))
	return n, err
}

// post queues what encode appends. It blocks only while more than c.maxQueued
// bytes wait for a write under way, hence no longer than that write. Large
// payloads are not copied: they must not change until they are written.
func (c *conn) post(encode func(*batch)) error {
	_, err := c.enqueue(encode, false)
	return err
}

// postSoon is post for a caller who goes on with the next message: another
// goroutine writes what is queued, and takes along what comes meanwhile. It
// ends when nothing is left: an idle connection has none.
func (c *conn) postSoon(encode func(*batch)) error {
	flush, err := c.enqueue(encode, true)
	if flush {
		c.startFlusher()
	}
	return err
}

// enqueue queues what encode appends. With soon, flush says that nobody is
// writing, and that the caller has to see to it.
func (c *conn) enqueue(encode func(*batch), soon bool) (flush bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && c.flushing && c.out.size > c.maxQueued {
		c.written.Wait()
	}
	if c.err != nil {
		return false, c.err
	}
	before := c.out.size
	if c.out.add(encode); c.out.size-before > largeRequest {
		c.large.Store(true)
	}
	flush = soon && !c.flushing
	c.flushing = c.flushing || flush
	return flush, nil
}

func (b *batch) add(encode func(*batch)) {
	b.last.bytes, b.last.cuts = len(b.bytes), len(b.cuts)
	encode(b)
	b.size += b.added()
}

// added returns how many bytes encode has added so far.
func (b *batch) added() int {
	size := len(b.bytes) - b.last.bytes
	for _, cut := range b.cuts[b.last.cuts:] {
		size += len(cut.data)
	}
	return size
}

// flush writes what is queued, unless another goroutine is writing, which then
// takes it along. deadline limits the write, and was set by the caller; zero means
// the connection's own timeout for each write. Large batches have the limits of
// newLargeClock.
func (c *conn) flush(deadline time.Time) error {
	if c.beginFlush() && c.writeQueued(deadline) {
		c.startFlusher() // others post: it is not for the caller to write for them
	}
	return c.failure()
}

// flushSoon is flush for a caller who goes on: another goroutine writes.
func (c *conn) flushSoon() {
	if c.beginFlush() {
		c.startFlusher()
	}
}

func (c *conn) startFlusher() {
	if !c.tasks.StartTask(c.flusher) {
		c.flushQueued()
	}
}

func (c *conn) flushQueued() {
	for c.writeQueued(time.Time{}) {
	}
}

func (c *conn) beginFlush() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing || c.err != nil || c.out.size == 0 {
		return false
	}
	c.flushing = true
	return true
}

// writeQueued writes what is queued, and reports whether more is there: then the
// caller still has to see to it. An error closes the connection.
func (c *conn) writeQueued(deadline time.Time) (more bool) {
	b := c.takeQueued()
	if err := c.write(b, deadline); err != nil {
		_ = c.close(err)
	}
	if c.timeout > 0 && (deadline.IsZero() || b.size > largeRequest) { // which write has set
		c.endWriteDeadline()
	}
	return c.giveBack(b)
}

// endWriteDeadline ends the write deadline of a message that was written. A read
// must not find it over: over TLS, reads write; see sock.TimedConn.
func (c *conn) endWriteDeadline() {
	if !canGather(c.raw) { // and is no bare socket
		_ = c.raw.SetWriteDeadline(time.Time{})
	}
}

func (c *conn) takeQueued() (b batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, c.out, c.spare = c.out, c.spare, batch{}
	c.written.Broadcast() // there is room
	return b
}

func (c *conn) write(b batch, deadline time.Time) error {
	if b.size > largeRequest && c.timeout > 0 {
		clock := newLargeClock(c.timeout, deadline)
		return c.writeSteadily(b, &clock)
	}
	if deadline.IsZero() && c.timeout > 0 {
		_ = c.raw.SetWriteDeadline(time.Now().Add(c.timeout))
	}
	if len(b.cuts) == 0 {
		return c.writeBytes(b.bytes)
	}
	c.arrange(b)
	defer clear(c.pieces)
	return c.writeVector()
}

func (c *conn) writeBytes(p []byte) error {
	n, err := c.raw.Write(p)
	c.wrote(int64(n))
	if n < len(p) && err == nil {
		err = io.ErrShortWrite // as io.Writer demands of raw
	}
	return err
}

// arrange makes c.vector what b consists of.
func (c *conn) arrange(b batch) {
	pieces, at := c.pieces[:0], 0
	for _, cut := range b.cuts {
		pieces = append(pieces, b.bytes[at:cut.at], cut.data)
		at = cut.at
	}
	c.pieces = append(pieces, b.bytes[at:])
	c.vector = c.pieces
}

// writeVector writes with one system call if c can gather. What is not written is
// left in c.vector.
func (c *conn) writeVector() error {
	n, err := c.vector.WriteTo(c.raw)
	c.wrote(n)
	return err
}

func (c *conn) wrote(n int64) {
	c.sent.Add(n)
	c.traffic.wrote(n)
}

// writeSteadily writes a batch for as long as clock allows.
func (c *conn) writeSteadily(b batch, clock *progress.Clock) error {
	if !canGather(c.raw) {
		return c.writeRecords(b.bytes, clock)
	}
	c.arrange(b)
	defer clear(c.pieces)
	clock.Grew(c.sent.Load())
	for {
		_ = c.raw.SetWriteDeadline(clock.NextLook())
		err := c.writeVector()
		if !isTimeout(err) {
			return err
		}
		if late := clock.Check(clock.Grew(c.sent.Load())); late != nil {
			return late
		}
	}
}

// writeRecords gives each record the time of a step. TLS cannot go on where a
// deadline has interrupted a write, and another layer may be TLS.
func (c *conn) writeRecords(p []byte, clock *progress.Clock) error {
	for len(p) > 0 {
		record := p[:min(len(p), maxTLSRecord)]
		p = p[len(record):]
		_ = c.raw.SetWriteDeadline(clock.Deadline())
		err := c.writeBytes(record)
		if late := clock.Check(err == nil); late != nil && (err == nil || isTimeout(err)) {
			return late
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkAcked is clock.Check where a large request was written: the peer's
// acknowledgements are its progress.
func (c *conn) checkAcked(clock *progress.Clock) error {
	unacked, known := sock.UnackedBytes(c.raw)
	return clock.Check(clock.Grew(c.sent.Load()-unacked) || !known)
}

// giveBack ends the flush unless more is queued.
func (c *conn) giveBack(b batch) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(b.cuts)
	c.spare = batch{cuts: b.cuts[:0]}
	if c.worthKeeping(b.bytes) {
		c.spare.bytes = b.bytes[:0]
	}
	if c.flushing = c.out.size > 0 && c.err == nil; !c.flushing {
		c.written.Broadcast()
	}
	return c.flushing
}

// worthKeeping reports whether an output buffer is kept for reuse. A large one
// is, until it was hardly used for a while: the batches of a busy pipeline
// differ in size.
func (c *conn) worthKeeping(b []byte) bool {
	if cap(b) <= keptBuffer {
		return true
	}
	if len(b) > cap(b)/8 {
		c.hardlyUsed = 0
	} else {
		c.hardlyUsed++
	}
	return cap(b) <= keptWhileUsed && c.hardlyUsed < 100
}

// grown reports whether there is memory for shrink to let go.
func (c *conn) grown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.Grown() || cap(c.spare.bytes) > keptWhileIdle || cap(c.out.bytes) > keptWhileIdle
}

// shrink lets grown buffers go that are not used.
func (c *conn) shrink() {
	c.in.Shrink()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare.bytes = nil
	if c.out.size == 0 {
		c.out.bytes = nil
	}
}

// awaitWriter blocks until no write is under way. On a closed connection that
// is soon, and then nothing that was posted is read any more.
func (c *conn) awaitWriter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flushing {
		c.written.Wait()
	}
}

// call sends a request and reads its answer into resp. answered reports whether
// any byte of an answer arrived: if not, and the connection had been idle in a
// pool, the request may be tried again elsewhere. A *RemoteError leaves the
// connection sound, any other error closes it, unless mayBeLate says so.
func (c *conn) call(deadline time.Time, kind rpcKind, newTime bool, args, resp any) (answered bool, err error) {
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
	c.last.response = c.in.Consumed()
	return true, err
}

// mayBeLate reports whether err, with which the wait for an answer has ended, says
// no more than that making the connection took the time of the call. The connection
// is open then, and its next message is that answer.
func (c *conn) mayBeLate(err error) bool { return c.spent > 0 && isTimeout(err) }

// isUnused reports whether no request was ever sent on a connection that was dialled.
func (c *conn) isUnused() bool { return c.usedAt.IsZero() }

// send sends a request, and sets the deadline for it and for what follows.
func (c *conn) send(deadline time.Time, kind rpcKind, newTime bool, args any) error {
	_ = c.raw.SetDeadline(deadline)
	c.last = sizes{}
	err := c.post(func(b *batch) {
		b.appendRequest(kind, args, newTime)
		c.last.request = int64(b.added())
	})
	if err != nil {
		return err
	}
	return c.flush(deadline)
}

// awaitAnswer blocks until a byte of the answer to what send has sent is there.
func (c *conn) awaitAnswer(deadline time.Time) error {
	if c.last.request <= largeRequest || deadline.IsZero() {
		return c.await()
	}
	clock := newLargeClock(c.timeout, deadline)
	return c.awaitSteadily(&clock, func() error { return c.checkAcked(&clock) })
}

// awaitSteadily waits for the first byte of an answer until check, which looks at
// clock, returns an error.
func (c *conn) awaitSteadily(clock *progress.Clock, check func() error) error {
	for {
		_ = c.raw.SetReadDeadline(clock.NextLook())
		err := c.await()
		if err == nil {
			_ = c.raw.SetReadDeadline(clock.Deadline()) // for the rest of it
		}
		if !isTimeout(err) {
			return err
		}
		if late := check(); late != nil {
			return late
		}
	}
}

// await blocks until a byte of the next message is there.
func (c *conn) await() error {
	if c.in.Buffered() > 0 {
		return nil
	}
	return c.in.Fill()
}

// hangUp closes a connection that was dialled because of err, which came in
// place of an answer, and returns what that means. A peer that goes although it
// has never answered had a reason: until then nothing was consumed. In the middle of
// a large request that is a stall rather than another protocol.
func (c *conn) hangUp(err error) error {
	err = c.close(err)
	if errors.Is(err, errno.TimedOut) {
		return explainUnacknowledged(err)
	}
	if c.in.Consumed() > 0 || err != io.EOF && !errno.IsCut(err) {
		return err
	}
	hint := " (does it want TLS, or a Mux key?)"
	if c.large.Load() {
		hint = ""
	}
	return fmt.Errorf("the peer closed the connection without an answer: its log says why%s: %w", hint, err)
}

// explainUnacknowledged says what it means that the system has ended a connection.
func explainUnacknowledged(err error) error {
	return fmt.Errorf("the peer's machine did not acknowledge what was sent to it, or did not take it, for as long as the system allows (TCP_USER_TIMEOUT or keep-alive, see TCPConfig): %w", err)
}

// receive reads an answer into resp, which is zero afterwards unless an answer
// was read to its end.
func (c *conn) receive(kind rpcKind, resp any) error {
	text, err := readResponse(&c.in, resp)
	if err != nil {
		return c.close(err)
	}
	if text != "" {
		return &RemoteError{Op: kind.String(), Peer: c.peer, Text: text}
	}
	return nil
}

// failure returns why the connection ended, or nil.
func (c *conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// close ends the connection and returns why it ended: err, or what an earlier
// call gave. Reads and writes under way fail at once. The end of an outgoing
// connection is reported here, that of an inbound one by its own goroutine.
func (c *conn) close(err error) error {
	if !c.fail(err) {
		return c.failure()
	}
	close(c.done)
	c.end(err, func() {})
	return err
}

// closeAside is close for a caller who must not wait: neither for the Close of a
// connection that is somebody else's nor for a hook. closed is called when the
// connection has been closed.
func (c *conn) closeAside(err error, closed func()) {
	if !c.fail(err) {
		closed()
		return
	}
	close(c.done)
	if !c.tasks.Start(func() { c.end(err, closed) }) {
		c.end(err, closed)
	}
}

func (c *conn) end(err error, closed func()) {
	sock.Close(c.raw)
	closed()
	if !c.inbound {
		c.reportEnd(err)
	}
}

func (c *conn) reportEnd(err error) {
	if closed := c.hooks.ConnClosed; closed != nil {
		e := c.event()
		e.Err, e.Age = err, sinceEpoch()-c.opened
		closed(e)
	}
}

func (c *conn) fail(err error) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	c.written.Broadcast()
	return true
}
