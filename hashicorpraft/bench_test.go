package hashicorpraft

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

const (
	benchEntries = 64
	benchBytes   = 128
)

// BenchmarkPipeline shows what the adapter costs: batches of 64 entries of 128
// bytes through a pipeline over TCP, both ends in one process.
func BenchmarkPipeline(b *testing.B) {
	for _, window := range []int{16, 130} {
		b.Run(fmt.Sprintf("window=%d/root", window), func(b *testing.B) { benchRoot(b, window) })
		b.Run(fmt.Sprintf("window=%d/adapter", window), func(b *testing.B) { benchAdapter(b, window) })
	}
}

func benchRoot(b *testing.B, window int) {
	from, to := benchTransport(b, window), benchTransport(b, window)
	defer from.Close()
	defer to.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case rpc := <-to.Consumer():
				rpc.Respond(&raftwire.AppendEntriesResponse{Term: 1, LastLog: 1, Success: true}, nil)
			case <-done:
				return
			}
		}
	}()
	pipeline, err := from.AppendEntriesPipeline("id", to.LocalAddr())
	if err != nil {
		b.Fatal(err)
	}
	defer pipeline.Close()
	args := appendEntriesRequest.toWire(benchRequest())
	measure(b, pipeline.Consumer(), func() error {
		_, err := pipeline.AppendEntries(args, new(raftwire.AppendEntriesResponse))
		return err
	})
}

func benchAdapter(b *testing.B, window int) {
	from, to := WrapNetwork(benchTransport(b, window)), WrapNetwork(benchTransport(b, window))
	defer from.Close()
	defer to.Close()
	defer serve(to, func(rpc raft.RPC) {
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: 1, Success: true}, nil)
	})()
	pipeline, err := from.AppendEntriesPipeline("id", to.LocalAddr())
	if err != nil {
		b.Fatal(err)
	}
	defer pipeline.Close()
	args := benchRequest()
	measure(b, pipeline.Consumer(), func() error {
		_, err := pipeline.AppendEntries(args, new(raft.AppendEntriesResponse))
		return err
	})
}

// measure sends b.N requests and consumes their futures.
func measure[F interface{ Error() error }](b *testing.B, futures <-chan F, send func() error) {
	b.ReportAllocs()
	b.SetBytes(benchEntries * benchBytes)
	b.ResetTimer()
	failed := make(chan error, 1)
	go func() {
		for range b.N {
			if err := (<-futures).Error(); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for range b.N {
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
}

func benchTransport(b *testing.B, window int) *raftwire.NetworkTransport {
	b.Helper()
	transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, Timeout: rpcTimeout, MaxRPCsInFlight: window,
		Logger: hclog.New(&hclog.LoggerOptions{Output: io.Discard}),
	})
	if err != nil {
		b.Fatal(err)
	}
	return transport
}

func benchRequest() *raft.AppendEntriesRequest {
	args := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("node1"), Addr: []byte("127.0.0.1:8300")},
		Term:      1, PrevLogEntry: 1, PrevLogTerm: 1, LeaderCommitIndex: 1,
	}
	for i := range uint64(benchEntries) {
		args.Entries = append(args.Entries, &raft.Log{Index: i + 2, Term: 1, Data: bytes.Repeat([]byte{'x'}, benchBytes)})
	}
	return args
}
