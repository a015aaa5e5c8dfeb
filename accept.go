package raftwire

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/dispatch"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/identity"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// server is the inbound half of a transport.
type server struct {
	logger           hclog.Logger
	self             *identity.Self // nil without an Identity
	timeout          time.Duration
	maxDispatchAhead int
	maxMessageBytes  int64
	noSharedEntries  bool
	snapshots        stallLimits
	snapshotPatience func(size int64) time.Duration // how long the connection of one may wait; 0 means for ever
	hooks            *Hooks
	tasks            *tasks.Group
	done             <-chan struct{} // closed when the transport is

	open     atomic.Pointer[openDispatcher]
	door     door.Door
	refusals door.Refusals
	waiting  waitingRequests
	inbound  traffic // of all connections
}

// openDispatcher opens the dispatcher of a connection.
type openDispatcher func(done <-chan struct{}) Dispatcher

// dispatcher returns one that takes no request, so that the connection ends, if the
// program's function returns none.
func (open openDispatcher) dispatcher(done <-chan struct{}) Dispatcher {
	if d := open(done); !sock.IsNil(d) {
		return d
	}
	return noDispatcher{}
}

type noDispatcher struct{}

func (noDispatcher) Dispatch(any, io.Reader, bool) PendingAnswer { return nil }

// accept admits an inbound connection. An accept loop calls it: nothing in it may
// block.
func (s *server) accept(visit *door.Visit) {
	c := newConn(visit.Conn, "", s.timeout, s.tasks, s.hooks, &s.inbound, true)
	c.MaxQueued = flushAfter
	c.In.SetLimit("MaxMessageBytes", s.maxMessageBytes)
	c.In.SetUnshared(s.noSharedEntries)
	c.accepted = identity.Accept(s.self, &c.In)
	visit.Closer = c
	s.door.Admit(visit, func() { s.serve(visit, c) })
}

// serve is the goroutine of an inbound connection, which may have been refused, or
// closed meanwhile.
func (s *server) serve(visit *door.Visit, c *netConn) {
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
		s.logEnd(c, err)
		return
	}
	s.logger.Debug("accepted connection", logs.KeyPeer, c.peer)
	newSession(s, c, visit).run()
}

// logEnd says why an inbound connection ended.
func (s *server) logEnd(c *netConn, err error) {
	closedHere := errors.Is(err, errStreamsClosed) || errors.Is(err, net.ErrClosed) // by CloseStreams, or by a Mux
	gone := err == io.EOF || tasks.IsClosed(s.done) || closedHere
	s.refusals.Report(s.logger, string(c.peer), err, gone)
}

// logWrongAnswer says that the consumer answered a peer with a wrong type.
func (s *server) logWrongAnswer(peer ServerAddress, err error) {
	s.refusals.Limit.Log(s.logger, hclog.Error, logs.Topic{Detail: err.Error()}, "wrong answer", logs.KeyPeer, peer, logs.KeyError, err)
}

// consumerDispatcher hands requests to Consumer.
type consumerDispatcher struct {
	*dispatch.ConnDispatcher[RPC, RPCResponse]
}

// Dispatch implements [Dispatcher].
func (d consumerDispatcher) Dispatch(command any, body io.Reader, heartbeat bool) PendingAnswer {
	if answers := d.ConnDispatcher.Dispatch(command, body, heartbeat); answers != nil {
		return answers
	}
	return nil // and not a nil channel in an interface
}
