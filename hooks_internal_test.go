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
			n.reportBegin(rpcAppendEntries, "id", "peer", time.Time{}, &args)
			n.reportCall(rpcAppendEntries, "id", "peer", time.Time{}, &args, sizes{}, nil)
		}
	})
}

// serveUnmeasured does what a session does for its meter, request by request.
// The compiler must not see that there is none.
//
//go:noinline
func serveUnmeasured(s *session, args *AppendEntriesRequest) {
	s.meter.begin(false)
	s.meter.decode(rpcAppendEntries, args, 100, false)
	s.meter.take(false)
	s.meter.push()
	s.meter.pop()
	s.meter.answer(true)
	s.meter.post(RPCResponse{}, 50)
}

// BenchmarkSetHooks is the same for hooks that do nothing with what they are told.
func BenchmarkSetHooks(b *testing.B) {
	hooks := Hooks{ServeDone: func(*ServeEvent) {}, CallDone: func(*CallEvent) {}}
	b.Run("served", func(b *testing.B) {
		var args AppendEntriesRequest
		s := session{meter: newMeter(&hooks, &netConn{peer: "10.0.0.1:40000"})}
		for b.Loop() {
			serveUnmeasured(&s, &args)
		}
	})
	b.Run("called", func(b *testing.B) {
		var args AppendEntriesRequest
		n := NetworkTransport{hooks: hooks}
		for b.Loop() {
			n.reportCall(rpcAppendEntries, "id", "peer", time.Time{}, &args, sizes{}, nil)
		}
	})
	b.Run("clock", func(b *testing.B) {
		for b.Loop() {
			sinceEpoch()
		}
	})
}
