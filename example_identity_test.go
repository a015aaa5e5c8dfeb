package raftwire_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
)

// A node of the cluster "test" was started at an address at which one of the cluster
// "prod" expects its node "n2". Its core gets nothing of that.
func ExampleIdentity() {
	logger := hclog.New(&hclog.LoggerOptions{Output: io.Discard}) // nil in a program
	start := func(cluster string, node raftwire.ServerID) *raftwire.NetworkTransport {
		transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
			MaxPool:  3,
			Identity: raftwire.Identity{Cluster: cluster, Node: node},
			Logger:   logger,
		})
		if err != nil {
			panic(err)
		}
		return transport
	}
	n1, other := start("prod", "n1"), start("test", "n2")
	defer n1.Close()
	defer other.Close()

	request := &raftwire.RequestVoteRequest{RPCHeader: raftwire.RPCHeader{ID: []byte("n1")}, Term: 8}
	err := n1.RequestVote("n2", other.LocalAddr(), request, new(raftwire.RequestVoteResponse))
	fmt.Println(errors.Is(err, raftwire.ErrWrongCluster))
	fmt.Println(errors.Unwrap(err))
	// Output:
	// true
	// wrong cluster: the peer refuses this node, and is node "n2" of cluster "test"; this is node "n1" of cluster "prod", and means node "n2"
}
