package raftwire_test

import (
	"fmt"
	"log"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
)

// registry knows where each server is now. It stands for a file, a service
// catalogue, or the members that gossip has found.
type registry map[raftwire.ServerID]raftwire.ServerAddress

func (r registry) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) {
	if address, ok := r[id]; ok {
		return address, nil
	}
	return "", fmt.Errorf("no server %s", id)
}

// Servers get new addresses, and keep their IDs. Raft's own configuration may
// still have an old address: the provider's answer counts.
func ExampleServerAddressProvider() {
	moved, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{Logger: hclog.NewNullLogger()})
	if err != nil {
		log.Fatal(err)
	}
	defer moved.Close()
	go func() {
		rpc := <-moved.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		ServerAddressProvider: registry{"node-2": moved.LocalAddr()},
		NoAddressFallback:     true, // the old address may be another server's by now
		Timeout:               10 * time.Second,
		Logger:                hclog.NewNullLogger(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	var response raftwire.RequestVoteResponse
	err = transport.RequestVote("node-2", "10.0.0.2:8300", &raftwire.RequestVoteRequest{Term: 8}, &response)
	fmt.Println(response.Granted, err)
	// Output: true <nil>
}
