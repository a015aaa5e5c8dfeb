package raftwire_test

import (
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

func Example() {
	follower, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	go func() {
		rpc := <-follower.Consumer()
		command := rpc.Command.(*raftwire.AppendEntriesRequest)
		rpc.Respond(&raftwire.AppendEntriesResponse{Term: command.Term, Success: true}, nil)
	}()

	leader, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer leader.Close()
	request := &raftwire.AppendEntriesRequest{Term: 7, Entries: []*raftwire.Log{{Index: 1, Term: 7, Data: []byte("set x=1")}}}
	var response raftwire.AppendEntriesResponse
	err = leader.AppendEntries("follower", follower.LocalAddr(), request, &response)
	fmt.Println(response.Success, response.Term, err)
	// Output: true 7 <nil>
}

// Three requests are on their way before the first answer is looked at. The
// futures come in the order of the requests.
func ExampleNetworkTransport_AppendEntriesPipeline() {
	config := &raftwire.NetworkTransportConfig{MaxRPCsInFlight: 16, Timeout: 10 * time.Second, Logger: hclog.NewNullLogger()}
	follower, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	go func() {
		for range 3 {
			rpc := <-follower.Consumer()
			command := rpc.Command.(*raftwire.AppendEntriesRequest)
			last := command.PrevLogEntry + uint64(len(command.Entries))
			rpc.Respond(&raftwire.AppendEntriesResponse{LastLog: last, Success: true}, nil)
		}
	}()

	leader, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	if err != nil {
		log.Fatal(err)
	}
	defer leader.Close()
	pipeline, err := leader.AppendEntriesPipeline("follower", follower.LocalAddr())
	if err != nil {
		log.Fatal(err)
	}
	defer pipeline.Close()
	for index := range uint64(3) {
		request := &raftwire.AppendEntriesRequest{PrevLogEntry: index, Entries: []*raftwire.Log{{Index: index + 1}}}
		if _, err := pipeline.AppendEntries(request, new(raftwire.AppendEntriesResponse)); err != nil {
			log.Fatal(err)
		}
	}
	for range 3 {
		future := <-pipeline.Consumer()
		fmt.Println(future.Response().Success, future.Response().LastLog, future.Error())
	}
	// Output:
	// true 1 <nil>
	// true 2 <nil>
	// true 3 <nil>
}

// A route has a direction: the candidate is connected to the voter, and not
// the other way round.
func ExampleNewInmemTransport() {
	_, candidate := raftwire.NewInmemTransport("candidate")
	defer candidate.Close()
	address, voter := raftwire.NewInmemTransport("voter")
	defer voter.Close()
	candidate.Connect(address, voter)
	go func() {
		rpc := <-voter.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	var response raftwire.RequestVoteResponse
	err := candidate.RequestVote("voter", address, &raftwire.RequestVoteRequest{Term: 8}, &response)
	fmt.Println(response.Granted, err)

	candidate.Disconnect(address)
	err = candidate.RequestVote("voter", address, &raftwire.RequestVoteRequest{Term: 9}, &response)
	fmt.Println(response.Granted, err)
	// Output:
	// true <nil>
	// false RequestVote to voter: failed to connect to peer: voter
}

// Three nodes in memory, and one of them cut off. In a test, put such code into
// a testing/synctest bubble: then the timeout is exact and takes no time.
func ExampleInmemNetwork() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Seed: 1, Latency: time.Millisecond})
	defer network.Close()
	a, b, _ := network.Add("a"), network.Add("b"), network.Add("c")
	go func() {
		for range 2 {
			rpc := <-b.Consumer()
			rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
		}
	}()

	ask := func() {
		var response raftwire.RequestVoteResponse
		err := a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 8}, &response)
		fmt.Println(response.Granted, err)
	}
	ask()
	network.Isolate("a")
	ask()
	network.Heal()
	ask()
	// Output:
	// true <nil>
	// false RequestVote to b: send timed out
	// true <nil>
}

// Package faultnet is a network whose faults are switched on and off. In a
// test, put such code into a testing/synctest bubble: then deadlines are exact
// and take no time.
func ExampleNewNetworkTransport_faults() {
	network := faultnet.New(1)
	node := func(host string) *raftwire.NetworkTransport {
		stream, err := network.Host(host).Listen()
		if err != nil {
			log.Fatal(err)
		}
		return raftwire.NewNetworkTransport(stream, 3, 10*time.Second, io.Discard)
	}
	candidate, voter := node("candidate"), node("voter")
	defer candidate.Close()
	defer voter.Close()
	go func() {
		rpc := <-voter.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	ask := func() {
		var response raftwire.RequestVoteResponse
		if err := candidate.RequestVote("voter", "voter", &raftwire.RequestVoteRequest{Term: 8}, &response); err != nil {
			fmt.Println("no answer")
			return
		}
		fmt.Println("granted:", response.Granted)
	}
	network.Host("voter").Refuse(true)
	ask()
	network.Host("voter").Refuse(false)
	ask()
	// Output:
	// no answer
	// granted: true
}
