package hashicorpraft_test

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft"
)

// The switch, as a diff of the program below:
//
//	--- main.go
//	+++ main.go
//	 import (
//	 	"github.com/hashicorp/raft"
//	+	"github.com/raftwire/raftwire/hashicorpraft"
//	 )
//	 ...
//	-	transport, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
//	+	transport, err := hashicorpraft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
func Example() {
	transport, err := hashicorpraft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		fmt.Println(err)
		return
	}
	node, err := startNode(transport) // raft.NewRaft and the rest, as before
	if err != nil {
		fmt.Println(err)
		return
	}
	leads := <-node.LeaderCh()
	fmt.Println("leads:", leads)
	fmt.Println("applies:", node.Apply([]byte("command"), time.Second).Error() == nil)
	fmt.Println("stops:", node.Shutdown().Error() == nil) // closes the transport
	// Output:
	// leads: true
	// applies: true
	// stops: true
}

// Options that only raftwire has are set there; the result is wrapped.
func ExampleWrapNetwork() {
	network, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool:          3,
		Timeout:          10 * time.Second,
		MaxRPCsInFlight:  130,
		MaxDispatchAhead: 32,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := hashicorpraft.WrapNetwork(network)
	defer transport.Close()
	fmt.Println(transport.LocalAddr() == raft.ServerAddress(network.LocalAddr()))
	// Output: true
}

// Nodes in one process need no sockets.
func ExampleNewInmemTransport() {
	addr1, transport1 := hashicorpraft.NewInmemTransport("")
	addr2, transport2 := hashicorpraft.NewInmemTransport("")
	transport1.Connect(addr2, transport2)
	transport2.Connect(addr1, transport1)
	fmt.Println(transport1.Close(), transport2.Close())
	// Output: <nil> <nil>
}

// An existing stream layer, for TLS say, is used as it is.
func ExampleNewNetworkTransportWithConfig() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	var stream raft.StreamLayer = myStream{listener}
	transport := hashicorpraft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  stream,
		MaxPool: 3,
		Timeout: 10 * time.Second,
	})
	fmt.Println(transport.Close())
	// Output: <nil>
}

type myStream struct{ net.Listener }

func (s myStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// startNode starts a cluster of one.
func startNode(transport raft.Transport) (*raft.Raft, error) {
	config := raft.DefaultConfig()
	config.LocalID = "node1"
	config.LogOutput = io.Discard
	store := raft.NewInmemStore()
	servers := []raft.Server{{ID: config.LocalID, Address: transport.LocalAddr()}}
	snapshots := raft.NewDiscardSnapshotStore()
	if err := raft.BootstrapCluster(config, store, store, snapshots, transport, raft.Configuration{Servers: servers}); err != nil {
		return nil, err
	}
	return raft.NewRaft(config, new(raft.MockFSM), store, store, snapshots, transport)
}
