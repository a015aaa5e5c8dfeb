package raftwire_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/raftwire/raftwire"
)

// stream is a listener, and a way to dial the listeners of peers.
type stream struct {
	net.Listener
	dialer net.Dialer // or a proxy's, or a tunnel's
}

func (s *stream) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	return s.DialContext(ctx, address)
}

// DialContext is optional. With it, Close ends a dial under way.
func (s *stream) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return s.dialer.DialContext(ctx, "tcp", string(address))
}

// A stream layer of your own. For TCP, Unix sockets, TLS and shared ports there
// are NewTCPStreamLayer and package layers.
func ExampleStreamLayer() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	transport := raftwire.NewNetworkTransport(&stream{Listener: listener}, 3, 10*time.Second, io.Discard)
	defer transport.Close() // closes the stream, too
	go func() {
		rpc := <-transport.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	var response raftwire.RequestVoteResponse
	err = transport.RequestVote("self", transport.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, &response)
	fmt.Println(response.Granted, err)
	// Output: true <nil>
}
