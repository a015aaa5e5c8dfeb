package raftwire

import (
	"sync/atomic"
	"time"
)

// appendFuture is an [AppendFuture].
type appendFuture struct {
	pipeline *pipeline
	start    time.Time
	args     *AppendEntriesRequest
	resp     *AppendEntriesResponse

	bytes     atomic.Int64 // of the request on the wire; 0 before it is posted
	entries   int          // of args; only for hooks, as is heartbeat
	heartbeat bool

	consumed  bool          // protected by pipeline.mu, as are large, abandoned and waiter
	large     bool          // counted in pipeline.large
	abandoned bool          // AppendEntries did not return it
	waiter    chan struct{} // made by an Error that has to wait
	err       error         // set before settled
	settled   atomic.Bool
}

// settle is called with pipeline.mu held, once.
func (f *appendFuture) settle(err error) {
	f.err = err
	f.settled.Store(true)
	if f.waiter != nil {
		close(f.waiter)
	}
}

// Error implements [Future].
func (f *appendFuture) Error() error {
	if waiter := f.unsettled(); waiter != nil {
		<-waiter
	}
	return f.err
}

// unsettled returns a channel that is closed when f settles, or nil if it has.
func (f *appendFuture) unsettled() <-chan struct{} {
	if f.settled.Load() {
		return nil
	}
	f.pipeline.mu.Lock()
	defer f.pipeline.mu.Unlock()
	if f.settled.Load() {
		return nil
	}
	if f.waiter == nil {
		f.waiter = make(chan struct{})
	}
	return f.waiter
}

// Start implements [AppendFuture].
func (f *appendFuture) Start() time.Time { return f.start }

// Request implements [AppendFuture].
func (f *appendFuture) Request() *AppendEntriesRequest { return f.args }

// Response implements [AppendFuture].
func (f *appendFuture) Response() *AppendEntriesResponse { return f.resp }
