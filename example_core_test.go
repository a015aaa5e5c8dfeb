package raftwire_test

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/raftwire/raftwire"
)

// node is a Raft core, as far as its transport is concerned. It takes any
// Transport, and asks it for what only some have.
type node struct {
	transport raftwire.Transport
	stop      chan struct{}
	done      sync.WaitGroup
}

func start(transport raftwire.Transport) *node {
	n := &node{transport: transport, stop: make(chan struct{})}
	n.done.Go(n.run)
	return n
}

// run answers each request once. Consumer is never closed, so stop ends it.
func (n *node) run() {
	for {
		select {
		case rpc := <-n.transport.Consumer():
			rpc.Respond(n.answer(rpc))
		case <-n.stop:
			return
		}
	}
}

func (n *node) answer(rpc raftwire.RPC) (any, error) {
	switch command := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		return &raftwire.AppendEntriesResponse{Term: command.Term, Success: true}, nil
	case *raftwire.RequestVoteRequest:
		return &raftwire.RequestVoteResponse{Term: command.Term, Granted: true}, nil
	case *raftwire.RequestPreVoteRequest:
		return &raftwire.RequestPreVoteResponse{Term: command.Term, Granted: true}, nil
	case *raftwire.InstallSnapshotRequest:
		_, err := io.Copy(io.Discard, rpc.Reader) // read the body before you answer
		return &raftwire.InstallSnapshotResponse{Term: command.Term, Success: err == nil}, err
	case *raftwire.TimeoutNowRequest:
		return &raftwire.TimeoutNowResponse{}, nil
	default:
		return nil, errors.New("unknown request")
	}
}

// wouldWin asks a peer before an election whether it would vote for this node.
func (n *node) wouldWin(id raftwire.ServerID, peer raftwire.ServerAddress, term uint64) bool {
	transport, ok := n.transport.(raftwire.WithPreVote)
	if !ok {
		return true
	}
	self := raftwire.RPCHeader{Addr: n.transport.EncodePeer("a", n.transport.LocalAddr())}
	var response raftwire.RequestPreVoteResponse
	err := transport.RequestPreVote(id, peer, &raftwire.RequestPreVoteRequest{RPCHeader: self, Term: term}, &response)
	return err == nil && response.Granted
}

func (n *node) shutDown() error {
	close(n.stop)
	n.done.Wait()
	if transport, ok := n.transport.(raftwire.WithClose); ok {
		return transport.Close()
	}
	return nil
}

// The part of a Raft core that meets its transport: a loop that answers the
// requests of peers, a call, and the order in which to stop.
func ExampleTransport() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	a, b := start(network.Add("a")), start(network.Add("b"))
	fmt.Println("a would win:", a.wouldWin("b", "b", 8))
	fmt.Println(a.shutDown(), b.shutDown())
	// Output:
	// a would win: true
	// <nil> <nil>
}
