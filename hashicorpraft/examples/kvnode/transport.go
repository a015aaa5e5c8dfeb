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
		return newHashicorpTransport(o, advertised, config)
	}
	return newRaftwireTransport(o, advertised, config, metrics)
}

// newRaftwireTransport is hashicorpraft.NewTCPTransportWithConfig, or the same
// for TLS, with what only raftwire's configuration has: here, metrics.
func newRaftwireTransport(o options, advertised net.Addr, config *raft.NetworkTransportConfig, metrics *prometheus.Registry) (transport, error) {
	wire := hashicorpraft.WireConfig(config)
	var err error
	if wire.Hooks, err = raftwireprom.New(metrics, raftwireprom.Options{}); err != nil {
		return nil, err
	}
	network, err := o.listen(advertised, wire)
	if err != nil {
		return nil, err
	}
	metrics.MustRegister(raftwireprom.NewCollector(network, raftwireprom.Options{}))
	return hashicorpraft.WrapNetwork(network), nil
}

func (o options) listen(advertised net.Addr, config *raftwire.NetworkTransportConfig) (*raftwire.NetworkTransport, error) {
	if o.tls != "" {
		return layers.NewTLSTransport(o.raftBind, advertised, o.security(config.Logger), config)
	}
	return raftwire.NewTCPTransportWithConfig(o.raftBind, advertised, config)
}

// newHashicorpTransport has no TLS of its own, so raftwire's goes under it.
func newHashicorpTransport(o options, advertised *net.TCPAddr, config *raft.NetworkTransportConfig) (transport, error) {
	config.MaxRPCsInFlight = 1 // its pipelines can hang, and Shutdown with them, when a leader loses: hashicorp/raft#612
	if o.tls == "" {
		return raft.NewTCPTransportWithConfig(o.raftBind, advertised, config)
	}
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: o.raftBind, Advertise: advertised.String()})
	if err != nil {
		return nil, err
	}
	secured, err := layers.NewTLS(tcp, o.security(config.Logger))
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	config.Stream = hashicorpraft.RaftStream(secured)
	return raft.NewNetworkTransportWithConfig(config), nil
}

// security says who is a peer. Files that change are used by the next
// handshake; nothing has to be restarted.
func (o options) security(logger hclog.Logger) layers.TLSConfig {
	return layers.TLSConfig{
		CertFile:   filepath.Join(o.tls, "cert.pem"),
		KeyFile:    filepath.Join(o.tls, "key.pem"),
		CAFile:     filepath.Join(o.tls, "ca.pem"),
		ServerName: clusterName,
		Logger:     logger,
	}
}

// wire is what nodes talk through, in words.
func (o options) wire() string {
	if o.tls != "" {
		return o.transport + " over TLS"
	}
	return o.transport + " over TCP"
}
