package hashicorpraft

import (
	"io"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/dispatch"
	"github.com/raftwire/raftwire/internal/labels"
	"github.com/raftwire/raftwire/internal/ring"
)

var (
	_ raftwire.Dispatcher       = (*dispatcher)(nil)
	_ raftwire.DispatchObserver = (*dispatcher)(nil)
)

// dispatcher hands the requests of one connection to the core as raft.RPC, and
// times them. It is owned by the goroutine of that connection.
type dispatcher struct {
	line *dispatch.Line[raft.RPC, raft.RPCResponse]

	offered stopwatch             // the request being offered
	taken   ring.Queue[stopwatch] // those that wait for their answers
}

// open returns the dispatcher of a connection that ends when done is closed.
func (t *Transport) open(done <-chan struct{}) raftwire.Dispatcher {
	return &dispatcher{line: t.desk.Open(done)}
}

// newRPC makes the request that a core receives.
func newRPC(command any, body io.Reader, answers chan<- raft.RPCResponse) raft.RPC {
	return raft.RPC{Command: raftCommand(command), Reader: body, RespChan: answers}
}

// KindRead implements raftwire.DispatchObserver.
func (d *dispatcher) KindRead(since time.Time) {
	if registry.inUse() {
		registry.measure(labels.GetRPCType, unlabelled, since)
	}
}

// Decoded implements raftwire.DispatchObserver.
func (d *dispatcher) Decoded(command any, heartbeat bool, since time.Time) {
	if registry.inUse() {
		registry.measure(labels.RPCDecode, kindOf(command, heartbeat), since)
	}
}

// Dispatch implements raftwire.Dispatcher.
func (d *dispatcher) Dispatch(command any, body io.Reader, heartbeat bool) bool {
	if !d.offered.running() {
		d.offered = startStopwatch(command, heartbeat)
	}
	if !d.line.Dispatch(command, body, heartbeat) {
		return false
	}
	d.taken.Push(d.offered.lap(labels.RPCEnqueue))
	d.offered = stopwatch{}
	return true
}

// Ready implements raftwire.Dispatcher.
func (d *dispatcher) Ready() bool { return d.line.Ready() }

// Answer implements raftwire.Dispatcher.
func (d *dispatcher) Answer() (raftwire.RPCResponse, bool) {
	answer, ok := d.line.Answer()
	if !ok {
		return raftwire.RPCResponse{}, false
	}
	d.taken.Pop().lap(labels.RPCRespond)
	return raftwire.RPCResponse{Response: wireAnswer(answer.Response), Error: answer.Error}, true
}
