package raftwire

import (
	"cmp"
	"io"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
)

// waitingRequests are the requests of peers that wait for the core, once they have
// waited for a while. They tell the reader of a snapshot that the core is needed.
// The zero value is ready for use.
type waitingRequests struct {
	senders sync.Map // the sender of each, by the one who waits
}

func (w *waitingRequests) add(who any, s sender) { w.senders.Store(who, s) }
func (w *waitingRequests) remove(who any)        { w.senders.Delete(who) }

// others reports whether a request of another sender waits.
func (w *waitingRequests) others(than sender) (found bool) {
	w.senders.Range(func(_, s any) bool {
		found = s != than
		return !found
	})
	return found
}

// sender tells peers apart: by the host of their connection, and by the address
// that their requests give, since several peers may be on one host.
type sender struct{ host, addr string }

// addressIn returns the address that a request gives for its sender, or "".
func addressIn(command any) string {
	if m, ok := command.(WithRPCHeader); ok && len(m.GetRPCHeader().Addr) > 0 {
		return string(m.GetRPCHeader().Addr)
	}
	switch m := command.(type) { // peers without the header use another field
	case *AppendEntriesRequest:
		return string(m.Leader)
	case *RequestVoteRequest:
		return string(m.Candidate)
	case *InstallSnapshotRequest:
		return string(m.Leader)
	}
	return ""
}

// lookAfter is how long a request waits for the core before its peer is looked for, if
// there is no Timeout.
const lookAfter = time.Minute

// waits is called now and then while the request that is offered waits for the core.
func (s *session) waits() {
	if s.waiting.IsZero() {
		s.waiting = time.Now()
		if !isHeartbeat(s.offered) { // the core's handler takes those
			s.server.waiting.add(s, senderOf(s.conn, s.offered))
		}
	}
	if time.Since(s.waiting) >= cmp.Or(max(s.server.timeout, 0), lookAfter) {
		s.lookForPeer()
	}
}

// lookForPeer closes the connection if the peer has gone: a request that has waited
// for so long was given up by its sender. What is read to find that out stays in the
// buffer for the next request. If the peer has sent too much ahead for that, the
// socket may know of it.
func (s *session) lookForPeer() {
	switch {
	case !s.conn.IsWatched():
		if s.body != nil {
			s.body.ready = make(chan struct{})
		}
		s.conn.StartWatching()
	case s.conn.WatchEnded() && sock.HasHungUp(s.conn.Raw):
		_ = s.conn.Close(io.EOF)
	}
}

// endWait is called when the core has taken the request, or never will.
func (s *session) endWait() {
	body := s.body
	s.offered, s.body = nil, nil // an idle connection keeps none
	if s.waiting.IsZero() {
		return
	}
	s.waiting = time.Time{}
	s.server.waiting.remove(s)
	if s.conn.IsWatched() {
		s.conn.StopWatching()
	}
	if body != nil && body.ready != nil {
		close(body.ready)
	}
}

func senderOf(c *netConn, command any) sender { return sender{hostOf(c.peer), addressIn(command)} }
