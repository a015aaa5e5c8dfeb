package main

import (
	hashicorp "github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft"
)

// The transports under measurement, where their constructors differ in more
// than names.

func newHashicorp(listen string, s setup) (hashicorpTransport, error) {
	return hashicorp.NewTCPTransportWithConfig(listen, advertised(listen), &hashicorp.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
	})
}

// newAdapter makes raftwire's transport with hashicorp's type set.
func newAdapter(listen string, s setup) (hashicorpTransport, error) {
	transport, err := wired(listen, s)
	if err != nil {
		return nil, err
	}
	return hashicorpraft.WrapNetwork(transport), nil
}

func newRaftwire(listen string, s setup) (raftwireTransport, error) {
	return wired(listen, s)
}

func wired(listen string, s setup) (*raftwire.NetworkTransport, error) {
	return raftwire.NewTCPTransportWithConfig(listen, advertised(listen), &raftwire.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
		MaxConns:        -1, // measured with any number, all from one host
		MaxConnsPerHost: -1,
	})
}
