package raftwire

import (
	"sync"
	"time"
)

// Hooks are functions that a [NetworkTransport] calls when something has
// happened, for metrics and traces. Each may be nil; the zero Hooks call
// nothing, and cost neither a look at the clock nor an allocation.
//
// A hook runs where the event happens: on the goroutine of a call, a dial, a
// pipeline's reader, an inbound connection or a timer. It may also run on the goroutine
// that closes the connection or the pipeline. That goroutine waits for the hook, so a
// hook must not block. It must not call the transport or its pipelines, except Stats and Refusals.
// Hooks are called concurrently. Events of different goroutines come in no order.
// Calls that Close ends may call their hooks after Close has returned.
//
// A hook that blocks all the same delays the connection, call or pipeline of its
// event, which may then outlast its Timeout. It does not delay new connections, other
// connections, or CloseStreams. Close waits a second for it, and returns an error. If
// hooks block the end of 1024 inbound connections, and MaxConns is reached, further
// connections are closed as they come, and only counted.
//
// A panic in a hook is not recovered. On a goroutine of the transport it ends the
// process. On a caller's it reaches the caller, who may recover: no lock is held then,
// and the transport can be used; a pipeline whose CallBegun panicked has ended.
//
// Events with a pointer belong to the transport, which uses them again after the hook
// has returned: to keep one, copy it. Other events belong to the hook.
//
// For inbound events, Peer is the remote address of the connection, which has another
// port each time. Label metrics with Host, if at all.
type Hooks struct {
	// Dialed is called when an attempt to connect has ended.
	Dialed func(DialEvent)

	// ConnOpened is called for each connection that was dialled or accepted.
	// An inbound one may be refused next.
	ConnOpened func(ConnEvent)

	// ConnClosed is called once for each of them, when it has been closed. For an
	// inbound one its own goroutine calls it, as soon as the core and the heartbeat
	// handler have released the connection.
	ConnClosed func(ConnEvent)

	// CallBegun is called for each call that is made, and for each request that
	// a pipeline has taken: CallDone follows, once. Took, sizes and Err of the event
	// are zero. Peer is the address in the call, which a ServerAddressProvider may
	// override.
	CallBegun func(*CallEvent)

	// CallDone is called once for each call that was made, and for each request that
	// was sent on a pipeline, when its outcome is known. In a pipeline that is when
	// the future settles; the consumer may have the future earlier.
	CallDone func(*CallEvent)

	// ServeBegun is called for each whole request that has come in, before it is
	// handed over: ServeDone follows, once. The fields of the event after Decode are
	// zero.
	ServeBegun func(*ServeEvent)

	// ServeDone is called once for each whole request that has come in, when
	// its answer has been queued for writing, or when it will not get one.
	ServeDone func(*ServeEvent)

	// SnapshotProgress is called while a snapshot's body is sent or received:
	// after its first bytes, then once a second at most, and when it is over. For an
	// inbound one, the goroutine that reads the body calls it.
	SnapshotProgress func(SnapshotEvent)

	// Refused is called for each connection that [Refusals] counts. Layers under the
	// transport have hooks of their own: layers.TLSConfig.Refused and
	// layers.MuxConfig.Refused.
	Refused func(RefusalEvent)
}

// DialEvent says how an attempt to connect ended.
type DialEvent struct {
	// ID is the server that was to be reached: the id of the call that dialled.
	ID ServerID
	// Peer is the address that was dialled.
	Peer ServerAddress
	// Took is how long it took.
	Took time.Duration
	// Err is nil if there is a connection now.
	Err error
}

// ConnEvent says that a connection was opened or closed.
type ConnEvent struct {
	// ID is the server that it was dialled for, the same when it is opened and
	// closed; "" if it is inbound.
	ID ServerID
	// Peer is the address that was dialled, or the remote address of an
	// inbound connection.
	Peer ServerAddress
	// Host is Peer without its port, if the connection is inbound; "" otherwise, and
	// if Peer has no port.
	Host string
	// Inbound says that the connection was accepted, not dialled.
	Inbound bool
	// Err is why the connection was closed, io.EOF if the peer did it; nil
	// when it is opened. An ordinary end has a reason, too: that the pool has
	// enough connections, for example.
	Err error
	// Age is how long the connection was open, 0 when it is opened.
	Age time.Duration
}

// CallEvent says how a request to a peer ended.
type CallEvent struct {
	// Kind is the request, "AppendEntries" for example.
	Kind string
	// Heartbeat says that it is a bare heartbeat.
	Heartbeat bool
	// Pipelined says that it was sent on a pipeline.
	Pipelined bool
	// ID is the server that the caller named, in a pipeline the one that it was
	// opened for. Servers keep it when their address changes, so it is the label
	// for metrics.
	ID ServerID
	// Peer is the address it went to.
	Peer ServerAddress
	// Start is when the request was made.
	Start time.Time
	// Took is the time until its outcome was known: dialling, and in a
	// pipeline waiting for room, included.
	Took time.Duration
	// Entries is how many log entries it carried.
	Entries int
	// RequestBytes is what it had on the wire, the body of a snapshot included;
	// 0 if it was not sent.
	RequestBytes int64
	// ResponseBytes is what the answer had on the wire; 0 without an answer.
	ResponseBytes int64
	// Err is what the caller got: nil, a *RemoteError, an *OpError or a
	// sentinel.
	Err error
}

// lent are the events that hooks of calls are lent, so that none is allocated.
var lent = sync.Pool{New: func() any { return new(CallEvent) }}

func lend(hook func(*CallEvent), event *CallEvent) {
	e := lent.Get().(*CallEvent)
	*e = *event
	hook(e)
	*e = CallEvent{}
	lent.Put(e)
}

// ServeEvent says what became of a request of a peer.
type ServeEvent struct {
	// Kind is the request, "AppendEntries" for example.
	Kind string
	// Heartbeat says that it is a bare heartbeat.
	Heartbeat bool
	// Peer is the remote address of its connection.
	Peer ServerAddress
	// Host is Peer without its port; "" if Peer has no port.
	Host string
	// Entries is how many log entries it carried.
	Entries int
	// RequestBytes is what it had on the wire, the body of a snapshot included
	// as far as it was read.
	RequestBytes int64
	// ResponseBytes is what the answer has on the wire; 0 without an answer.
	ResponseBytes int64
	// Wait is the time from when this end was ready until the first byte came; 0 if
	// it was there already.
	Wait time.Duration
	// Decode is the time from then until the request was decoded, with the wait for
	// bytes that had not yet arrived. It is 0 for a request of up to 4 KiB that had
	// arrived whole: that time is next to none, and part of Enqueue.
	Decode time.Duration
	// Enqueue is the time until the core took the request from Consumer. For a
	// heartbeat that is the time of the heartbeat handler, if there is one.
	Enqueue time.Duration
	// Handle is the time from then until the answer was there, and the answers to
	// earlier requests of the connection: answers go out in order.
	Handle time.Duration
	// Err is the error that was answered; or, without an answer, why the
	// connection ended.
	Err error
}

// SnapshotEvent says how far a snapshot has come.
type SnapshotEvent struct {
	// ID is the server that it is sent to. It is "" if it is received, because nothing
	// verifies what a request says about its sender.
	ID ServerID
	// Peer is the address it is sent to, or the remote address of the
	// connection that it comes on.
	Peer ServerAddress
	// Inbound says that the snapshot is received, not sent.
	Inbound bool
	// Done is how many bytes of the body have been written or read, of Total,
	// which is Size: a body that is compressed under way is shorter.
	Done, Total int64
	// Over says that this is the last event. CallDone and ServeDone say whether the
	// snapshot was installed, and what was wrong if Done is less than Total.
	Over bool
}

// RefusalEvent says that an inbound connection was refused.
type RefusalEvent struct {
	// Reason is the name of the field that counts it in [Refusals].
	Reason string
	// Peer is the remote address of the connection.
	Peer ServerAddress
	// Host is Peer without its port; "" if Peer has no port.
	Host string
	// Err says what was wrong.
	Err error
}
