package dispatch_test

import (
	"fmt"
	"io"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/dispatch"
)

// request is how a Raft core that exists already takes requests.
type request struct {
	message any
	body    io.Reader
	answer  chan<- reply
}

type reply struct {
	message any
	err     error
}

// conn is a raftwire.Dispatcher for one connection.
type conn struct {
	*dispatch.ConnDispatcher[request, reply]
}

func (c conn) Dispatch(command any, body io.Reader, heartbeat bool) raftwire.PendingAnswer {
	answers := c.ConnDispatcher.Dispatch(command, body, heartbeat)
	if answers == nil {
		return nil // not an interface that holds a nil channel
	}
	return pending{answers}
}

// pending turns the core's answer into the transport's.
type pending struct{ dispatch.Answers[reply] }

func (p pending) Await(done <-chan struct{}) (raftwire.RPCResponse, bool) {
	r, ok := p.Answers.Await(done)
	return raftwire.RPCResponse{Response: r.message, Error: r.err}, ok
}

// A core with request types of its own gets its requests without a goroutine
// between the connection and the core.
func ExampleDispatcher() {
	requests := make(chan request)
	dispatcher := dispatch.New(requests, func(command any, body io.Reader, answers chan<- reply) request {
		return request{message: command, body: body, answer: answers}
	})
	go func() {
		r := <-requests
		term := r.message.(*raftwire.RequestVoteRequest).Term
		r.answer <- reply{message: &raftwire.RequestVoteResponse{Term: term, Granted: true}} // does not block
	}()

	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	defer network.Close()
	candidate, voter := network.Add("candidate"), network.Add("voter")
	voter.SetDispatcher(func(done <-chan struct{}) raftwire.Dispatcher { return conn{dispatcher.Open(done)} })

	var vote raftwire.RequestVoteResponse
	err := candidate.RequestVote("voter", "voter", &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)
	// Output: true <nil>
}
