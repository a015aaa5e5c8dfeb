package main

import (
	hashicorp "github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

// The transports under measurement, where their constructors differ in more
// than names.

func newHashicorp(listen string, s setup) (*hashicorp.NetworkTransport, error) {
	return hashicorp.NewTCPTransportWithConfig(listen, advertised(listen), &hashicorp.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
	})
}

func newRaftwire(listen string, s setup) (*raftwire.NetworkTransport, error) {
	return raftwire.NewTCPTransportWithConfig(listen, advertised(listen), &raftwire.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
		MaxConns:        -1, // measured with any number, all from one host
		MaxConnsPerHost: -1,
	})
}
