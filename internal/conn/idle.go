package conn

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// Watching: a goroutine reads from a connection while nobody else does, to
// learn that the peer has gone. What it reads stays in the buffer for whoever
// reads next. It is needed where a request must not be sent on a connection
// that is dead, and where one must not be handed over whose caller has gone.

// StartWatching lends c.In to a goroutine until StopWatching.
func (c *Conn) StartWatching() {
	c.watch = make(chan struct{})
	// A connection without deadlines could not be taken back.
	if c.Raw.SetReadDeadline(time.Time{}) != nil || !c.Tasks.Start(c.watchPeer) {
		close(c.watch)
	}
}

func (c *Conn) watchPeer() {
	defer close(c.watch)
	hook := c.In.SetBefore(nil)
	var err error
	for err == nil && c.In.Buffered() < watchLimit {
		err = c.In.Fill()
	}
	c.In.SetBefore(hook)
	if err != nil && !errno.IsTimeout(err) {
		_ = c.Close(err)
	}
}

// heedsWithin is how long a read under way may take to end by its deadline.
const heedsWithin = time.Second

var errHeedless = errors.New("the stream layer's connection does not heed its deadlines")

// StopWatching takes c.In back.
func (c *Conn) StopWatching() {
	_ = c.Raw.SetReadDeadline(LongAgo)
	if !tasks.IsClosed(c.watch) && tasks.Pause(heedsWithin, c.watch) {
		_ = c.Close(errHeedless)
		<-c.watch
	}
	c.watch = nil
	_ = c.Raw.SetReadDeadline(time.Time{})
}

// IsSilent reports whether an idle connection from the pool is alive, with
// nothing to read. Where the system can peek at a socket it is asked now, also for
// what a watch has not read yet, which other connections have had since they became
// idle.
func (c *Conn) IsSilent() bool {
	if c.watch != nil {
		c.StopWatching()
		if c.Failure() != nil || c.In.Buffered() > 0 {
			return false
		}
	}
	return c.peekSilent()
}

// peekSilent asks the socket. It makes what it asks with only once: each call on a
// pooled connection needs it.
func (c *Conn) peekSilent() bool {
	if c.Peek == nil {
		c.Peek = sock.NewPeek(c.Raw)
	}
	return c.Peek()
}

// IsDead reports whether an idle connection in the pool is known to be of no
// use any more.
func (c *Conn) IsDead() bool {
	if c.watch == nil {
		return !c.peekSilent()
	}
	return c.Failure() != nil
}

// IsDrained reports whether everything that was read from the socket has come
// out of the connection. TLS reads ahead, and what it holds a look at the
// socket would not find.
func (c *Conn) IsDrained() bool {
	if _, secured := c.Raw.(*tls.Conn); !secured {
		return true
	}
	_ = c.Raw.SetReadDeadline(LongAgo) // the socket is not read
	err := c.In.Fill()
	_ = c.Raw.SetReadDeadline(time.Time{})
	return errno.IsTimeout(err)
}

// watchLimit is how much of what a peer has sent ahead is read to find that it has
// closed.
const watchLimit = 16 << 10

// IsWatched reports whether StartWatching was called, and StopWatching was not.
func (c *Conn) IsWatched() bool { return c.watch != nil }

// WatchEnded reports whether the watch has found the end, or has read all it may.
func (c *Conn) WatchEnded() bool { return tasks.IsClosed(c.watch) }
