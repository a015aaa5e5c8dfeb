// Package conn is one connection to a peer, either end of it: a buffered reader,
// and an outbox that gathers what is written. It knows no message.
package conn

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// CacheLine stands between what different goroutines write, or one writes and
// others read, for each message: if they shared a line of the processor's cache it
// would go to and fro between two cores, 50 to 150 ns each time.
type CacheLine [64]byte

// LongAgo is a deadline that wakes whoever is blocked in a read or write.
var LongAgo = time.Unix(1, 0)

// Counter counts the bytes of one connection or several.
type Counter struct{ In, Out atomic.Uint64 }

// Conn is a connection to a peer. One goroutine at a time reads; any goroutine may
// post and flush.
type Conn struct {
	Raw     net.Conn
	Timeout time.Duration // for each write; 0 means no limit
	Tasks   *tasks.Group  // runs flushes in the background
	Counter *Counter
	Done    chan struct{} // closed when the connection ends

	// MaxQueued is how many bytes may wait for a write that is under way before
	// the next message waits as well.
	MaxQueued int

	// Ended is called once, on the goroutine that closes, when Raw has been closed.
	// It may be nil.
	Ended func(err error)

	_ CacheLine
	// In is owned by the reading goroutine.
	In msgpack.Reader
	_  CacheLine

	// Owned by the goroutine that writes.
	pieces [][]byte
	vector net.Buffers  // consumes itself, hence beside pieces
	sent   atomic.Int64 // bytes that were written

	// Owned by whoever owns the connection while it is idle.
	watch chan struct{} // closed when watchPeer has ended; nil if nobody watches
	Peek  func() bool   // of peekSilent, or nil

	large   atomic.Bool // more than LargeMessage bytes were sent as one message
	flusher func()      // the task that writes what is queued

	_          CacheLine
	mu         sync.Mutex // protects following
	err        error      // why the connection ended
	out        Batch      // queued
	spare      Batch      // the memory of the one that was written last
	flushing   bool       // a goroutine writes, or is about to
	hardlyUsed int        // batches in a row that used less than an eighth of a large buffer
	written    sync.Cond  // broadcast after each write
}

// Init makes c a connection over raw. It is called once, before anything else.
func (c *Conn) Init(raw net.Conn, timeout time.Duration, tasks *tasks.Group, counter *Counter) {
	c.Raw, c.Timeout, c.Tasks, c.Counter = raw, timeout, tasks, counter
	c.MaxQueued = MaxQueued
	c.Done = make(chan struct{})
	c.flusher = tasks.Task(c.flushQueued)
	c.In.Reset(c)
	c.written.L = &c.mu
	sock.LimitWrites(raw, timeout)
	if sock.IsSocket(raw) { // anything else would get a call for each piece; TLS, a record
		c.out.Cuts, c.spare.Cuts = []Cut{}, []Cut{}
	}
}

// Read reads for In.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Raw.Read(p)
	c.Counter.In.Add(uint64(n))
	return n, err
}

// Await blocks until a byte of the next message is there.
func (c *Conn) Await() error {
	if c.In.Buffered() > 0 {
		return nil
	}
	return c.In.Fill()
}

// Failure returns why the connection ended, or nil.
func (c *Conn) Failure() error {
	if !tasks.IsClosed(c.Done) {
		return nil
	}
	return c.err // which does not change any more
}

// Sent returns how many bytes were written.
func (c *Conn) Sent() int64 { return c.sent.Load() }

// SentLarge reports whether a large message was sent.
func (c *Conn) SentLarge() bool { return c.large.Load() }

// SetLarge notes that a large message is sent past the outbox.
func (c *Conn) SetLarge() { c.large.Store(true) }

// Close ends the connection and returns why it ended: err, or what an earlier
// call gave. Reads and writes under way fail at once.
func (c *Conn) Close(err error) error {
	if !c.fail(err) {
		return c.Failure()
	}
	c.end(err, func() {})
	return err
}

// CloseAside is Close for a caller who must not wait: neither for the Close of a
// connection that is somebody else's nor for Ended. closed is called when the
// connection has been closed.
func (c *Conn) CloseAside(err error, closed func()) {
	if !c.fail(err) {
		closed()
		return
	}
	if !c.Tasks.Start(func() { c.end(err, closed) }) {
		c.end(err, closed)
	}
}

func (c *Conn) end(err error, closed func()) {
	sock.Close(c.Raw)
	closed()
	if c.Ended != nil {
		c.Ended(err)
	}
}

func (c *Conn) fail(err error) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	c.written.Broadcast()
	close(c.Done)
	return true
}
