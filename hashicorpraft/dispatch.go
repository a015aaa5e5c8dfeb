package hashicorpraft

import (
	"io"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
	"github.com/raftwire/raftwire/internal/dispatch"
	"github.com/raftwire/raftwire/internal/labels"
)

var (
	_ raftwire.Dispatcher       = dispatcher{}
	_ raftwire.DispatchObserver = dispatcher{}
)

// dispatcher hands the requests of one connection to the core as raft.RPC, and
// times them.
type dispatcher struct {
	line *dispatch.Line[raft.RPC, raft.RPCResponse]
}

// open returns the dispatcher of a connection that ends when done is closed.
func (t *Transport) open(done <-chan struct{}) raftwire.Dispatcher {
	return dispatcher{t.desk.Open(done)}
}

// newRPC makes the request that a core receives.
func newRPC(command any, body io.Reader, answers chan<- raft.RPCResponse) raft.RPC {
	return raft.RPC{Command: raftCommand(command), Reader: body, RespChan: answers}
}

// Observing implements raftwire.DispatchObserver: while the application has set up
// no metrics, nothing is timed.
func (d dispatcher) Observing() bool { return timers.Current().InUse() }

// KindRead implements raftwire.DispatchObserver.
func (d dispatcher) KindRead(since time.Time) {
	timers.Current().Measure(labels.GetRPCType, timers.Unlabelled, since)
}

// Decoded implements raftwire.DispatchObserver.
func (d dispatcher) Decoded(command any, heartbeat bool, since time.Time) {
	timers.Current().Measure(labels.RPCDecode, kindOf(command, heartbeat), since)
}

// Dispatch implements raftwire.Dispatcher.
func (d dispatcher) Dispatch(command any, body io.Reader, heartbeat bool) raftwire.PendingAnswer {
	watch := startStopwatch(command, heartbeat)
	answers := d.line.Dispatch(command, body, heartbeat)
	switch {
	case answers == nil:
		return nil
	case watch.running():
		return &timedAnswer{pendingAnswer{answers}, watch.lap(labels.RPCEnqueue)}
	default:
		return pendingAnswer{answers} // costs no allocation
	}
}

// pendingAnswer is the answer of a core, as a raftwire.PendingAnswer.
type pendingAnswer struct {
	dispatch.Answers[raft.RPCResponse]
}

func (p pendingAnswer) Await(done <-chan struct{}) (raftwire.RPCResponse, bool) {
	answer, ok := p.Answers.Await(done)
	if !ok {
		return raftwire.RPCResponse{}, false
	}
	return raftwire.RPCResponse{Response: wireAnswer(answer.Response), Error: answer.Error}, true
}

// timedAnswer is one that is timed.
type timedAnswer struct {
	pendingAnswer
	watch stopwatch
}

func (a *timedAnswer) Await(done <-chan struct{}) (raftwire.RPCResponse, bool) {
	answer, ok := a.pendingAnswer.Await(done)
	if ok {
		a.watch.lap(labels.RPCRespond)
	}
	return answer, ok
}
