package faultnet

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
)

// Conn is one end of a connection. Reads, writes and everything else may run
// concurrently; concurrent writes do not mix.
type Conn struct {
	net           *Network
	number        int
	host          *Host
	peer          *Conn
	out           *Link // to the peer
	local, remote Addr

	// protected by net.mu
	changed       sync.Cond // anything below changed
	readDeadline  deadline
	writeDeadline deadline

	received bytes.Buffer // arrived and not yet read
	flight   []packet     // on the way to this end
	arrival  *time.Timer  // for the first in flight

	writing bool // a Write is under way
	queued  int  // others that wait for it
	limit   int  // how many bytes may be under way or unread at the peer
	unread  int  // how many are
	lost    bool // nothing that this end sends arrives
	fuse    fuse

	closed      bool // by Close, or with the host
	writeClosed bool // by CloseWrite
	finished    bool // the peer's last byte has arrived
	reset       bool // by the peer, or from in between
}

var _ net.Conn = (*Conn)(nil)

func (n *Network) newConn(h *Host) *Conn {
	n.conns++
	c := &Conn{net: n, number: n.conns, host: h, limit: n.buffer}
	c.changed.L = &n.mu
	h.conns[c] = struct{}{}
	return c
}

// Read returns bytes that have arrived, io.EOF after the peer's last, or a
// reset, os.ErrDeadlineExceeded or net.ErrClosed in a *net.OpError. It blocks
// until one of these.
func (c *Conn) Read(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		n, err := c.tryRead(b)
		if err == io.EOF {
			return 0, io.EOF
		}
		if err != nil {
			return 0, c.opError("read", err)
		}
		if n > 0 || len(b) == 0 {
			return n, nil
		}
		c.changed.Wait()
	}
}

// tryRead returns 0 and no error if it would have to wait.
func (c *Conn) tryRead(b []byte) (int, error) {
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.readDeadline.passed():
		return 0, os.ErrDeadlineExceeded
	case c.received.Len() > 0 && len(b) > 0:
		return c.take(b), nil
	case len(b) == 0:
		return 0, nil
	case c.finished:
		return 0, io.EOF
	case c.reset:
		return 0, errno.Reset
	}
	return 0, nil
}

// take reads what is there and tells the writer.
func (c *Conn) take(b []byte) int {
	n, _ := c.received.Read(b[:c.peer.out.sliced(len(b))])
	if c.received.Len() == 0 && c.received.Cap() > keepBuffer {
		c.received = bytes.Buffer{}
	}
	c.send(packet{kind: packetAck, read: n})
	return n
}

// keepBuffer is the capacity that an idle connection keeps.
const keepBuffer = 4 << 10

// Write sends b. It blocks while the connection's buffer is full. If it fails,
// some of b may have been sent, as the count says. The first write after the
// peer has closed succeeds, as with TCP, and draws a reset.
func (c *Conn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if err := c.awaitTurn(); err != nil {
		return 0, c.opError("write", err)
	}
	defer c.endTurn()
	sent := 0
	for sent < len(b) {
		n, err := c.tryWrite(b[sent:])
		sent += n
		if err != nil {
			return sent, c.opError("write", err)
		}
		if n == 0 {
			c.changed.Wait()
		}
	}
	return sent, nil
}

// awaitTurn waits until no other Write is under way and begins one.
func (c *Conn) awaitTurn() error {
	for {
		if err := c.writeError(); err != nil {
			return err
		}
		if !c.writing {
			c.writing = true
			return nil
		}
		c.queued++
		c.changed.Wait()
		c.queued--
	}
}

func (c *Conn) endTurn() {
	c.writing = false
	if c.queued > 0 {
		c.changed.Broadcast()
	}
}

func (c *Conn) writeError() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.writeDeadline.passed():
		return os.ErrDeadlineExceeded
	case c.writeClosed, c.reset && c.finished:
		return errno.BrokenPipe
	case c.reset:
		return errno.Reset
	}
	return nil
}

// tryWrite sends as much of b as there is room for.
func (c *Conn) tryWrite(b []byte) (int, error) {
	if err := c.writeError(); err != nil {
		return 0, err
	}
	b = b[:min(len(b), max(c.limit-c.unread, 0))]
	n, blown := c.burn(len(b))
	if n > 0 {
		c.unread += n
		c.send(packet{kind: packetData, data: b[:n]})
	}
	if blown {
		c.breakOff()
		return n, errno.Reset
	}
	return n, nil
}

// burn asks both fuses how many bytes get through.
func (c *Conn) burn(n int) (through int, blown bool) {
	through, blown = c.out.fuse.burn(n)
	through, own := c.fuse.burn(through)
	return through, blown || own
}

// Close closes the connection. What was written still arrives, followed by
// io.EOF, unless something that had arrived was not read: then the peer is
// reset. Calls under way return net.ErrClosed.
func (c *Conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	if c.received.Len() > 0 {
		c.abort()
		return nil
	}
	c.finish()
	c.retire()
	return nil
}

// CloseWrite ends what the peer will read. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.finish()
	return nil
}

func (c *Conn) finish() {
	if c.writeClosed {
		return
	}
	c.writeClosed = true
	c.send(packet{kind: packetFin})
	c.changed.Broadcast()
}

// Reset breaks the connection as a box in between would: both ends fail with a
// reset, after what has already arrived was read.
func (c *Conn) Reset() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.breakOff()
}

// ResetAfter is [Link.ResetAfter] for what this end writes.
func (c *Conn) ResetAfter(n int64) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.fuse.light(n)
}

// Drop is [Link.Drop] for what this end sends.
func (c *Conn) Drop() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.drop()
}

// LocalAddr returns this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readDeadline, &c.writeDeadline)
}

// SetReadDeadline sets when Read gives up, also one under way.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readDeadline)
}

// SetWriteDeadline sets when Write gives up, also one under way.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.writeDeadline)
}

func (c *Conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.set(t, c.wake)
	}
	c.changed.Broadcast()
	return nil
}

// send puts a packet on its way to the peer. Data is copied if it has to wait.
func (c *Conn) send(p packet) {
	if c.net.tap != nil && p.kind == packetData {
		c.net.tap(c.host.name, c.peer.host.name, p.data)
	}
	if c.lost {
		return
	}
	p.data = c.out.spoil(p.data)
	if len(c.peer.flight) == 0 && c.out.instant() {
		c.peer.receive(p)
		return
	}
	for _, piece := range c.out.pieces(p.data) {
		p.data = bytes.Clone(piece)
		p.due = c.out.due(len(piece))
		c.peer.flight = append(c.peer.flight, p)
	}
	c.peer.land()
}

// land receives what is due, in order, and sets the timer for the rest.
func (c *Conn) land() {
	for len(c.flight) > 0 && !c.peer.out.blocked() {
		p := c.flight[0]
		if wait := time.Until(p.due); wait > 0 {
			c.landIn(wait)
			return
		}
		c.flight = c.flight[1:]
		c.receive(p)
	}
}

func (c *Conn) landIn(wait time.Duration) {
	if c.arrival == nil {
		c.arrival = time.AfterFunc(wait, c.landNow)
		return
	}
	c.arrival.Reset(wait)
}

// landNow is land for the timer.
func (c *Conn) landNow() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.land()
}

// resend starts what is in flight to this end anew.
func (c *Conn) resend() {
	for i, p := range c.flight {
		c.flight[i].due = c.peer.out.due(len(p.data))
	}
	c.land()
}

func (c *Conn) drop() {
	c.lost = true
	c.peer.flight = nil
}

// receive takes a packet from the peer.
func (c *Conn) receive(p packet) {
	switch {
	case c.closed, c.reset:
		c.rebuff(p)
		return
	case p.kind == packetData:
		c.received.Write(p.data)
	case p.kind == packetAck:
		full := c.unread >= c.limit
		if c.unread -= p.read; !full {
			return // nobody waits for it
		}
	case p.kind == packetFin:
		c.finished = true
	case p.kind == packetReset:
		c.reset = true
	}
	c.changed.Broadcast()
}

// rebuff answers data for a connection that is no more.
func (c *Conn) rebuff(p packet) {
	if p.kind == packetData {
		c.send(packet{kind: packetReset})
	}
}

// breakOff resets both ends.
func (c *Conn) breakOff() {
	c.send(packet{kind: packetReset})
	c.reset = true
	c.changed.Broadcast()
}

// abort closes this end and resets the other, or leaves it in the dark if the
// host is off.
func (c *Conn) abort() {
	if c.host.state == hostOff {
		c.peer.flight = nil
	} else {
		c.send(packet{kind: packetReset})
	}
	c.retire()
}

// retire marks this end as closed by its owner.
func (c *Conn) retire() {
	c.closed = true
	c.received = bytes.Buffer{}
	c.readDeadline.stop()
	c.writeDeadline.stop()
	delete(c.host.conns, c)
	c.changed.Broadcast()
}

// held counts bytes on the way to this end and unread by it.
func (c *Conn) held() int {
	held := c.received.Len()
	for _, p := range c.flight {
		held += len(p.data)
	}
	return held
}

// wake makes blocked calls look again. It is called without mu.
func (c *Conn) wake() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.changed.Broadcast()
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: networkName, Source: c.local, Addr: c.remote, Err: err}
}

// deadline is a time at which calls under way give up.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(at time.Time, wake func()) {
	d.stop()
	d.at = at
	if at.IsZero() || d.passed() {
		return
	}
	if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(at), wake)
		return
	}
	d.timer.Reset(time.Until(at))
}

func (d *deadline) passed() bool {
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
