package transporttest_test

import (
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/transporttest"
)

// The body of a test of your own transport, TestMyTransportConforms for
// example. What New returns here is the transport that comes with the library.
func ExampleRun() {
	var t *testing.T // given to your test by go test

	transporttest.Run(t, transporttest.Maker{
		New: func(t testing.TB, n int, o transporttest.Options) (all []raftwire.Transport) {
			for range n {
				all = append(all, newMyTransport(t, o.Timeout, o.Window))
			}
			return all
		},
		Without: transporttest.PreVote, // what it does not have
	})
}

func newMyTransport(t testing.TB, timeout time.Duration, window int) raftwire.Transport {
	transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		Timeout:         timeout,
		MaxRPCsInFlight: window,
	})
	if err != nil {
		t.Fatal(err)
	}
	return transport
}
