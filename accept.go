package raftwire

import (
	"net"

	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
)

// openDoor begins to take connections. A layer of this module hands them over itself.
func (n *NetworkTransport) openDoor() {
	if door.HandTo(n.stream, door.Taker{Take: n.accept, Closed: n.streamClosed}) {
		return
	}
	n.acceptor = n.newAcceptor()
	go n.acceptor.Run()
}

func (n *NetworkTransport) streamClosed() {
	if !n.IsShutdown() {
		door.ReportClosed(n.logger, &n.tasks)
	}
}

// listen accepts connections until the transport is closed.
func (n *NetworkTransport) listen() { n.newAcceptor().Run() }

func (n *NetworkTransport) newAcceptor() *door.Acceptor {
	return door.NewAcceptor(n.stream.Accept, n.shutdownCh, &door.Target{
		Handle: func(raw net.Conn) { n.accept(door.Handover{Conn: raw}) },
		Logger: n.logger,
		Tasks:  &n.tasks,
	})
}

// accept admits an inbound connection. An accept loop calls it: nothing in it may
// block.
func (n *NetworkTransport) accept(handed door.Handover) {
	c := newConn(handed.Conn, "", n.timeout, &n.tasks, &n.hooks, &n.inbound, true)
	c.MaxQueued = flushAfter
	c.In.SetLimit("MaxMessageBytes", n.maxMessageBytes)
	c.In.SetUnshared(n.noSharedEntries)
	visit := &door.Visit{Handover: handed, Closer: c}
	n.door.Admit(visit, func() { n.serve(visit, c) })
}

// serve is the goroutine of an inbound connection, which may have been refused, or
// closed meanwhile.
func (n *NetworkTransport) serve(visit *door.Visit, c *netConn) {
	c.peer = ServerAddress(visit.Peer)
	if c.Failure() == nil {
		if err := visit.VerifyAgain(); err != nil { // the layer has reported it
			_ = c.Close(err)
			visit.Leave()
			return
		}
	}
	visit.Verify = nil // it refers to certificates that may be replaced
	c.reportOpening()
	if err := c.Failure(); err != nil {
		visit.Leave()
		c.reportEnd(err)
		n.logEnd(c, err)
		return
	}
	n.logger.Debug("accepted connection", logs.KeyPeer, c.peer)
	newSession(n, c, visit).run()
}
