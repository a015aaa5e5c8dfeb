package raftwire_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/raftwire/raftwire"
)

// witness answers requests on the goroutine of their connection, without a
// Consumer and without a loop that reads it.
type witness struct{ granted raftwire.RequestVoteResponse }

func (w *witness) Dispatch(command any, _ io.Reader, heartbeat bool) raftwire.PendingAnswer {
	if _, ok := command.(*raftwire.RequestVoteRequest); !ok {
		return readyAnswer{Error: errors.New("a witness only votes")}
	}
	return readyAnswer{Response: &w.granted}
}

// readyAnswer is an answer that is there already. To answer later, let Await wait.
type readyAnswer raftwire.RPCResponse

func (a readyAnswer) Ready() bool { return true }

func (a readyAnswer) Await(<-chan struct{}) (raftwire.RPCResponse, bool) {
	return raftwire.RPCResponse(a), true
}

// Requests go to a Dispatcher in place of Consumer. Package dispatch has one that
// hands them to a channel of your own type.
func ExampleWithDispatcher() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	defer network.Close()
	candidate, voter := network.Add("candidate"), network.Add("voter")
	voter.SetDispatcher(func(done <-chan struct{}) raftwire.Dispatcher { // for each connection
		return &witness{granted: raftwire.RequestVoteResponse{Granted: true}}
	})

	var vote raftwire.RequestVoteResponse
	err := candidate.RequestVote("voter", "voter", &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)
	err = candidate.AppendEntries("voter", "voter", &raftwire.AppendEntriesRequest{Term: 8}, new(raftwire.AppendEntriesResponse))
	fmt.Println(err)
	// Output:
	// true <nil>
	// a witness only votes
}
