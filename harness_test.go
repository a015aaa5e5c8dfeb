package raftwire_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/internal/testnode"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// What the tests of the root and of layers share.
type (
	option     = testnode.Option
	caller     = testnode.Caller
	dialer     = testnode.Dialer
	plainLayer = testnode.PlainLayer
)

var (
	hostLayer       = testnode.HostLayer
	config          = testnode.Config
	listen          = testnode.Listen
	transport       = testnode.Transport
	listenTCP       = testnode.ListenTCP
	newLayer        = testnode.NewLayer
	tlsLayerConfig  = testnode.Secure
	layerOf         = testnode.LayerOf
	withStream      = testnode.WithStream
	withTimeout     = testnode.WithTimeout
	withPool        = testnode.WithPool
	withLimits      = testnode.WithLimits
	withHooks       = testnode.WithHooks
	serve           = testnode.Serve
	accept          = testnode.Accept
	calls           = testnode.Calls
	appendRequest   = testnode.AppendRequest
	appendOnce      = testnode.AppendOnce
	installSnapshot = testnode.InstallSnapshot
	install         = testnode.Install
	openPipeline    = testnode.OpenPipeline
	send            = testnode.Send
	heartbeats      = testnode.Heartbeats
	requireTimeout  = testnode.RequireTimeout
	onFakeTime      = testnode.OnFakeTime
	pause           = testnode.Pause
	elapsed         = testnode.Elapsed
	dialRaw         = testnode.DialRaw
	say             = testnode.Say
	introduce       = testnode.Introduce
	isOpen          = testnode.IsOpen
	openSockets     = testnode.OpenSockets
	checkLeaks      = testnode.CheckLeaks
)

// Tests run on fake time over faultnet wherever time or faults matter: a
// deadline is then exact, and what takes a minute takes no time.

// testTimeout is the transports' timeout in these tests.
const testTimeout = testnode.Timeout

// prompt is how soon something must happen that needs no deadline.
const prompt = testnode.Prompt

// crowdEnv makes a process of this program a crowd; its value says where.
const crowdEnv = "RAFTWIRE_CROWD"

// net_ is net.Conn, for tests in which net is a network.
type net_ = net.Conn

// onBothTransports runs test over the network and in memory.
func onBothTransports(t *testing.T, test func(t *testing.T, a, b raftwire.Transport)) {
	t.Helper()
	t.Run("network", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			test(t, listen(t, net, "a"), listen(t, net, "b"))
		})
	})
	t.Run("memory", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, _ *faultnet.Network) {
			a, b := inmemPair(t)
			test(t, a, b)
		})
	})
}

// pass lets fake time pass, then waits until all goroutines block.
func pass(d time.Duration) {
	pause(d)
	synctest.Wait()
}

// transportOver makes a transport for real sockets, which may be slow.
func transportOver(t *testing.T, stream raftwire.StreamLayer, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	return transport(t, append([]option{withStream(stream), withTimeout(10 * time.Second)}, options...)...)
}

// inmemPair returns two transports, each connected to the other.
func inmemPair(t *testing.T) (a, b *raftwire.InmemTransport) {
	t.Helper()
	_, a = raftwire.NewInmemTransportWithTimeout("a", testTimeout)
	_, b = raftwire.NewInmemTransportWithTimeout("b", testTimeout)
	a.Connect("b", b)
	b.Connect("a", a)
	t.Cleanup(func() {
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
	return a, b
}

// observed starts two transports that record what their hooks are told.
func observed(t *testing.T, net *faultnet.Network, options ...option) (a, b *raftwire.NetworkTransport, atA, atB *events) {
	atA, atB = new(events), new(events)
	a = listen(t, net, "a", append(options, withHooks(atA.hooks()))...)
	b = listen(t, net, "b", append(options, withHooks(atB.hooks()))...)
	return a, b, atA, atB
}

// overTLS returns a layer of a node with a new certificate of ca.
func overTLS(t testing.TB, inner raftwire.StreamLayer, ca *testca.Authority) *layers.TLS {
	t.Helper()
	layer, err := layers.NewTLS(inner, tlsLayerConfig(ca.Issue(), ca))
	require.NoError(t, err)
	return layer
}

func withWindow(n int) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxRPCsInFlight = n }
}

func withDispatchAhead(n int) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxDispatchAhead = n }
}

func withFirstByte(d time.Duration) option {
	return func(c *raftwire.NetworkTransportConfig) { c.FirstByteTimeout = d }
}

// unlimited turns the limits on connections off.
func unlimited(c *raftwire.NetworkTransportConfig) {
	c.MaxConns, c.MaxConnsPerHost, c.FirstByteTimeout = -1, -1, -1
}

func withLog(w io.Writer) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Logger = logTo(w, hclog.Debug) }
}

// logTo returns a logger that writes to w from a level on.
func logTo(w io.Writer, level hclog.Level) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: w, Level: level})
}

func noOption(*raftwire.NetworkTransportConfig) {}

// acceptAfter accepts after d.
func acceptAfter(d time.Duration) func(raftwire.RPC) {
	return func(rpc raftwire.RPC) {
		pause(d)
		accept(rpc)
	}
}

// never leaves requests unanswered.
func never(raftwire.RPC) {}

// takeAll takes requests until no more arrive at this moment.
func takeAll(trans raftwire.Transport) (taken []raftwire.RPC) {
	for {
		synctest.Wait()
		select {
		case rpc := <-trans.Consumer():
			taken = append(taken, rpc)
		default:
			return taken
		}
	}
}

// events records what hooks are told.
type events struct {
	mu       sync.Mutex // protects following
	dialed   []raftwire.DialEvent
	opened   []raftwire.ConnEvent
	closed   []raftwire.ConnEvent
	begun    []raftwire.CallEvent
	calls    []raftwire.CallEvent
	arrived  []raftwire.ServeEvent
	served   []raftwire.ServeEvent
	progress []raftwire.SnapshotEvent
	refused  []raftwire.RefusalEvent
}

func (e *events) hooks() raftwire.Hooks {
	return raftwire.Hooks{
		Dialed:           record(e, &e.dialed),
		ConnOpened:       record(e, &e.opened),
		ConnClosed:       record(e, &e.closed),
		CallBegun:        copied(e, &e.begun),
		CallDone:         copied(e, &e.calls),
		ServeBegun:       copied(e, &e.arrived),
		ServeDone:        copied(e, &e.served),
		SnapshotProgress: record(e, &e.progress),
		Refused:          record(e, &e.refused),
	}
}

// record returns a function that appends to list.
func record[E any](e *events, list *[]E) func(E) {
	return func(event E) {
		e.mu.Lock()
		defer e.mu.Unlock()
		*list = append(*list, event)
	}
}

// copied is record for events that are valid only during the hook.
func copied[E any](e *events, list *[]E) func(*E) {
	keep := record(e, list)
	return func(event *E) { keep(*event) }
}

func heartbeat(trans raftwire.Transport, target raftwire.ServerAddress) error {
	args := &raftwire.AppendEntriesRequest{RPCHeader: raftwire.RPCHeader{Addr: []byte("a")}, Term: 7}
	return trans.AppendEntries("b", target, args, new(raftwire.AppendEntriesResponse))
}

func openPipelineOnce(trans raftwire.Transport, target raftwire.ServerAddress) error {
	p, err := trans.AppendEntriesPipeline("b", target)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	f, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
	if err != nil {
		return err
	}
	return f.Error()
}

// zeros yields zeros for ever.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// appendTo sends a request on a pipeline and consumes its future.
func appendTo(p raftwire.AppendPipeline) error { return appendAndConsume(p, appendRequest(1)) }

func appendAndConsume(p raftwire.AppendPipeline, request *raftwire.AppendEntriesRequest) error {
	f, err := p.AppendEntries(request, new(raftwire.AppendEntriesResponse))
	if err != nil {
		return err
	}
	<-p.Consumer()
	return f.Error()
}

func consumeInOrder(p raftwire.AppendPipeline, count int) error {
	for i := range count {
		f := <-p.Consumer()
		if err := f.Error(); err != nil {
			return err
		}
		if f.Request().PrevLogEntry != uint64(i) || f.Response().LastLog != uint64(i) {
			return fmt.Errorf("future %d has request %d and answer %d", i, f.Request().PrevLogEntry, f.Response().LastLog)
		}
	}
	return nil
}

// fillPool leaves count idle connections from a to b.
func fillPool(t *testing.T, a, b *raftwire.NetworkTransport, count int) {
	t.Helper()
	fillPoolAt(t, a, b, b.LocalAddr(), count)
}

// fillPoolAt is fillPool for a peer that goes by another name.
func fillPoolAt(t *testing.T, a, b *raftwire.NetworkTransport, target raftwire.ServerAddress, count int) {
	t.Helper()
	errs := make(chan error, count)
	for range count {
		go func() { errs <- appendOnce(a, target) }()
	}
	rpcs := make([]raftwire.RPC, count)
	for i := range rpcs { // hold them all, so that each needs a connection
		rpcs[i] = <-b.Consumer()
	}
	for i := range rpcs {
		accept(rpcs[i])
		require.NoError(t, <-errs)
	}
}

// requireOpError checks that err names the peer and has a cause.
func requireOpError(t *testing.T, err error) {
	t.Helper()
	var op *raftwire.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, raftwire.ServerAddress("b"), op.Peer)
	require.Error(t, op.Err)
}

// requireFailed checks that futures have failed already, with zero responses.
func requireFailed(t *testing.T, futures []raftwire.AppendFuture, target error) {
	t.Helper()
	start := time.Now()
	for _, f := range futures {
		err := f.Error()
		require.Error(t, err)
		if target != nil {
			require.ErrorIs(t, err, target)
		}
		require.Zero(t, *f.Response(), "the response of a failed future must be zero")
	}
	require.Zero(t, time.Since(start), "a future was still pending")
}

// linesWith returns the lines of a log that contain all of the texts.
func linesWith(log string, texts ...string) (lines []string) {
	for line := range strings.Lines(log) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			lines = append(lines, line)
		}
	}
	return lines
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// heapOfEach returns by how much f grows the live heap, divided by count.
func heapOfEach(count int, f func()) int {
	before := liveHeap()
	f()
	return (int(liveHeap()) - int(before)) / count
}

// strayGoroutines is how many goroutines beside a crowd's may come and go: the runtime's, and
// those that earlier tests leave to end.
const strayGoroutines = 100

// leastAllocs returns the least number of allocations of f in four rounds, since other
// goroutines allocate now and then.
func leastAllocs(f func()) float64 {
	least := testing.AllocsPerRun(250, f)
	for range 3 {
		least = min(least, testing.AllocsPerRun(250, f))
	}
	return least
}
