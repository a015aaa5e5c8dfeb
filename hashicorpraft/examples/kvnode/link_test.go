package main

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link carries the connections of one node to another. While it is cut nothing
// passes, and nobody is told; what was under way arrives when it is healed.
type link struct {
	listener net.Listener
	target   string
	closed   chan struct{}
	work     sync.WaitGroup

	lock  sync.Mutex // protects following
	up    chan struct{}
	isCut bool
	conns []net.Conn
}

func newLink(t *testing.T, target string) *link {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &link{listener: listener, target: target, closed: make(chan struct{}), up: make(chan struct{})}
	close(l.up)
	l.work.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) cut() {
	l.lock.Lock()
	defer l.lock.Unlock()
	if !l.isCut {
		l.isCut, l.up = true, make(chan struct{})
	}
}

func (l *link) heal() {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.isCut {
		l.isCut = false
		close(l.up)
	}
}

// await blocks while the link is cut, and reports whether it is open again.
func (l *link) await() bool {
	l.lock.Lock()
	up := l.up
	l.lock.Unlock()
	select {
	case <-l.closed:
		return false
	case <-up:
		return true
	}
}

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.work.Go(func() { l.join(near) })
	}
}

func (l *link) join(near net.Conn) {
	defer near.Close()
	if !l.await() {
		return
	}
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.register(near, far) {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		l.pass(near, far)
	}()
	l.pass(far, near)
	<-back
}

func (l *link) register(conns ...net.Conn) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	select {
	case <-l.closed:
		return false
	default:
		l.conns = append(l.conns, conns...)
		return true
	}
}

// pass copies until one end closes, and then closes the other.
func (l *link) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !l.await() {
			return
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

func (l *link) close() {
	_ = l.listener.Close()
	l.lock.Lock()
	close(l.closed)
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.lock.Unlock()
	l.work.Wait()
}
