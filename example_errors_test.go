package raftwire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/raftwire/raftwire"
)

// What an error says of the request: may it be sent again? The errors are the
// same on all transports.
func ExampleOpError() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: 300 * time.Millisecond})
	a, b := network.Add("a"), network.Add("b")
	network.Add("c") // and nobody reads its Consumer
	go func() {
		rpc := <-b.Consumer()
		rpc.Respond(nil, errors.New("not in this cluster"))
	}()

	ask := func(peer raftwire.ServerAddress) {
		err := a.RequestVote(raftwire.ServerID(peer), peer, &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))
		var remote *raftwire.RemoteError
		var failed *raftwire.OpError
		switch {
		case errors.Is(err, raftwire.ErrTransportShutdown):
			fmt.Println("this transport is closed")
		case errors.As(err, &remote):
			fmt.Println(remote.Peer, "got it, and answered:", remote.Text)
		case errors.Is(err, os.ErrDeadlineExceeded):
			fmt.Println(peer, "did not answer in time, and may have got it")
		case errors.As(err, &failed):
			fmt.Println(failed.Op, "to", failed.Peer, "failed:", failed.Err)
		}
	}
	ask("b")
	ask("c")
	network.Crash("c")
	ask("c")
	_ = network.Close()
	ask("b")
	// Output:
	// b got it, and answered: not in this cluster
	// c did not answer in time, and may have got it
	// RequestVote to c failed: failed to connect to peer: c
	// this transport is closed
}

// A peer was removed from the cluster. What is under way to it ends at once, not
// by its deadline.
func ExampleWithClosePeer() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: time.Minute})
	defer network.Close()
	leader, removed := network.Add("leader"), network.Add("removed")
	ended := make(chan error)
	go func() {
		ended <- leader.AppendEntries("removed", "removed", &raftwire.AppendEntriesRequest{Term: 7}, new(raftwire.AppendEntriesResponse))
	}()
	<-removed.Consumer() // it has the request, and does not answer

	var transport raftwire.WithClosePeer = leader
	transport.ClosePeer("removed")
	fmt.Println(errors.Is(<-ended, raftwire.ErrClosePeer))
	// Output: true
}

// A candidate has won, and needs no more votes. A call to a peer that does not answer
// ends at once, not by its deadline.
func ExampleWithContext() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: time.Minute})
	defer network.Close()
	candidate, silent := network.Add("candidate"), network.Add("silent")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	var transport raftwire.WithContext = candidate
	go func() {
		ended <- transport.RequestVoteContext(ctx, "silent", "silent", &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))
	}()
	<-silent.Consumer() // it has the request, and does not answer

	cancel()
	err := <-ended
	fmt.Println(err)
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// RequestVote to silent: context canceled
	// true
}

// One direction is cut: the request arrives, and its answer does not. A Raft core
// must not take a timeout for a refusal.
func ExampleInmemLink() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: 300 * time.Millisecond})
	defer network.Close()
	a, b := network.Add("a"), network.Add("b")
	voted := make(chan any, 1)
	go func() {
		rpc := <-b.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
		voted <- rpc.Command
	}()

	back := network.Link("b", "a")
	back.Cut()
	err := a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))
	fmt.Println(err)
	fmt.Println("voted in term", (<-voted).(*raftwire.RequestVoteRequest).Term)
	// Output:
	// RequestVote to b: command timed out
	// voted in term 8
}
