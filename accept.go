package raftwire

import (
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

// openDoor begins to take connections. A layer of this module hands them over itself.
func (n *NetworkTransport) openDoor() {
	if door.HandTo(n.stream, n.accept) {
		return
	}
	n.acceptor = n.newAcceptor()
	go n.acceptor.Run()
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

// accept gives an inbound connection a goroutine. An accept loop calls it: nothing in
// it may block. So the connection is counted here, before it has a goroutine, and
// is one of the pool's, so that CloseStreams and Close close it wherever it is.
func (n *NetworkTransport) accept(handed door.Handover) {
	in := &arrival{transport: n, handed: handed}
	in.conn = newConn(handed.Conn, "", n.timeout, &n.tasks)
	in.conn.belongTo(&n.hooks, &n.inbound, true)
	in.conn.maxQueued = flushAfter
	in.conn.in.SetLimit("MaxMessageBytes", n.maxMessageBytes)
	in.conn.in.SetUnshared(n.noSharedEntries)
	place, expelled, why := n.gate.admit(in.conn)
	switch {
	case place == nil:
		n.refusals.Add(door.TooManyConns)
		handed.Close()
		return
	case expelled != nil:
		expelled.closeAside(why, func() {}) // its goroutine does the rest
	default:
		in.refused = why
	}
	in.place = place
	if in.refused == nil {
		in.refused = n.add(in.conn, n.current())
	}
	if !n.tasks.Start(in.run) {
		handed.Close()
	}
}

// arrival is an inbound connection until it is served.
type arrival struct {
	transport *NetworkTransport
	handed    door.Handover
	conn      *conn
	place     *place
	refused   error // why it was refused, or nil
}

// run is the goroutine of an inbound connection. It asks for the address first,
// which may block: the connections of some listeners read it from a header.
func (a *arrival) run() {
	n, c := a.transport, a.conn
	defer a.handed.End()
	defer n.gate.end(a.place)
	begun := time.Now()
	if a.refused != nil {
		_ = c.close(a.refused) // first: then the address does not wait for the peer
	}
	c.peer = a.address()
	if a.refused == nil {
		if err := a.handed.VerifyAgain(); err != nil {
			n.letOut(a.place, err) // the layer has reported it
			return
		}
	}
	c.reportOpening()
	if err := a.letIn(); err != nil {
		err = c.close(err)
		n.letOut(a.place, err)
		c.reportEnd(err)
		n.logEnd(c, err)
		return
	}
	n.logger.Debug("accepted connection", logs.KeyPeer, c.peer)
	s := newSession(n, c, a.place)
	s.begun = begun
	if a.handed.Identified {
		s.recognize()
	}
	s.run()
}

// address returns the remote address. The wait for it is part of the time that the
// connection has until its first request.
func (a *arrival) address() ServerAddress {
	if limit := a.transport.firstByteTimeout; limit > 0 {
		timer := time.AfterFunc(limit, func() { _ = a.conn.close(errSilent) })
		defer timer.Stop()
	}
	return ServerAddress(sock.RemoteAddress(a.handed.Conn))
}

// letIn counts the connection to its host, at the cost of another one if need be.
func (a *arrival) letIn() error {
	if a.refused != nil {
		return a.refused
	}
	expelled, why := a.transport.gate.locate(a.place, door.HostOf(string(a.conn.peer)))
	switch expelled {
	case nil:
		return a.conn.failure() // it may have been closed meanwhile
	case a.conn:
		return why
	}
	expelled.closeAside(why, func() {})
	return a.conn.failure()
}

func (n *NetworkTransport) letOut(p *place, why error) {
	defer n.gate.leave(p)
	n.discard(p.conn, why)
}
