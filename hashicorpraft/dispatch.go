package hashicorpraft

import (
	"io"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/dispatch"
)

var (
	_ raftwire.Dispatcher    = dispatcher{}
	_ raftwire.ServeObserver = dispatcher{}
)

// dispatcher hands the requests of one connection to the core as raft.RPC.
type dispatcher struct {
	conn *dispatch.ConnDispatcher[raft.RPC, raft.RPCResponse]
}

// open returns the dispatcher of a connection that ends when done is closed.
func (t *Transport) open(done <-chan struct{}) raftwire.Dispatcher {
	return dispatcher{t.inbox.Open(done)}
}

// newRPC makes the request that a core receives.
func newRPC(command any, body io.Reader, answers chan<- raft.RPCResponse) raft.RPC {
	return raft.RPC{Command: raftCommand(command), Reader: body, RespChan: answers}
}

// Dispatch implements raftwire.Dispatcher.
func (d dispatcher) Dispatch(command any, body io.Reader, heartbeat bool) raftwire.PendingAnswer {
	answers := d.conn.Dispatch(command, body, heartbeat)
	if answers == nil {
		return nil
	}
	return pendingAnswer{answers} // costs no allocation
}

// OnWait implements raftwire.WaitObserver.
func (d dispatcher) OnWait(waits func()) { d.conn.OnWait(waits) }

// ServeDone implements raftwire.ServeObserver: while the application has set up no
// metrics, nothing is timed.
func (d dispatcher) ServeDone() func(*raftwire.ServeEvent) { return observer() }

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
