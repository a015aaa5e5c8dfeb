package raftwire

import (
	"sync"
	"sync/atomic"
	"time"
)

// appendFuture is an [AppendFuture].
type appendFuture struct {
	start time.Time
	args  *AppendEntriesRequest
	resp  *AppendEntriesResponse

	bytes     atomic.Int64 // of the request on the wire; 0 before it is posted
	entries   int          // of args; only for hooks, as is heartbeat
	heartbeat bool

	unsettled sync.WaitGroup // done by settle
	err       error          // set before that
}

// newFuture returns the future of a request that is made now.
func newFuture(args *AppendEntriesRequest, resp *AppendEntriesResponse) *appendFuture {
	f := &appendFuture{start: time.Now(), args: args, resp: resp}
	f.unsettled.Add(1)
	return f
}

// settle is called once.
func (f *appendFuture) settle(err error) {
	f.err = err
	f.unsettled.Done()
}

// Error implements [Future].
func (f *appendFuture) Error() error {
	f.unsettled.Wait()
	return f.err
}

// Start implements [AppendFuture].
func (f *appendFuture) Start() time.Time { return f.start }

// Request implements [AppendFuture].
func (f *appendFuture) Request() *AppendEntriesRequest { return f.args }

// Response implements [AppendFuture].
func (f *appendFuture) Response() *AppendEntriesResponse { return f.resp }
