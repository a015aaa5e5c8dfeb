package raftwire_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
)

// Both ends of a request tell their hooks of it. The modules in the folder metrics
// have hooks for Prometheus, OpenTelemetry and go-metrics.
func ExampleHooks() {
	served := make(chan raftwire.ServeEvent, 1)
	follower, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		Timeout: 10 * time.Second,
		Logger:  hclog.NewNullLogger(),
		Hooks: raftwire.Hooks{
			ServeDone: func(e *raftwire.ServeEvent) { served <- *e }, // a copy: the event is lent
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	go func() {
		rpc := <-follower.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	candidate, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3,
		Timeout: 10 * time.Second,
		Logger:  hclog.NewNullLogger(),
		Hooks: raftwire.Hooks{
			Dialed:     func(e raftwire.DialEvent) { fmt.Println("dialled", e.ID, e.Err) },
			CallDone:   func(e *raftwire.CallEvent) { fmt.Println(e.Kind, "to", e.ID, e.Err) },
			ConnClosed: func(e raftwire.ConnEvent) { fmt.Println("closed", e.ID, "because of", e.Err) },
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer candidate.Close()
	_ = candidate.RequestVote("node-2", follower.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))
	e := <-served
	fmt.Println("served", e.Kind, "of", e.Host, e.Err)
	// Output:
	// dialled node-2 <nil>
	// RequestVote to node-2 <nil>
	// served RequestVote of 127.0.0.1 <nil>
	// closed node-2 because of transport shutdown
}

// What a transport has open and under way, for an operator's page or for metrics.
func ExampleStats() {
	follower, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	go func() {
		rpc := <-follower.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()
	candidate, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer candidate.Close()
	_ = candidate.RequestVote("node-2", follower.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))

	for _, peer := range candidate.Stats().Peers {
		fmt.Println("to", peer.ID, "idle:", peer.Idle, "in use:", peer.InUse, "answered:", !peer.LastSuccess.IsZero())
	}
	for _, host := range follower.Stats().Inbound {
		fmt.Println("from", host.Host, "connections:", host.Conns)
	}
	// Output:
	// to node-2 idle: 1 in use: 0 answered: true
	// from 127.0.0.1 connections: 1
}

// A scanner speaks HTTP to the port of Raft. The transport closes the connection,
// counts it, and says what it was.
func ExampleRefusals() {
	refused := make(chan raftwire.RefusalEvent, 1)
	transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		Timeout: 10 * time.Second,
		Logger:  hclog.NewNullLogger(),
		Hooks:   raftwire.Hooks{Refused: func(e raftwire.RefusalEvent) { refused <- e }},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()

	scanner, err := net.Dial("tcp", string(transport.LocalAddr()))
	if err != nil {
		log.Fatal(err)
	}
	defer scanner.Close()
	fmt.Fprint(scanner, "GET / HTTP/1.1\r\n\r\n")
	e := <-refused
	fmt.Println(e.Reason, "from", e.Host)
	fmt.Println("foreign:", transport.Refusals().Foreign)
	// Output:
	// Foreign from 127.0.0.1
	// foreign: 1
}

// The follower reads the body before it answers. The leader's hook says how far
// the snapshot has come.
func ExampleNetworkTransport_InstallSnapshot() {
	follower, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer follower.Close()
	go func() {
		rpc := <-follower.Consumer()
		command := rpc.Command.(*raftwire.InstallSnapshotRequest)
		body, err := io.ReadAll(rpc.Reader) // or copy it to a file
		rpc.Respond(&raftwire.InstallSnapshotResponse{Term: command.Term, Success: string(body) == "x=1"}, err)
	}()

	leader, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		Timeout: 10 * time.Second,
		Logger:  hclog.NewNullLogger(),
		Hooks: raftwire.Hooks{SnapshotProgress: func(e raftwire.SnapshotEvent) {
			if e.Over {
				fmt.Printf("sent %d of %d bytes to %s\n", e.Done, e.Total, e.ID)
			}
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer leader.Close()
	request := &raftwire.InstallSnapshotRequest{Term: 7, LastLogIndex: 1000, LastLogTerm: 7, Size: 3}
	var response raftwire.InstallSnapshotResponse
	err = leader.InstallSnapshot("node-2", follower.LocalAddr(), request, &response, strings.NewReader("x=1"))
	fmt.Println("installed:", response.Success, err)
	// Output:
	// sent 3 of 3 bytes to node-2
	// installed: true <nil>
}
