package conn

import (
	"io"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

const (
	// MaxQueued is how many bytes of requests may wait for a write that is under
	// way before the next one waits as well. It bounds the memory of a
	// connection whose peer reads slowly, and keeps deep windows of large
	// batches from queueing what they cannot send.
	MaxQueued = 256 << 10

	// keptBuffer is the largest output buffer that is kept for reuse whatever
	// it is used for, and keptWhileUsed the largest one that is kept while it
	// is used. The latter is what gathers in a busy pipeline.
	keptBuffer    = 32 << 10
	keptWhileUsed = 2 * MaxQueued

	// keptWhileIdle is the largest output buffer that an inbound connection keeps
	// when it is idle.
	keptWhileIdle = 1 << 10
)

// Batch is output: bytes, with the large payloads that were cut out of them.
type Batch struct {
	Bytes []byte
	Cuts  []Cut // nil if the connection cannot gather: then nothing is cut
	size  int   // of bytes and cuts

	last struct{ bytes, cuts int } // where the last message begins
}

// Cut is a payload that was left out of a Batch's bytes: Data belongs before the
// byte at At.
type Cut struct {
	At   int
	Data []byte
}

func (b *Batch) add(encode func(*Batch)) {
	b.last.bytes, b.last.cuts = len(b.Bytes), len(b.Cuts)
	encode(b)
	b.size += b.Added()
}

// Added returns how many bytes encode has added so far.
func (b *Batch) Added() int {
	size := len(b.Bytes) - b.last.bytes
	for _, cut := range b.Cuts[b.last.cuts:] {
		size += len(cut.Data)
	}
	return size
}

// Output gathers: Post appends a message to what is queued, and whoever
// flushes first writes all of it with one call. While that write is under way
// others only post; what they left is written next.

// Post queues what encode appends. It blocks only while more than c.MaxQueued
// bytes wait for a write under way, so no longer than that write. Large
// payloads are not copied: they must not change until they are written.
func (c *Conn) Post(encode func(*Batch)) error {
	_, err := c.enqueue(encode, false)
	return err
}

// PostSoon is Post for a caller who goes on with the next message: another
// goroutine writes what is queued, and takes along what comes meanwhile. It
// ends when nothing is left: an idle connection has none.
func (c *Conn) PostSoon(encode func(*Batch)) error {
	flush, err := c.enqueue(encode, true)
	if flush {
		c.startFlusher()
	}
	return err
}

// enqueue queues what encode appends. With soon, flush says that nobody is
// writing, and that the caller has to see to it.
func (c *Conn) enqueue(encode func(*Batch), soon bool) (flush bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && c.flushing && c.out.size > c.MaxQueued {
		c.written.Wait()
	}
	if c.err != nil {
		return false, c.err
	}
	before := c.out.size
	if c.out.add(encode); c.out.size-before > LargeMessage {
		c.large.Store(true)
	}
	flush = soon && !c.flushing
	c.flushing = c.flushing || flush
	return flush, nil
}

// Flush writes what is queued, unless another goroutine is writing, which then
// takes it along. deadline limits the write, and was set by the caller; zero means
// the connection's own timeout for each write. Large batches have the limits of
// LargeClock.
func (c *Conn) Flush(deadline time.Time) error {
	if b, begun := c.beginFlush(true); begun && c.writeBatch(b, deadline) {
		c.startFlusher() // others post: it is not for the caller to write for them
	}
	return c.Failure()
}

// FlushSoon is Flush for a caller who goes on: another goroutine writes.
func (c *Conn) FlushSoon() {
	if _, begun := c.beginFlush(false); begun {
		c.startFlusher()
	}
}

func (c *Conn) startFlusher() {
	if !c.Tasks.StartTask(c.flusher) {
		c.flushQueued()
	}
}

func (c *Conn) flushQueued() {
	for c.writeBatch(c.takeQueued(), time.Time{}) {
	}
}

// beginFlush reports whether there is something to write that nobody else writes. With
// take it returns that.
func (c *Conn) beginFlush(take bool) (b Batch, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flushing || c.err != nil || c.out.size == 0 {
		return b, false
	}
	c.flushing = true
	if take {
		b = c.take()
	}
	return b, true
}

func (c *Conn) takeQueued() Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.take()
}

// take is called with mu held.
func (c *Conn) take() (b Batch) {
	b, c.out, c.spare = c.out, c.spare, Batch{}
	c.written.Broadcast() // there is room
	return b
}

// writeBatch writes what was taken, and reports whether more is queued: then the caller
// still has to see to it. An error closes the connection.
func (c *Conn) writeBatch(b Batch, deadline time.Time) (more bool) {
	if err := c.write(b, deadline); err != nil {
		_ = c.Close(err)
	}
	return c.giveBack(b)
}

// Send writes one message for a caller who owns the connection: nobody else
// posts or flushes until Send has returned. deadline is that of Flush.
func (c *Conn) Send(encode func(*Batch), deadline time.Time) error {
	if err := c.Failure(); err != nil {
		return err
	}
	b := &c.out
	b.add(encode)
	if b.size > LargeMessage {
		c.large.Store(true)
	}
	err := c.write(*b, deadline)
	clear(b.Cuts)
	kept := b.Bytes[:0]
	if !c.worthKeeping(b.Bytes) {
		kept = nil
	}
	*b = Batch{Bytes: kept, Cuts: b.Cuts[:0]}
	return err
}

// write also ends the write deadline that it has set.
func (c *Conn) write(b Batch, deadline time.Time) error {
	large := b.size > LargeMessage
	if c.Timeout > 0 && (deadline.IsZero() || large) {
		defer c.EndWriteDeadline()
	}
	if large && c.Timeout > 0 {
		clock := LargeClock(c.Timeout, deadline)
		return c.writeSteadily(b, &clock)
	}
	if deadline.IsZero() && c.Timeout > 0 {
		_ = c.Raw.SetWriteDeadline(time.Now().Add(c.Timeout))
	}
	if len(b.Cuts) == 0 {
		return c.writeBytes(b.Bytes)
	}
	c.arrange(b)
	defer clear(c.pieces)
	return c.writeVector()
}

// EndWriteDeadline ends the write deadline of a message that was written. A read
// must not find it over: over TLS, reads write; see sock.TimedConn.
func (c *Conn) EndWriteDeadline() {
	if !sock.IsSocket(c.Raw) {
		_ = c.Raw.SetWriteDeadline(time.Time{})
	}
}

func (c *Conn) writeBytes(p []byte) error {
	n, err := c.Raw.Write(p)
	c.wrote(int64(n))
	if n < len(p) && err == nil {
		err = io.ErrShortWrite // as io.Writer demands of Raw
	}
	return err
}

// arrange makes c.vector what b consists of.
func (c *Conn) arrange(b Batch) {
	pieces, at := c.pieces[:0], 0
	for _, cut := range b.Cuts {
		pieces = append(pieces, b.Bytes[at:cut.At], cut.Data)
		at = cut.At
	}
	c.pieces = append(pieces, b.Bytes[at:])
	c.vector = c.pieces
}

// writeVector writes with one system call if c can gather. What is not written is
// left in c.vector.
func (c *Conn) writeVector() error {
	n, err := c.vector.WriteTo(c.Raw)
	c.wrote(n)
	return err
}

func (c *Conn) wrote(n int64) {
	c.sent.Add(n)
	c.Counter.Out.Add(uint64(n))
}

// giveBack ends the flush unless more is queued.
func (c *Conn) giveBack(b Batch) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(b.Cuts)
	c.spare = Batch{Cuts: b.Cuts[:0]}
	if c.worthKeeping(b.Bytes) {
		c.spare.Bytes = b.Bytes[:0]
	}
	if c.flushing = c.out.size > 0 && c.err == nil; !c.flushing {
		c.written.Broadcast()
	}
	return c.flushing
}

// worthKeeping reports whether an output buffer is kept for reuse. A large one
// is, until it was hardly used for a while: the batches of a busy pipeline
// differ in size.
func (c *Conn) worthKeeping(b []byte) bool {
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

// Grown reports whether there is memory for Shrink to let go.
func (c *Conn) Grown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.In.Grown() || cap(c.spare.Bytes) > keptWhileIdle || cap(c.out.Bytes) > keptWhileIdle
}

// Shrink lets grown buffers go that are not used.
func (c *Conn) Shrink() {
	c.In.Shrink()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare.Bytes = nil
	if c.out.size == 0 {
		c.out.Bytes = nil
	}
}

// AwaitWriter blocks until no write is under way. On a closed connection that
// is soon, and then nothing that was posted is read any more.
func (c *Conn) AwaitWriter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.flushing {
		c.written.Wait()
	}
}
