package raftwire

import (
	"testing"
	"time"
)

// BenchmarkUnsetHooks counts what a request pays for hooks that are not set,
// on either side: there is no transport without hooks to compare with.
func BenchmarkUnsetHooks(b *testing.B) {
	b.Run("served", func(b *testing.B) {
		var (
			s    session
			args AppendEntriesRequest
		)
		for b.Loop() {
			serveUnmeasured(&s, &args)
		}
	})
	b.Run("called", func(b *testing.B) {
		var (
			n    NetworkTransport
			args AppendEntriesRequest
		)
		for b.Loop() {
			n.reportBegin(rpcAppendEntries, "peer", time.Time{}, &args)
			n.reportCall(rpcAppendEntries, "peer", time.Time{}, &args, sizes{}, nil)
		}
	})
}

// serveUnmeasured does what a session does for its meter, request by request.
// The compiler must not see that there is none.
//
//go:noinline
func serveUnmeasured(s *session, args *AppendEntriesRequest) {
	s.meter.begin()
	s.meter.decode(rpcAppendEntries, args, 100)
	s.meter.take()
	s.meter.answer()
	s.meter.post(rpcAppendEntries, RPCResponse{}, 50)
}
