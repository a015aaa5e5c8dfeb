package raftwire

import "io"

// This file is for adapters to Raft implementations with message types of their own. An
// adapter takes requests and futures without a goroutine, a copy or a channel between
// itself and the transport. Most programs use Consumer and AppendEntriesPipeline, and
// need nothing of this file. Both transports of this package implement [WithDispatcher]
// and [WithPipelineSink].

// Dispatcher hands the requests of one inbound connection to a Raft core, in
// order. Its methods are called by the goroutine of that connection only.
type Dispatcher interface {
	// Dispatch hands a request over. It blocks until the core has taken the request,
	// and returns the answer to come. If the connection's done channel is closed
	// first, it returns nil. body is the snapshot that follows the request, or nil.
	// heartbeat says that the command is a bare heartbeat, which may be answered at
	// once.
	Dispatch(command any, body io.Reader, heartbeat bool) PendingAnswer
}

// PendingAnswer is the answer to a request that was handed over. It is used by
// one goroutine at a time, which need not be that of Dispatch.
type PendingAnswer interface {
	// Ready reports whether Await would return at once.
	Ready() bool

	// Await blocks for the answer, and is called once at most. It returns false
	// if done, which is the connection's, is closed first.
	Await(done <-chan struct{}) (RPCResponse, bool)
}

// ServeObserver may be implemented by a Dispatcher that wants to know how long
// requests take. Transports in memory do not time them.
type ServeObserver interface {
	// ServeDone is called before each request. It returns a function that is called
	// like [Hooks].ServeDone, with the same rules. If it returns nil, the transport
	// does not read the clock for the request.
	ServeDone() func(*ServeEvent)
}

// WaitObserver may be implemented by a Dispatcher whose Dispatch may block for long.
type WaitObserver interface {
	// OnWait is called once, before the first Dispatch. While Dispatch blocks, it must
	// call waits about every 50 ms. Then requests of peers that have gone are withdrawn,
	// and a snapshot's reader learns that others wait for the core.
	OnWait(waits func())
}

// WithDispatcher is implemented by transports that can hand inbound requests
// to something other than Consumer.
type WithDispatcher interface {
	// SetDispatcher makes the transport call open for each inbound connection, and
	// use its Dispatcher in place of Consumer and the heartbeat handler. nil takes
	// it away again. done is closed when the connection ends. Connections that are
	// already open use it from their next request on; pipelines in memory do not.
	SetDispatcher(open func(done <-chan struct{}) Dispatcher)
}

// PipelineSink takes the settled futures of a pipeline, one at a time and in order.
// It blocks until the future was consumed, and returns true. If stop is closed first,
// it returns false. With a nil stop it must not block, and must not call the pipeline,
// which is locked then; it may look at the future.
type PipelineSink func(future AppendFuture, stop <-chan struct{}) bool

// WithPipelineSink is implemented by transports whose pipelines can deliver
// to something other than their Consumer.
type WithPipelineSink interface {
	// AppendEntriesPipelineTo is AppendEntriesPipeline with a sink in place of the
	// pipeline's Consumer. Consumer then returns a channel that never yields anything.
	AppendEntriesPipelineTo(id ServerID, target ServerAddress, sink PipelineSink) (AppendPipeline, error)
}
