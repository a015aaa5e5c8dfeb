package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// Benchmarks of AppendEntries over each transport, for each workload:
//
//	Sync        a call at a time
//	Parallel    calls by several goroutines
//	Heartbeat   a call without entries, answered by the heartbeat handler
//	Pipeline    windows of requests in flight
//	PingPong    the floor: the same bytes over TCP, without a transport
//
// Both ends live in this process. One goroutine reads the receiver's requests
// and answers each at once; it and the sender check what they get. Bytes are
// what a request has on the wire. Command raftbench measures the same beside
// other transports.

func BenchmarkSync(b *testing.B) {
	besideLiveHeap(b)
	for _, m := range media {
		for _, w := range workloads {
			b.Run(m.name+"/"+w.name, func(b *testing.B) { benchSync(b, openBench(b, m, 0, w)) })
		}
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	besideLiveHeap(b)
	for _, m := range media {
		b.Run(m.name, func(b *testing.B) {
			x := openBench(b, m, 0, workload{})
			x.to.SetHeartbeatHandler(x.answer)
			benchSync(b, x)
		})
	}
}

func BenchmarkParallel(b *testing.B) {
	besideLiveHeap(b)
	for _, m := range media {
		for _, w := range workloads {
			b.Run(m.name+"/"+w.name, func(b *testing.B) { benchParallel(b, openBench(b, m, 0, w)) })
		}
	}
}

func BenchmarkPipeline(b *testing.B) {
	besideLiveHeap(b)
	for _, m := range media {
		for _, window := range m.windows {
			for _, w := range workloads {
				name := fmt.Sprintf("%s/window=%d/%s", m.name, window, w.name)
				b.Run(name, func(b *testing.B) { benchPipeline(b, openBench(b, m, window, w)) })
			}
		}
	}
}

func BenchmarkPingPong(b *testing.B) {
	besideLiveHeap(b)
	for _, w := range workloads {
		b.Run("tcp/"+w.name, func(b *testing.B) { benchPingPong(b, w) })
	}
}

var workloads = []workload{
	{"1x128", 1, 128},
	{"1x1K", 1, 1 << 10},
	{"64x128", 64, 128},
	{"64x1K", 64, 1 << 10},
	{"64x16K", 64, 16 << 10},
	{"1x1M", 1, 1 << 20},
}

// medium is a transport under measurement.
type medium struct {
	name    string
	windows []int // that its pipelines can have
	open    func(b *testing.B, window int) (from, to endpoint)
}

type endpoint interface {
	raftwire.Transport
	raftwire.WithClose
}

var media = []medium{
	{"tcp", []int{2, 16, 130}, openTCP},
	{"memory", []int{16}, openMemory},
}

const (
	benchTimeout = 10 * time.Second
	benchCallers = 4 // goroutines of Parallel for each processor
)

func openTCP(b *testing.B, window int) (from, to endpoint) {
	open := func() endpoint {
		trans, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
			Logger:          hclog.NewNullLogger(),
			MaxPool:         benchCallers * runtime.GOMAXPROCS(0),
			MaxRPCsInFlight: window,
			Timeout:         benchTimeout,
		})
		require.NoError(b, err)
		return closing(b, trans)
	}
	return open(), open()
}

func openMemory(b *testing.B, _ int) (from, to endpoint) {
	_, sender := raftwire.NewInmemTransportWithTimeout("", benchTimeout)
	addr, receiver := raftwire.NewInmemTransportWithTimeout("", benchTimeout)
	sender.Connect(addr, receiver)
	return closing(b, sender), closing(b, receiver)
}

func closing(b *testing.B, trans endpoint) endpoint {
	b.Cleanup(func() { require.NoError(b, trans.Close()) })
	return trans
}

// besideLiveHeap keeps 64 MiB of log entries of 1 KiB alive for a benchmark. A node's
// log cache holds as much. Without it the benchmark would measure the garbage
// collector.
func besideLiveHeap(b *testing.B) {
	const data, overhead = 1 << 10, 96 + 8 // an entry, and the pointer to it
	cache := make([]*raftwire.Log, (64<<20)/(data+overhead))
	for i := range cache {
		cache[i] = &raftwire.Log{Index: uint64(i), Data: make([]byte, data)}
	}
	b.Cleanup(func() { runtime.KeepAlive(cache) })
}

// exchange is a sender, a receiver and the request that travels between them.
type exchange struct {
	from, to endpoint
	target   raftwire.ServerAddress // of to
	request  *raftwire.AppendEntriesRequest
	answers  uint64 // made so far; owned by who answers
	answered uint64 // seen so far; owned by who receives
}

// consume answers requests as a Raft core does: one after the other, on one
// goroutine.
func (x *exchange) consume(done <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	requests := x.to.Consumer()
	for {
		select {
		case rpc := <-requests:
			x.answer(rpc)
		case <-done:
			return
		}
	}
}

func (x *exchange) answer(rpc raftwire.RPC) {
	if !x.intact(rpc.Command) {
		rpc.Respond(nil, errors.New("the request did not arrive as it was sent"))
		return
	}
	rpc.Respond(benchAnswer(firstAnswer+x.answers), nil)
	x.answers++
}

// intact reports whether a request arrived as it was sent. The first is
// compared in full, later ones by length.
func (x *exchange) intact(command any) bool {
	got, ok := command.(*raftwire.AppendEntriesRequest)
	if !ok || len(got.Entries) != len(x.request.Entries) {
		return false
	}
	if x.answers == 0 {
		return reflect.DeepEqual(got, x.request)
	}
	last := len(got.Entries) - 1
	return last < 0 || len(got.Entries[last].Data) == len(x.request.Entries[last].Data)
}

func (x *exchange) call() (*raftwire.AppendEntriesResponse, error) {
	resp := new(raftwire.AppendEntriesResponse)
	return resp, x.from.AppendEntries("receiver", x.target, x.request, resp)
}

func (x *exchange) checkedCall() error {
	resp, err := x.call()
	if err != nil {
		return err
	}
	return x.check(resp)
}

// check checks the next answer.
func (x *exchange) check(resp *raftwire.AppendEntriesResponse) error {
	if want := firstAnswer + x.answered; !resp.Success || resp.LastLog != want {
		return fmt.Errorf("success %v, last log %d, where %d was due", resp.Success, resp.LastLog, want)
	}
	x.answered++
	return nil
}

func (x *exchange) send(b *testing.B, pipeline raftwire.AppendPipeline) (n int, err error) {
	for b.Loop() {
		if _, err := pipeline.AppendEntries(x.request, new(raftwire.AppendEntriesResponse)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// receive checks answers until it has as many as were sent.
func (x *exchange) receive(futures <-chan raftwire.AppendFuture, sent <-chan int) error {
	for n, total := 0, -1; n != total; {
		select {
		case future := <-futures:
			if err := future.Error(); err != nil {
				return err
			}
			if err := x.check(future.Response()); err != nil {
				return err
			}
			n++
		case total = <-sent:
		}
	}
	return nil
}

func openBench(b *testing.B, m medium, window int, w workload) *exchange {
	x := &exchange{request: benchRequest(w)}
	x.from, x.to = m.open(b, window)
	x.target = x.to.LocalAddr()
	done, stopped := make(chan struct{}), make(chan struct{})
	b.Cleanup(func() { close(done); <-stopped })
	go x.consume(done, stopped)
	b.ReportAllocs()
	b.SetBytes(int64(len(requestFrame(x.request))))
	return x
}

func benchSync(b *testing.B, x *exchange) {
	require.NoError(b, x.checkedCall()) // dials
	for b.Loop() {
		if err := x.checkedCall(); err != nil {
			b.Fatal(err)
		}
	}
}

// benchParallel does not use b.Loop, which is for one goroutine. Answers have no order
// to check.
func benchParallel(b *testing.B, x *exchange) {
	require.NoError(b, x.checkedCall()) // compares the request in full
	b.SetParallelism(benchCallers)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if resp, err := x.call(); err != nil || !resp.Success {
				b.Errorf("success %v, error %v", resp.Success, err)
				return
			}
		}
	})
}

// benchPipeline sends while another goroutine receives. When the clock stops, less
// than a window is in flight; it is checked, too.
func benchPipeline(b *testing.B, x *exchange) {
	pipeline, err := x.from.AppendEntriesPipeline("receiver", x.target)
	require.NoError(b, err)
	sent, received := make(chan int), make(chan error, 1)
	go func() {
		err := x.receive(pipeline.Consumer(), sent)
		if err != nil {
			_ = pipeline.Close() // ends a send that waits for room
		}
		received <- err
	}()
	n, err := x.send(b, pipeline)
	select {
	case sent <- n:
		err = errors.Join(err, <-received)
	case receiveErr := <-received:
		err = errors.Join(receiveErr, err)
	}
	require.NoError(b, errors.Join(err, pipeline.Close()))
}

// benchPingPong writes a request's bytes and reads an answer's, in turn.
func benchPingPong(b *testing.B, w workload) {
	request, answer := requestFrame(benchRequest(w)), answerFrame()
	client, server := tcpPair(b)
	echoed := make(chan error, 1)
	go func() { echoed <- pong(server, len(request), answer) }()
	b.ReportAllocs()
	b.SetBytes(int64(len(request)))
	got := make([]byte, len(answer))
	for b.Loop() {
		_, err := client.Write(request)
		if err == nil {
			_, err = io.ReadFull(client, got)
		}
		if err != nil {
			b.Fatal(err)
		}
		if !bytes.Equal(got, answer) {
			b.Fatal("wrong answer")
		}
	}
	require.NoError(b, client.Close())
	require.ErrorIs(b, <-echoed, io.EOF)
}

// pong answers each size bytes until the connection ends.
func pong(conn net.Conn, size int, answer []byte) error {
	got := make([]byte, size)
	for {
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

func tcpPair(b *testing.B) (client, server net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer listener.Close()
	client, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() { _ = client.Close() }) // again, if all went well
	server, err = listener.Accept()
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Close()) })
	return client, server
}
