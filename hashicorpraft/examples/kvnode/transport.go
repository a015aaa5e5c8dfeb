package main

import (
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft"
	"github.com/raftwire/raftwire/layers"
	raftwireprom "github.com/raftwire/raftwire/metrics/prometheus"
)

// clusterName is in the certificate of every node, and of nobody else.
const clusterName = "kvnode"

// transport is what both kinds are.
type transport interface {
	raft.Transport
	raft.WithClose
}

// newTransport listens for other nodes. The two kinds speak the same protocol,
// and changing from one to the other is changing the package of a constructor.
func newTransport(o options, logger hclog.Logger, metrics *prometheus.Registry) (transport, error) {
	config := &raft.NetworkTransportConfig{
		ServerAddressProvider: o.peers,
		Logger:                logger.Named("transport"),
		MaxPool:               3,
		Timeout:               5 * time.Second,
	}
	if o.transport == "hashicorp" {
		return newHashicorpTransport(o, config)
	}
	return newRaftwireTransport(o, config, metrics)
}

// newRaftwireTransport is hashicorpraft.NewTCPTransportWithConfig, with what only
// raftwire has: here, metrics, identities, TLS and host names.
func newRaftwireTransport(o options, config *raft.NetworkTransportConfig, metrics *prometheus.Registry) (transport, error) {
	wire := hashicorpraft.WireConfig(config)
	var err error
	if wire.Hooks, err = raftwireprom.New(metrics, raftwireprom.Options{}); err != nil {
		return nil, err
	}
	if o.cluster != "" {
		wire.Identity = raftwire.Identity{Cluster: o.cluster, Node: raftwire.ServerID(o.id), Require: o.requireIdentity}
	}
	if wire.Stream, err = o.listen(config.Logger, wire.Hooks.Refused); err != nil {
		return nil, err
	}
	network := raftwire.NewNetworkTransportWithConfig(wire)
	metrics.MustRegister(raftwireprom.NewCollector(network, raftwireprom.Options{}))
	return hashicorpraft.WrapNetwork(network), nil
}

// listen returns a layer that tells peers the address of this node in -peers as it
// stands: each dial resolves the name, since a host may come back with another IP.
func (o options) listen(logger hclog.Logger, refused func(raftwire.RefusalEvent)) (raftwire.StreamLayer, error) {
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: o.raftBind, Advertise: string(o.peers[o.id].raft)})
	if err != nil {
		return nil, err
	}
	if o.tls == "" {
		return tcp, nil
	}
	secured, err := layers.NewTLS(tcp, o.security(logger, refused))
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return secured, nil
}

// newHashicorpTransport has no TLS of its own, so raftwire's goes under it. Without
// TLS it tells peers an IP: a name in -peers is resolved here, once.
func newHashicorpTransport(o options, config *raft.NetworkTransportConfig) (transport, error) {
	config.MaxRPCsInFlight = 1 // its pipelines can hang, and Shutdown with them, when a leader loses: hashicorp/raft#612
	if o.tls == "" {
		advertised, err := net.ResolveTCPAddr("tcp", string(o.peers[o.id].raft))
		if err != nil {
			return nil, err
		}
		return raft.NewTCPTransportWithConfig(o.raftBind, advertised, config)
	}
	secured, err := o.listen(config.Logger, nil)
	if err != nil {
		return nil, err
	}
	config.Stream = hashicorpraft.RaftStream(secured)
	return raft.NewNetworkTransportWithConfig(config), nil
}

// security says who is a peer. Files that change are used by the next
// handshake; nothing has to be restarted.
func (o options) security(logger hclog.Logger, refused func(raftwire.RefusalEvent)) layers.TLSConfig {
	return layers.TLSConfig{
		CertFile:   filepath.Join(o.tls, "cert.pem"),
		KeyFile:    filepath.Join(o.tls, "key.pem"),
		CAFile:     filepath.Join(o.tls, "ca.pem"),
		ServerName: clusterName,
		Logger:     logger,
		Refused:    refused,
	}
}

// wire is what nodes talk through, in words.
func (o options) wire() string {
	if o.tls != "" {
		return o.transport + " over TLS"
	}
	return o.transport + " over TCP"
}
