package raftwire

import "sync"

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
	var header RPCHeader
	var old []byte // the field that peers without the header use
	switch m := command.(type) {
	case *AppendEntriesRequest:
		header, old = m.RPCHeader, m.Leader
	case *RequestVoteRequest:
		header, old = m.RPCHeader, m.Candidate
	case *RequestPreVoteRequest:
		header = m.RPCHeader
	case *TimeoutNowRequest:
		header = m.RPCHeader
	case *InstallSnapshotRequest:
		header, old = m.RPCHeader, m.Leader
	}
	if len(header.Addr) > 0 {
		return string(header.Addr)
	}
	return string(old)
}
