package spiffe_test

import (
	"context"
	"log"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/spiffe"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// A node of a cluster whose nodes share one SPIFFE ID. SPIRE's agent is found through
// SPIFFE_ENDPOINT_SOCKET.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // of the first answer
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close() // after the transport

	id := spiffeid.RequireFromString("spiffe://example.org/ns/shop/sa/orders")
	security := spiffe.TLSConfig(source, source, tlsconfig.AuthorizeID(id))
	transport, err := layers.NewTLSTransport("10.0.0.1:8300", nil, security, &raftwire.NetworkTransportConfig{
		MaxPool: 3,
		Timeout: 10 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	// Give transport to the Raft core. SVIDs and bundles that change are used by themselves.
}
