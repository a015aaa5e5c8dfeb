package layers_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
)

// A listener that something else has opened, and a way to dial peers. For a
// socket of systemd's, listener is what net.FileListener(os.NewFile(3, "raft"))
// returns. For tsnet it is the server's Listen, and dial calls the server's Dial.
func ExampleFromListener() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	dial := func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", string(address))
	}
	transport := raftwire.NewNetworkTransport(layers.FromListener(listener, dial), 3, time.Second, io.Discard)
	defer transport.Close() // closes the listener, too
	go func() {
		rpc := <-transport.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()
	var vote raftwire.RequestVoteResponse
	err = transport.RequestVote("self", transport.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)
	// Output: true <nil>
}
