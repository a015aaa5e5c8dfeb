package raftwire_test

import (
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/raftwire/raftwire"
)

// The fields that most programs set. Of the first three, the zero value is not
// what they want.
func ExampleNetworkTransportConfig() {
	transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool:         3,                // idle connections kept for each peer
		Timeout:         10 * time.Second, // of a whole request
		MaxRPCsInFlight: 130,              // window of a pipeline

		MaxMessageBytes:           64 << 20, // of a request; more than your core ever sends
		MaxSnapshotBytesPerSecond: 50 << 20,
		Logger:                    raftwire.NewSlogLogger(slog.Default()),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(transport.Close())
	// Output: <nil>
}

// A node that listens on every address, has a host name, and dials from an address
// of its own. Peers resolve the name each time that they dial.
func ExampleTCPConfig() {
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{
		Bind:      ":0",                   // ":8300" in a program
		Advertise: "node-1.internal:8300", // or "unix:/run/raft.sock" for both, for a Unix socket
		Dial:      (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}).DialContext,
	})
	if err != nil {
		log.Fatal(err)
	}
	transport := raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
		Stream:  layer,
		MaxPool: 3,
		Timeout: 10 * time.Second,
		Logger:  raftwire.NewSlogLogger(slog.Default()),
	})
	defer transport.Close() // closes the layer, too
	fmt.Println(transport.LocalAddr())
	// Output: node-1.internal:8300
}

// The transport's log through log/slog.
func ExampleNewSlogLogger() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // so that the output is the same each time
			}
			return a
		},
	})
	logger := raftwire.NewSlogLogger(slog.New(handler))
	logger.Named("raft-net").Warn("peer refused", "peer", "10.0.0.2:8300")
	// Output: level=WARN msg="peer refused" logger=raft-net peer=10.0.0.2:8300
}
