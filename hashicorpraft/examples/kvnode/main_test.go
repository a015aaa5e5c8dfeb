package main

import (
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asNode in the environment makes the test binary the program itself, so that
// the tests start processes of what they were built from, race detector and all.
const asNode = "KVNODE_TEST_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test, however that ends
		os.Exit(3)
	}()
	segmentSize = 16 << 10 // so that old entries are gone soon
	main()
}
