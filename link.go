package raftwire

import (
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/progress"
)

// link is one ordered connection to a peer, as a pipeline uses it: netLink
// over the network, inmemLink in memory.
type link interface {
	// post queues a request and stores its size on the wire. With soon another
	// goroutine sends it. An error ends the link.
	post(args *AppendEntriesRequest, size *atomic.Int64, soon bool) error

	// flush sends what was posted; finish returns only when it has been sent, or
	// the link has ended.
	flush()
	finish()

	// receive blocks for the next answer, and returns its bytes on the wire;
	// only one goroutine calls it, and it begins the wait of clock before it blocks, once. A
	// *RemoteError is an answer, any other error ends the link.
	receive(resp *AppendEntriesResponse, clock answerClock) (size int64, err error)

	// setDeadline limits a receive, also one under way. Zero is no limit.
	setDeadline(time.Time)

	// close ends the link; post and receive return err then. When it returns,
	// nothing that was posted is read any more.
	close(err error)
}

// answerClock limits the wait for an answer by the deadline of a link.
type answerClock interface {
	// beginWait sets the deadline of a wait that begins.
	beginWait()

	// extendWait is called when the deadline has passed and a read failed with err.
	// It sets a later one if a large request makes progress, which check finds out,
	// or returns why the wait is over.
	extendWait(check func(*progress.Clock) error, err error) error
}
