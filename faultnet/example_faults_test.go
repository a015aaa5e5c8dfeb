package faultnet_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

// The process on a host dies, and starts again: its peers are reset, dials are
// refused, and then it listens anew. PowerOff is the same, but nobody is told.
func ExampleHost() {
	network := faultnet.New(1)
	server := network.Host("server")
	if _, err := server.Listen(); err != nil {
		log.Fatal(err)
	}
	dial := func() {
		conn, err := network.Host("client").Dial(context.Background(), "server")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("connected")
		_ = conn.Close()
	}
	dial()
	server.Crash()
	dial()
	server.Restart()
	if _, err := server.Listen(); err != nil {
		log.Fatal(err)
	}
	dial()
	// Output:
	// connected
	// dial faultnet server: connection refused
	// connected
}

// A link has one direction, and is bad in one or more ways: here it breaks a
// connection in the middle of a message. What was sent before arrives.
func ExampleLink() {
	network := faultnet.New(1)
	layer, err := network.Host("server").Listen()
	if err != nil {
		log.Fatal(err)
	}
	client, err := network.Host("client").Dial(context.Background(), "server")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	server, err := layer.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	link := network.Link("client", "server")
	link.SetLatency(time.Millisecond)
	link.ResetAfter(5)
	_, err = client.Write([]byte("hello, world"))
	fmt.Println(err)
	data, err := io.ReadAll(server)
	fmt.Println(string(data), err)
	// Output:
	// write faultnet client:40001->server: connection reset by peer
	// hello read faultnet server->client:40001: connection reset by peer
}

// A Layer is the Stream of a NetworkTransport.
func ExampleLayer() {
	network := faultnet.New(1)
	listen := func(host string) *raftwire.NetworkTransport {
		layer, err := network.Host(host).Listen()
		if err != nil {
			log.Fatal(err)
		}
		return raftwire.NewNetworkTransport(layer, 3, time.Second, io.Discard)
	}
	candidate, voter := listen("candidate"), listen("voter")
	go func() {
		rpc := <-voter.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()
	network.Slice(1) // every Read returns one byte
	var vote raftwire.RequestVoteResponse
	err := candidate.RequestVote("voter", "voter", &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)

	fmt.Println(candidate.Close(), voter.Close())
	fmt.Println("open:", network.OpenConns())
	// Output:
	// true <nil>
	// <nil> <nil>
	// open: 0
}

// A fault is a value, which a table of test cases can hold.
func ExampleFault() {
	network := faultnet.New(1)
	for _, fault := range []faultnet.Fault{
		{Action: faultnet.Latency, Hosts: []string{"a", "b"}, Time: 20 * time.Millisecond},
		{Action: faultnet.Isolate, Hosts: []string{"a"}},
		{Action: faultnet.Heal},
		{Action: faultnet.Crash},
	} {
		fmt.Println(fault, "-", network.Apply(fault))
	}
	// Output:
	// latency a b 20ms - <nil>
	// isolate a - <nil>
	// heal - <nil>
	// crash - faultnet: crash names 1 hosts, not 0
}

// A plan runs on transports in memory, too. After a crash, the program adds a
// transport again, as a process that starts.
func ExampleInmem() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: time.Second})
	defer network.Close()
	a := network.Add("a")
	network.Add("b")
	plan, err := faultnet.ParsePlan("0s crash b\n1ms restart b")
	if err != nil {
		log.Fatal(err)
	}
	err = plan.Run(context.Background(), faultnet.Inmem(network), func(step faultnet.Step) {
		if step.Action == faultnet.Restart {
			b := network.Add(raftwire.ServerAddress(step.Hosts[0]))
			go func() {
				rpc := <-b.Consumer()
				rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
			}()
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	var vote raftwire.RequestVoteResponse
	err = a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)
	// Output: true <nil>
}
