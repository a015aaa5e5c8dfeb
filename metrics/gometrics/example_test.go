package gometrics_test

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/gometrics"
)

func ExampleEmitExpiry() {
	sink := metrics.NewInmemSink(time.Hour, time.Hour) // or statsd's, Prometheus's, ...
	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	registry, err := metrics.New(config, sink)
	if err != nil {
		log.Fatal(err)
	}
	stats := raftwire.Stats{ // of a transport over TLS: transport.Stats()
		CertificateExpires: time.Now().AddDate(0, 3, 0),
		CAExpires:          time.Now().AddDate(5, 0, 0),
	}
	gometrics.EmitExpiry(registry, stats) // again every few seconds, by a time.Ticker
	const week = 7 * 24 * 3600
	for name, gauge := range sink.Data()[0].Gauges {
		fmt.Println(name, "within a week:", gauge.Value < week)
	}
	// Unordered output:
	// raft.net.tls.cert.expiry within a week: false
	// raft.net.tls.ca.expiry within a week: false
}

func ExampleNew() {
	sink := metrics.NewInmemSink(time.Hour, time.Hour) // or statsd's, Prometheus's, ...
	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	registry, err := metrics.New(config, sink)
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan struct{})
	hooks := gometrics.New(registry)
	measure := hooks.ServeDone
	hooks.ServeDone = func(e *raftwire.ServeEvent) { // a hook of your own beside it
		measure(e)
		close(served)
	}
	voter, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, Timeout: 10 * time.Second, Hooks: hooks, Logger: raftwire.NewSlogLogger(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer voter.Close()
	go func() {
		rpc := <-voter.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()

	candidate, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer candidate.Close()
	_ = candidate.RequestVote("voter", voter.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, new(raftwire.RequestVoteResponse))
	<-served
	for name, sample := range sink.Data()[0].Samples {
		fmt.Println(name, sample.Count)
	}
	// Unordered output:
	// raft.net.getRPCType 1
	// raft.net.rpcDecode;rpcType=RequestVote 1
	// raft.net.rpcEnqueue;rpcType=RequestVote 1
	// raft.net.rpcRespond;rpcType=RequestVote 1
}
