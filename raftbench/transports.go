package main

import (
	hashicorp "github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft"
	metrics "github.com/raftwire/raftwire/metrics/prometheus"
)

// The transports under measurement, where their constructors differ in more
// than names.

func newHashicorp(listen string, s setup) (hashicorpTransport, error) {
	config := &hashicorp.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
	}
	layer, err := s.layer(listen)
	switch {
	case err != nil:
		return nil, err
	case layer == nil:
		return hashicorp.NewTCPTransportWithConfig(listen, advertised(listen), config)
	}
	config.Stream = hashicorpraft.RaftStream(layer)
	return hashicorp.NewNetworkTransportWithConfig(config), nil
}

// newAdapter makes raftwire's transport with hashicorp's type set.
func newAdapter(listen string, s setup) (hashicorpTransport, error) {
	transport, err := wired(listen, s, raftwire.Hooks{})
	if err != nil {
		return nil, err
	}
	return hashicorpraft.WrapNetwork(transport), nil
}

func newRaftwire(listen string, s setup) (raftwireTransport, error) {
	return wired(listen, s, raftwire.Hooks{})
}

func newHooked(listen string, s setup) (raftwireTransport, error) {
	return wired(listen, s, idleHooks)
}

// idleHooks are all set and do nothing: what they cost is what raftwire does
// in order to call them.
var idleHooks = raftwire.Hooks{
	Dialed:           func(raftwire.DialEvent) {},
	ConnOpened:       func(raftwire.ConnEvent) {},
	ConnClosed:       func(raftwire.ConnEvent) {},
	CallBegun:        func(*raftwire.CallEvent) {},
	CallDone:         func(*raftwire.CallEvent) {},
	ServeBegun:       func(*raftwire.ServeEvent) {},
	ServeDone:        func(*raftwire.ServeEvent) {},
	SnapshotProgress: func(raftwire.SnapshotEvent) {},
	Refused:          func(raftwire.RefusalEvent) {},
}

// newPrometheus gives each transport a registry of its own, as each is a node.
func newPrometheus(listen string, s setup) (raftwireTransport, error) {
	hooks, err := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	if err != nil {
		return nil, err
	}
	return wired(listen, s, hooks)
}

func wired(listen string, s setup, hooks raftwire.Hooks) (*raftwire.NetworkTransport, error) {
	config := &raftwire.NetworkTransportConfig{
		Logger:          silence,
		MaxPool:         maxPool,
		MaxRPCsInFlight: int(s.window),
		Timeout:         s.timeout,
		MaxConns:        -1, // measured with any number, all from one host
		MaxConnsPerHost: -1,
		Hooks:           hooks,
	}
	layer, err := s.layer(listen)
	switch {
	case err != nil:
		return nil, err
	case layer == nil:
		return raftwire.NewTCPTransportWithConfig(listen, advertised(listen), config)
	}
	config.Stream = layer
	return raftwire.NewNetworkTransportWithConfig(config), nil
}

// layer returns what a transport runs over, the same for either; nil means its
// own TCP layer.
func (s setup) layer(listen string) (layer raftwire.StreamLayer, err error) {
	switch {
	case s.credentials != nil:
		layer, err = s.credentials.layer(listen)
	case s.path != (path{}):
		layer, err = tcpLayer(listen)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.path != (path{}) {
		layer = slowLayer{layer, s.path}
	}
	return layer, nil
}
