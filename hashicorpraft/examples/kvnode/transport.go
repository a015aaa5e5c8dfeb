package main

import (
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire/hashicorpraft"
)

// transport is what both kinds are.
type transport interface {
	raft.Transport
	raft.WithClose
}

// newTransport listens for other nodes. The two kinds speak the same protocol,
// and changing from one to the other is changing the package of a constructor.
func newTransport(o options, logger hclog.Logger) (transport, error) {
	advertised, err := net.ResolveTCPAddr("tcp", string(o.peers[o.id].raft))
	if err != nil {
		return nil, err
	}
	config := &raft.NetworkTransportConfig{
		ServerAddressProvider: o.peers,
		Logger:                logger.Named("transport"),
		MaxPool:               3,
		Timeout:               5 * time.Second,
	}
	if o.transport == "hashicorp" {
		config.MaxRPCsInFlight = 1 // its pipelines can hang, and Shutdown with them, when a leader loses: hashicorp/raft#612
		return raft.NewTCPTransportWithConfig(o.raftBind, advertised, config)
	}
	return hashicorpraft.NewTCPTransportWithConfig(o.raftBind, advertised, config)
}
