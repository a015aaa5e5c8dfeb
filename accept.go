package raftwire

import (
	"errors"
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
)

// listen accepts connections until the transport is closed.
func (n *NetworkTransport) listen() { n.newAcceptor().Run() }

func (n *NetworkTransport) newAcceptor() *door.Acceptor {
	accept, admit := entrance(n.stream)
	return door.NewAcceptor(accept, n.shutdownCh, &door.Target{
		Handle: func(raw net.Conn) { n.accept(raw, admit) },
		Logger: n.logger,
		Tasks:  &n.tasks,
	})
}

// entrance returns how to accept from stream, and what has to admit a connection
// afterwards, or nil. A layer of this package verifies peers once more when they are
// accepted, which may call Authorize: that is done on the connection's goroutine.
func entrance(stream StreamLayer) (accept func() (net.Conn, error), admit func(net.Conn) net.Conn) {
	switch l := stream.(type) {
	case *TLSStreamLayer:
		return l.take, l.admit
	case *HandoffLayer:
		return l.take, l.admit
	}
	return stream.Accept, nil
}

// accept gives an inbound connection a goroutine. The acceptor calls it: nothing in
// it may block. So the connection is counted here, before it has a goroutine, and
// is one of the pool's, so that CloseStreams and Close close it wherever it is.
func (n *NetworkTransport) accept(raw net.Conn, admit func(net.Conn) net.Conn) {
	in := &arrival{transport: n, raw: raw, admit: admit}
	if v, ok := raw.(*vouched); ok {
		raw = v.Conn
	}
	in.conn = newConn(raw, "", n.timeout, &n.tasks)
	in.conn.belongTo(&n.hooks, &n.inbound, true)
	in.conn.maxQueued = flushAfter
	in.conn.in.SetLimit("MaxMessageBytes", n.maxMessageBytes)
	in.conn.in.SetUnshared(n.noSharedEntries)
	place, expelled, why := n.gate.admit(in.conn)
	switch {
	case place == nil:
		n.refusals.Add(door.TooManyConns)
		sock.Close(raw)
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
		sock.Close(raw)
	}
}

// arrival is an inbound connection until it is served.
type arrival struct {
	transport *NetworkTransport
	raw       net.Conn // as it was accepted
	admit     func(net.Conn) net.Conn
	conn      *conn
	place     *place
	refused   error // why it was refused, or nil
}

// run is the goroutine of an inbound connection. It asks for the address first,
// which may block: the connections of some listeners read it from a header.
func (a *arrival) run() {
	n, c := a.transport, a.conn
	defer n.gate.end(a.place)
	begun := time.Now()
	if a.refused != nil {
		_ = c.close(a.refused) // first: then the address does not wait for the peer
	}
	c.peer = a.address()
	if a.refused == nil && a.admit != nil && a.admit(a.raw) == nil {
		n.letOut(a.place, errNotAdmitted) // the layer has reported it
		return
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
	if isIdentified(a.raw, n.stream) {
		s.recognize()
	}
	s.run()
}

// errNotAdmitted ends a connection that its layer does not admit any more.
var errNotAdmitted = errors.New("the layer does not admit the connection")

// address returns the remote address. The wait for it is part of the time that the
// connection has until its first request.
func (a *arrival) address() ServerAddress {
	if limit := a.transport.firstByteTimeout; limit > 0 {
		timer := time.AfterFunc(limit, func() { _ = a.conn.close(errSilent) })
		defer timer.Stop()
	}
	return remoteAddress(a.raw)
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

// remoteAddress is for logs and limits; not every stream layer knows one.
func remoteAddress(raw net.Conn) ServerAddress {
	if addr := addressOf(raw.RemoteAddr()); addr != "" {
		return addr
	}
	return "unknown"
}

// addressOf returns an address of somebody else's, which may be nil: "" then.
func addressOf(addr net.Addr) ServerAddress {
	if sock.IsNil(addr) {
		return ""
	}
	return ServerAddress(addr.String())
}

// isIdentified reports whether the peer of an accepted connection has told the layer
// who it is, or what it wants: by a certificate or the key of a Mux. Such a peer
// need not send a request to be known as one.
func isIdentified(raw net.Conn, stream StreamLayer) bool {
	if _, ok := raw.(*vouched); ok {
		return true
	}
	layer, ok := stream.(*HandoffLayer)
	return ok && layer.keyed && sock.Reread(raw) == raw // an unprefixed one has its byte back
}
