package main

import (
	"net"
	"sync"
	"time"

	"github.com/raftwire/raftwire"
)

// A path is what is between two ends of a connection. The zero value is
// nothing but what there is.
type path struct {
	Delay     time.Duration `json:"delay_ns"`  // of each byte, one way
	Bandwidth int           `json:"bandwidth"` // bytes a second in each direction; 0 means no limit
}

// slowLayer puts a path between both ends of its connections: each end holds
// back what it sends.
type slowLayer struct {
	raftwire.StreamLayer
	path path
}

func (l slowLayer) Accept() (net.Conn, error) { return l.path.slow(l.StreamLayer.Accept()) }

func (l slowLayer) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.path.slow(l.StreamLayer.Dial(address, timeout))
}

func (p path) slow(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	c := &slowConn{Conn: conn, path: p, due: make(chan piece, 4096), quit: make(chan struct{}), ended: make(chan struct{})}
	go c.send()
	return c, nil
}

// A slowConn holds back what is written to it. A write returns as soon as it is
// queued, as one to a socket does, so it needs no deadline.
type slowConn struct {
	net.Conn
	path path
	due  chan piece

	lock sync.Mutex // protects following
	free time.Time  // when the path has room for the next piece

	once  sync.Once
	quit  chan struct{} // closed by Close
	ended chan struct{} // closed when send has ended
	err   error         // why send ended; to be read after ended
}

// A piece is written at its time.
type piece struct {
	data []byte
	at   time.Time
}

func (c *slowConn) Write(b []byte) (int, error) {
	select {
	case <-c.ended:
		return 0, c.err
	default:
	}
	p := piece{append([]byte(nil), b...), c.arrival(len(b))}
	select {
	case c.due <- p:
		return len(b), nil
	case <-c.ended:
		return 0, c.err
	}
}

// SetDeadline leaves out writes: a deadline that is over would end what is still
// on its way.
func (c *slowConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing, see SetDeadline.
func (c *slowConn) SetWriteDeadline(time.Time) error { return nil }

// arrival returns when so many bytes that leave now are at the other end.
func (c *slowConn) arrival(size int) time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	if now := time.Now(); c.free.Before(now) {
		c.free = now
	}
	if c.path.Bandwidth > 0 {
		c.free = c.free.Add(time.Duration(float64(size) / float64(c.path.Bandwidth) * float64(time.Second)))
	}
	return c.free.Add(c.path.Delay)
}

// send writes what is due. It ends with Close, or when the connection fails.
func (c *slowConn) send() {
	defer close(c.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p := <-c.due:
			timer.Reset(time.Until(p.at))
			select {
			case <-timer.C:
			case <-c.quit:
				c.err = net.ErrClosed
				return
			}
			if _, c.err = c.Conn.Write(p.data); c.err != nil {
				return
			}
		case <-c.quit:
			c.err = net.ErrClosed
			return
		}
	}
}

// Close drops what is still held back, as a path that ends does.
func (c *slowConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.quit) })
	<-c.ended
	return err
}
