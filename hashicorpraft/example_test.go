package hashicorpraft_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
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
	node, err := startNode(transport, transport.LocalAddr()) // raft.NewRaft and the rest, as before
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

// Options that only raftwire has are added to the configuration that a program
// has, and the transport that raftwire makes of it is wrapped.
func ExampleWrapNetwork() {
	config := hashicorpraft.WireConfig(&raft.NetworkTransportConfig{
		MaxPool:         3,
		MaxRPCsInFlight: 130,
		Timeout:         10 * time.Second,
	})
	config.RestoreTimeout = time.Hour
	config.Hooks.Dialed = func(d raftwire.DialEvent) { fmt.Println("dialled", d.Peer, "failed:", d.Err != nil) }

	network, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := hashicorpraft.WrapNetwork(network)
	defer transport.Close()
	_ = transport.TimeoutNow("nobody", "127.0.0.1:1", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
	// Output: dialled 127.0.0.1:1 failed: true
}

// A node that refuses nodes of other clusters, and whoever was started at the address
// of a node that it means. Node is the LocalID of the raft.Config.
func ExampleWrapNetwork_identity() {
	start := func(cluster string, node raftwire.ServerID) *hashicorpraft.NetworkTransport {
		config := hashicorpraft.WireConfig(&raft.NetworkTransportConfig{
			MaxPool: 3,
			Timeout: 10 * time.Second,
			Logger:  hclog.NewNullLogger(),
		})
		config.Identity = raftwire.Identity{Cluster: cluster, Node: node}
		network, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, config)
		if err != nil {
			panic(err)
		}
		return hashicorpraft.WrapNetwork(network)
	}
	n1, other := start("prod", "n1"), start("test", "n2")
	defer n1.Close()
	defer other.Close()
	err := n1.TimeoutNow("n2", other.LocalAddr(), &raft.TimeoutNowRequest{}, new(raft.TimeoutNowResponse))
	fmt.Println(errors.Is(err, raftwire.ErrWrongCluster))
	// Output: true
}

// A transport of your own, and all that raftwire builds for its own ones, under
// hashicorp/raft. Run package transporttest on such a transport first.
func ExampleWrap() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	defer network.Close()
	var own raftwire.Transport = network.Add("a") // stands for yours
	transport := hashicorpraft.Wrap(own)
	node, err := startNode(transport, transport.LocalAddr())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("leads:", <-node.LeaderCh())
	fmt.Println("stops:", node.Shutdown().Error() == nil) // closes the transport
	// Output:
	// leads: true
	// stops: true
}

// Over TLS: the same configuration, and who the peers are.
func ExampleNewTLSTransport() {
	files := certificates() // of this node, by whoever issues yours
	defer os.RemoveAll(files.Dir)
	transport, err := hashicorpraft.NewTLSTransport("127.0.0.1:0", nil, layers.TLSConfig{
		CertFile:   files.Cert(),
		KeyFile:    files.Key(),
		CAFile:     files.CA(),
		ServerName: "server.dc1.consul", // every peer has this name in its certificate
	}, &raft.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(transport.Close())
	// Output: <nil>
}

// New certificates count from now on, for the peers that are connected as well.
func ExampleNetworkTransport_Reload() {
	files := certificates()
	defer os.RemoveAll(files.Dir)
	transport, err := hashicorpraft.NewTLSTransport("127.0.0.1:0", nil, layers.TLSConfig{
		CertFile:   files.Cert(),
		KeyFile:    files.Key(),
		CAFile:     files.CA(),
		ServerName: "server.dc1.consul",
	}, &raft.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer transport.Close()
	ca := testca.New() // the files change, at best by a rename
	testca.WriteFiles(files.Dir, ca.Issue(), ca)
	fmt.Println(transport.Reload())
	transport.CloseStreams()
	// Output: <nil>
}

// TLS over a layer that stays the application's.
func ExampleWireStream() {
	files := certificates()
	defer os.RemoveAll(files.Dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	own := myStream{listener} // a raft.StreamLayer
	secured, err := layers.NewTLS(hashicorpraft.WireStream(own), layers.TLSConfig{
		CertFile:   files.Cert(),
		KeyFile:    files.Key(),
		CAFile:     files.CA(),
		ServerName: "server.dc1.consul",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := hashicorpraft.NewNetworkTransport(hashicorpraft.RaftStream(secured), 3, 10*time.Second, io.Discard)
	fmt.Println(transport.Close())
	// Output: <nil>
}

// A layer of raftwire under hashicorp/raft's own transport. A cluster takes this
// step first, and the transport itself changes in another.
func ExampleRaftStream() {
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: tcp})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer mux.Close()
	layer, err := mux.Layer(layers.FirstByte(11))
	if err != nil {
		fmt.Println(err)
		return
	}
	transport := raft.NewNetworkTransport(hashicorpraft.RaftStream(layer), 3, 10*time.Second, io.Discard)
	// later: hashicorpraft.NewNetworkTransport(hashicorpraft.RaftStream(layer), ...
	fmt.Println(transport.LocalAddr() == raft.ServerAddress(tcp.Addr().String()), transport.Close())
	// Output: true <nil>
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

func certificates() testca.Files {
	dir, err := os.MkdirTemp("", "hashicorpraft")
	if err != nil {
		panic(err)
	}
	ca := testca.New()
	return testca.WriteFiles(dir, ca.Issue(), ca)
}

type myStream struct{ net.Listener }

func (s myStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

// A cluster in one process whose leader is cut off: the others elect another.
// In a test, put such code into a testing/synctest bubble: then seconds take
// no time.
func ExampleNewInmemNetwork() {
	network := hashicorpraft.NewInmemNetwork(raftwire.InmemNetworkConfig{Latency: time.Millisecond})
	events := make(chan raft.Observation, 100)
	addrs := []raft.ServerAddress{"a", "b", "c"}
	for _, addr := range addrs {
		node, err := startNode(network.Add(addr), addrs...)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = node.Shutdown().Error() }() // closes the transport
		node.RegisterObserver(raft.NewObserver(events, false, isLeader))
	}

	first := otherLeader(events, "")
	network.Isolate(first)
	second := otherLeader(events, first)
	fmt.Println("another leads:", second != first)
	network.Heal()
	// Output: another leads: true
}

func isLeader(o *raft.Observation) bool {
	leader, ok := o.Data.(raft.LeaderObservation)
	return ok && leader.LeaderAddr != ""
}

// otherLeader waits until a node follows another leader than old.
func otherLeader(events <-chan raft.Observation, old raft.ServerAddress) raft.ServerAddress {
	for {
		event := <-events
		if leader := event.Data.(raft.LeaderObservation).LeaderAddr; leader != old {
			return leader
		}
	}
}

// startNode starts a node of a cluster with members at these addresses.
func startNode(transport raft.Transport, members ...raft.ServerAddress) (*raft.Raft, error) {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(transport.LocalAddr())
	config.HeartbeatTimeout = 300 * time.Millisecond
	config.ElectionTimeout = config.HeartbeatTimeout
	config.LeaderLeaseTimeout = config.HeartbeatTimeout
	config.LogOutput = io.Discard
	store := raft.NewInmemStore()
	snapshots := raft.NewDiscardSnapshotStore()
	var servers []raft.Server
	for _, addr := range members {
		servers = append(servers, raft.Server{ID: raft.ServerID(addr), Address: addr})
	}
	if err := raft.BootstrapCluster(config, store, store, snapshots, transport, raft.Configuration{Servers: servers}); err != nil {
		return nil, err
	}
	return raft.NewRaft(config, new(raft.MockFSM), store, store, snapshots, transport)
}
