//go:build linux

package layers_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
)

// A node behind a socket unit of systemd's, with ListenStream=10.0.0.1:8300. The socket
// stays open while the node restarts: peers that dial meanwhile are accepted later.
func ExampleFromListener_systemd() {
	socket := passedSocket() // os.NewFile(3, "raft") if LISTEN_PID is this process
	listener, err := net.FileListener(socket)
	if err != nil {
		log.Fatal(err)
	}
	_ = socket.Close() // listener has a copy
	transport := raftwire.NewNetworkTransport(layers.FromListener(listener, nil), 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go func() { // the Raft core
		rpc := <-transport.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	var response raftwire.RequestVoteResponse
	err = transport.RequestVote("node", transport.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, &response)
	fmt.Println(response.Granted, err)
	// Output: true <nil>
}

// passedSocket returns a socket that listens, as systemd passes one.
func passedSocket() *os.File {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		log.Fatal(err)
	}
	return socket
}
