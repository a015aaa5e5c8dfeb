package raftwire

import (
	"testing"
	"time"
)

// BenchmarkUnsetHooks measures what a request pays for hooks that are not set, at both
// ends. There is no transport without hooks to compare with.
func BenchmarkUnsetHooks(b *testing.B) {
	b.Run("served", func(b *testing.B) {
		serveAll(b, new(Hooks))
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

// serveAll does what a session does for its meter, request by request.
func serveAll(b *testing.B, hooks *Hooks) {
	var (
		m    = newMeter(hooks, &netConn{peer: "10.0.0.1:40000"})
		args AppendEntriesRequest
		r    = replies{meter: m}
	)
	for b.Loop() {
		m.await()
		m.begin(false)
		m.decode(rpcAppendEntries, &args, 100, false)
		r.pending.Push(pendingReply{serving: m.take()})
		r.take()
		m.answer(true)
		m.end(50, nil)
	}
}

// BenchmarkSetHooks measures the same for hooks that do nothing.
func BenchmarkSetHooks(b *testing.B) {
	hooks := Hooks{ServeDone: func(*ServeEvent) {}, CallDone: func(*CallEvent) {}}
	b.Run("served", func(b *testing.B) {
		serveAll(b, &hooks)
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
