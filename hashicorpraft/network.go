package hashicorpraft

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
)

// NetworkTransport is raftwire's transport over connections, with the types of
// hashicorp/raft. It stands where a *raft.NetworkTransport stood.
type NetworkTransport struct {
	*Transport

	// TimeoutScale is how many bytes of a snapshot a follower is expected to
	// restore within one Timeout; see [raftwire.NetworkTransport]. Set it
	// before the first snapshot is sent.
	TimeoutScale int

	network   *raftwire.NetworkTransport
	security  *layers.TLS // that NewTLSTransport has made, or nil
	scaleLock sync.Mutex  // protects network.TimeoutScale
}

// NewTCPTransport listens on bindAddr and returns a transport over TCP. It is
// [raft.NewTCPTransport] with raftwire underneath.
func NewTCPTransport(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logOutput io.Writer) (*NetworkTransport, error) {
	return wrapOrFail(raftwire.NewTCPTransport(bindAddr, advertise, maxPool, timeout, logOutput))
}

// NewTCPTransportWithLogger is [NewTCPTransport] with a logger.
func NewTCPTransportWithLogger(bindAddr string, advertise net.Addr, maxPool int, timeout time.Duration, logger hclog.Logger) (*NetworkTransport, error) {
	return wrapOrFail(raftwire.NewTCPTransportWithLogger(bindAddr, advertise, maxPool, timeout, logger))
}

// NewTCPTransportWithConfig is [NewTCPTransport] with a configuration. It
// stores the stream layer that it makes in config.Stream, and the default
// logger in config.Logger if that is nil.
func NewTCPTransportWithConfig(bindAddr string, advertise net.Addr, config *raft.NetworkTransportConfig) (*NetworkTransport, error) {
	wire := WireConfig(config)
	wire.Stream = nil
	network, err := raftwire.NewTCPTransportWithConfig(bindAddr, advertise, wire)
	if err != nil {
		return nil, err
	}
	tellMade(config, wire)
	return WrapNetwork(network), nil
}

// NewTLSTransport is [NewTCPTransportWithConfig] over TLS: see
// [layers.NewTLSTransport]. It stores its layer in config.Stream. A
// *raft.NetworkTransport can run over that layer too. [WireStream] returns the
// [layers.TLS] in it.
func NewTLSTransport(bindAddr string, advertise net.Addr, security layers.TLSConfig, config *raft.NetworkTransportConfig) (*NetworkTransport, error) {
	wire := WireConfig(config)
	wire.Stream = nil
	network, err := layers.NewTLSTransport(bindAddr, advertise, security, wire)
	if err != nil {
		return nil, err
	}
	tellMade(config, wire)
	transport := WrapNetwork(network)
	transport.security = wire.Stream.(*layers.TLS)
	return transport, nil
}

// Reload loads certificates, keys and CAs now, for a transport that [NewTLSTransport] has
// made. [layers.TLS.Reload] says how long it may block, and which errors there are.
// Connections that are open stay: call CloseStreams to verify those peers anew as well. On
// a transport that was made otherwise, Reload is an error: call it on the layer.
func (n *NetworkTransport) Reload() error {
	if n.security == nil {
		return errors.New("raftwire: NewTLSTransport has not made this transport: call Reload on its layer")
	}
	return n.security.Reload()
}

// tellMade stores what a constructor has made in config, unless that is nil.
func tellMade(config *raft.NetworkTransportConfig, wire *raftwire.NetworkTransportConfig) {
	if config != nil {
		config.Logger, config.Stream = wire.Logger, RaftStream(wire.Stream)
	}
}

// NewNetworkTransport returns a transport over stream. It is
// [raft.NewNetworkTransport] with raftwire underneath.
func NewNetworkTransport(stream raft.StreamLayer, maxPool int, timeout time.Duration, logOutput io.Writer) *NetworkTransport {
	return WrapNetwork(raftwire.NewNetworkTransport(WireStream(stream), maxPool, timeout, logOutput))
}

// NewNetworkTransportWithLogger is [NewNetworkTransport] with a logger.
func NewNetworkTransportWithLogger(stream raft.StreamLayer, maxPool int, timeout time.Duration, logger hclog.Logger) *NetworkTransport {
	return WrapNetwork(raftwire.NewNetworkTransportWithLogger(WireStream(stream), maxPool, timeout, logger))
}

// NewNetworkTransportWithConfig is [NewNetworkTransport] with a configuration.
// It stores the default logger in config.Logger if that is nil. With a
// configuration that makes no sense it closes config.Stream, logs what is wrong
// and returns a transport that is shut down.
func NewNetworkTransportWithConfig(config *raft.NetworkTransportConfig) *NetworkTransport {
	wire := WireConfig(config)
	network := raftwire.NewNetworkTransportWithConfig(wire)
	if config != nil {
		config.Logger = wire.Logger
	}
	return WrapNetwork(network)
}

// WrapNetwork is [Wrap] for a network transport, made with the options that
// only raftwire's configuration has.
func WrapNetwork(network *raftwire.NetworkTransport) *NetworkTransport {
	if network == nil {
		panic(errNothingToWrap)
	}
	wrapper := Wrap(network)
	// It has been listening: a request may have come before it was wrapped.
	wrapper.pump = startPump(network, wrapper.open)
	return &NetworkTransport{Transport: wrapper, TimeoutScale: network.TimeoutScale, network: network}
}

func wrapOrFail(network *raftwire.NetworkTransport, err error) (*NetworkTransport, error) {
	if err != nil {
		return nil, err
	}
	return WrapNetwork(network), nil
}

// InstallSnapshot sends a snapshot: the request, then what data yields, up to
// args.Size bytes.
func (n *NetworkTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	n.passTimeoutScale()
	return n.Transport.InstallSnapshot(id, target, args, resp, data)
}

// passTimeoutScale writes only what changed: snapshots to other peers may be
// under way, and they read the field.
func (n *NetworkTransport) passTimeoutScale() {
	n.scaleLock.Lock()
	defer n.scaleLock.Unlock()
	if n.network.TimeoutScale != n.TimeoutScale {
		n.network.TimeoutScale = n.TimeoutScale
	}
}

// CloseStreams ends every connection; the transport continues with new ones.
func (n *NetworkTransport) CloseStreams() { n.network.CloseStreams() }

// Refusals counts the inbound connections that were refused.
func (n *NetworkTransport) Refusals() raftwire.Refusals { return n.network.Refusals() }

// Stats returns what is open and under way.
func (n *NetworkTransport) Stats() raftwire.Stats { return n.network.Stats() }

// IsShutdown reports whether the transport was closed.
func (n *NetworkTransport) IsShutdown() bool { return n.network.IsShutdown() }

// WireConfig returns config with raftwire's types, for a transport with options
// that only raftwire has. Add these options, call one of raftwire's constructors,
// and pass its transport to [WrapNetwork]. The bytes on the wire stay the same. nil
// means the zero value.
func WireConfig(config *raft.NetworkTransportConfig) *raftwire.NetworkTransportConfig {
	if config == nil {
		config = new(raft.NetworkTransportConfig)
	}
	return &raftwire.NetworkTransportConfig{
		ServerAddressProvider:   wireProviderOf(config.ServerAddressProvider),
		Logger:                  config.Logger,
		Stream:                  WireStream(config.Stream),
		MaxPool:                 config.MaxPool,
		MaxRPCsInFlight:         config.MaxRPCsInFlight,
		Timeout:                 config.Timeout,
		MsgpackUseNewTimeFormat: config.MsgpackUseNewTimeFormat,
	}
}

// wireProvider is an address provider of hashicorp/raft's type, given to raftwire.
type wireProvider struct{ raft.ServerAddressProvider }

func (p wireProvider) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) {
	addr, err := p.ServerAddressProvider.ServerAddr(raft.ServerID(id))
	return raftwire.ServerAddress(addr), err
}

func wireProviderOf(provider raft.ServerAddressProvider) raftwire.ServerAddressProvider {
	if provider == nil || isNilPointer(provider) {
		return nil
	}
	return wireProvider{provider}
}
