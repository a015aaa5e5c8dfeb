package raftwire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// What a test puts in place of healthy code, layers, connections and peers, and the
// bytes and requests that it sends.

// directory is a ServerAddressProvider whose answers a test changes.
type directory struct {
	takes time.Duration // to answer

	mu       sync.Mutex // protects following
	addr     raftwire.ServerAddress
	err      error
	asked    int
	asking   int
	together int // the most that were asking at a time
}

func (d *directory) ServerAddr(id raftwire.ServerID) (raftwire.ServerAddress, error) {
	d.enter()
	if d.takes > 0 {
		timer := time.NewTimer(d.takes)
		<-timer.C
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking--
	if id != "b" {
		return "", errors.New("never heard of it")
	}
	return d.addr, d.err
}

func (d *directory) enter() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	d.asking++
	d.together = max(d.together, d.asking)
}

func (d *directory) set(addr raftwire.ServerAddress, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addr, d.err = addr, err
}

func (d *directory) times() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// recordingDispatcher accepts requests, and records the heartbeats and events that it
// is told of.
type recordingDispatcher struct {
	takes      time.Duration // to dispatch
	heartbeats []bool        // of the requests it took
	mu         sync.Mutex
	served     []raftwire.ServeEvent // protected by mu
}

func (d *recordingDispatcher) Dispatch(command any, body io.Reader, heartbeat bool) raftwire.PendingAnswer {
	pause(d.takes)
	d.heartbeats = append(d.heartbeats, heartbeat)
	answers := make(chan raftwire.RPCResponse, 1)
	accept(raftwire.RPC{Command: command, Reader: body, RespChan: answers})
	return given(<-answers)
}

// ServeDone observes all but the first request.
func (d *recordingDispatcher) ServeDone() func(*raftwire.ServeEvent) {
	if len(d.heartbeats) == 0 {
		return nil
	}
	return func(e *raftwire.ServeEvent) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.served = append(d.served, *e)
	}
}

// given is an answer that is ready.
type given raftwire.RPCResponse

func (g given) Ready() bool { return true }

func (g given) Await(<-chan struct{}) (raftwire.RPCResponse, bool) {
	return raftwire.RPCResponse(g), true
}

// typedNil returns a nil pointer of the type that answers a command.
func typedNil(command any) any {
	switch command.(type) {
	case *raftwire.AppendEntriesRequest:
		return (*raftwire.AppendEntriesResponse)(nil)
	case *raftwire.RequestVoteRequest:
		return (*raftwire.RequestVoteResponse)(nil)
	case *raftwire.RequestPreVoteRequest:
		return (*raftwire.RequestPreVoteResponse)(nil)
	case *raftwire.TimeoutNowRequest:
		return (*raftwire.TimeoutNowResponse)(nil)
	}
	return (*raftwire.InstallSnapshotResponse)(nil)
}

// otherAnswer returns a response of a type that does not answer a command.
func otherAnswer(command any) any {
	if _, vote := command.(*raftwire.RequestVoteRequest); vote {
		return &raftwire.AppendEntriesResponse{Term: 7, Success: true}
	}
	return &raftwire.RequestVoteResponse{Term: 7, Granted: true}
}

// dialLayer is a listener with a Dial, and without DialContext.
type dialLayer struct {
	net.Listener
	dial func(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error)
}

func (l dialLayer) Dial(addr raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.dial(addr, timeout)
}

func newDialer(t *testing.T, network *faultnet.Network, host string) *dialer {
	layer := hostLayer(t, network, host)
	return &dialer{Layer: layer}
}

// stuckDial is a Dial that ignores its timeout.
type stuckDial struct {
	release  chan struct{}
	begun    atomic.Int32
	underWay atomic.Int32
	dial     func() (net.Conn, error)
}

func (s *stuckDial) Dial(raftwire.ServerAddress, time.Duration) (net.Conn, error) {
	s.begun.Add(1)
	s.underWay.Add(1)
	defer s.underWay.Add(-1)
	<-s.release
	return s.dial()
}

// wrappingLayer is a layer that wraps all of its connections.
type wrappingLayer struct {
	contextLayer
	wrap func(net.Conn) net.Conn
}

func (l wrappingLayer) Accept() (net.Conn, error) {
	conn, err := l.contextLayer.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

func (l wrappingLayer) DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error) {
	conn, err := l.contextLayer.DialContext(ctx, addr)
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

type contextLayer interface {
	raftwire.StreamLayer
	DialContext(ctx context.Context, addr raftwire.ServerAddress) (net.Conn, error)
}

// listenWrapped is listen with wrapped connections.
func listenWrapped(t *testing.T, net *faultnet.Network, host string, wrap func(net_) net_, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	return transport(t, append(options, withStream(wrappingLayer{hostLayer(t, net, host), wrap}))...)
}

// slowConn takes long to close, as a stalled stream of a session does.
type slowConn struct {
	net_
	release chan struct{}
}

func (c slowConn) Close() error {
	<-c.release
	return c.net_.Close()
}

// roughness says how connections misbehave.
type roughness struct {
	afterRead func(n int) // of n bytes
	write     func(c *roughConn, p []byte) (int, error)
}

// roughConn misbehaves while rough is set.
type roughConn struct {
	net.Conn
	rough *atomic.Pointer[roughness]
}

func (c *roughConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if r := c.rough.Load(); r != nil && r.afterRead != nil {
		r.afterRead(n)
	}
	return n, err
}

func (c *roughConn) Write(p []byte) (int, error) {
	if r := c.rough.Load(); r != nil && r.write != nil {
		return r.write(c, p)
	}
	return c.Conn.Write(p)
}

// hangingWriter is a log output that blocks until it is released.
type hangingWriter struct {
	release chan struct{}
	blocked atomic.Int32
}

func (w *hangingWriter) Write(p []byte) (int, error) {
	w.blocked.Add(1)
	<-w.release
	return len(p), nil
}

func newHangingWriter() *hangingWriter { return &hangingWriter{release: make(chan struct{})} }

// serveForeign starts a listener on a host that is no Raft peer. It calls meet with each
// connection that has sent something.
func serveForeign(t *testing.T, net *faultnet.Network, host string, meet func(net_)) {
	t.Helper()
	layer := hostLayer(t, net, host)
	ended := make(chan struct{})
	t.Cleanup(func() { require.NoError(t, layer.Close()); <-ended })
	go func() {
		defer close(ended)
		for conn, err := layer.Accept(); err == nil; conn, err = layer.Accept() {
			_, _ = conn.Read(make([]byte, 4096))
			meet(conn)
			_ = conn.Close()
		}
	}()
}

func closeNow(conn net_) { _ = conn.Close() }

func resetNow(conn net_) { conn.(*faultnet.Conn).Reset() }

// waitAndClose waits until the other end closes, or for 90 seconds.
func waitAndClose(conn net_) {
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// askForEver sends requests until the connection is closed.
func askForEver(conn net_) {
	requests := strings.Repeat("\x03\x80", 1000)
	for err := error(nil); err == nil; {
		_, err = io.WriteString(conn, requests)
	}
}

// workload says what a request holds.
type workload struct {
	name          string
	entries, size int
}

// firstAnswer is the LastLog of the first answer. Each further one is one higher, so
// that a lost or swapped answer shows.
const firstAnswer = 5_000_000

// What requests and answers say about their senders.
var (
	senderID     = []byte("node-1")
	senderAddr   = []byte("10.0.0.1:8300")
	receiverID   = []byte("node-2")
	receiverAddr = []byte("10.0.0.2:8300")
)

// benchRequest returns a request as a leader sends it in the middle of its term. For
// the workload without entries it is a heartbeat.
func benchRequest(w workload) *raftwire.AppendEntriesRequest {
	request := &raftwire.AppendEntriesRequest{
		RPCHeader: raftwire.RPCHeader{ProtocolVersion: 3, ID: senderID, Addr: senderAddr},
		Term:      7,
		Leader:    senderAddr,
	}
	if w.entries == 0 {
		return request
	}
	const lastIndex = 1_000_000
	request.PrevLogEntry, request.PrevLogTerm, request.LeaderCommitIndex = lastIndex, 7, lastIndex
	random := rand.NewChaCha8([32]byte{})
	for i := range w.entries {
		entry := &raftwire.Log{
			Index:      lastIndex + 1 + uint64(i),
			Term:       7,
			Data:       make([]byte, w.size),
			AppendedAt: time.Unix(1_700_000_000, 123_456_789).UTC(),
		}
		_, _ = random.Read(entry.Data) // never fails
		request.Entries = append(request.Entries, entry)
	}
	return request
}

func benchAnswer(lastLog uint64) *raftwire.AppendEntriesResponse {
	return &raftwire.AppendEntriesResponse{
		RPCHeader: raftwire.RPCHeader{ProtocolVersion: 3, ID: receiverID, Addr: receiverAddr},
		Term:      7,
		LastLog:   lastLog,
		Success:   true,
	}
}

// requestFrame returns a request's bytes on the wire, as hashicorp's codec encodes it.
func requestFrame(command any) []byte {
	kinds := map[reflect.Type]byte{
		reflect.TypeFor[*raftwire.AppendEntriesRequest]():   0,
		reflect.TypeFor[*raftwire.RequestVoteRequest]():     1,
		reflect.TypeFor[*raftwire.InstallSnapshotRequest](): 2,
		reflect.TypeFor[*raftwire.TimeoutNowRequest]():      3,
		reflect.TypeFor[*raftwire.RequestPreVoteRequest]():  4,
	}
	return appendMsgpack([]byte{kinds[reflect.TypeOf(command)]}, command)
}

// answerFrame returns an answer's bytes on the wire.
func answerFrame() []byte {
	const noError = ""
	return appendMsgpack(appendMsgpack(nil, noError), benchAnswer(firstAnswer))
}

// smallRequest is a request's bytes on the wire.
func smallRequest() []byte { return requestFrame(benchRequest(workload{entries: 1, size: 100})) }

func commandsOfEveryKind() []any {
	header := raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("leader"), Addr: []byte("a")}
	return []any{
		appendRequest(1),
		&raftwire.AppendEntriesRequest{RPCHeader: header, Term: 7},
		&raftwire.RequestVoteRequest{RPCHeader: header, Term: 7, Candidate: []byte("a"), LastLogIndex: 300, LastLogTerm: 6},
		&raftwire.InstallSnapshotRequest{RPCHeader: header, Term: 7, Configuration: []byte("c"), Size: 0},
		&raftwire.TimeoutNowRequest{RPCHeader: header},
		&raftwire.RequestPreVoteRequest{RPCHeader: header, Term: 7},
	}
}

// snapshotHeader is the request of an InstallSnapshot; size must be 2^24 at least.
func snapshotHeader(size uint32) []byte {
	return append([]byte("\x02\x81\xa4Size\xce"), byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// tinyEntries is a request whose decoding would take a hundred times its bytes.
var tinyEntries = "\x00\x81\xa7Entries\xdd\x00\x01\x00\x00" + strings.Repeat("\x80", 1<<16)

func appendMsgpack(frame []byte, value any) []byte {
	handle := new(codec.MsgpackHandle)
	handle.TimeNotBuiltin = true
	buffer := bytes.NewBuffer(frame)
	if err := codec.NewEncoder(buffer, handle).Encode(value); err != nil {
		panic(fmt.Sprintf("encoding a %T: %v", value, err)) // values of this file
	}
	return buffer.Bytes()
}

// countAnswers checks that data consists of answers, and counts them. The last one may
// be cut short.
func countAnswers(t *testing.T, data []byte) (count int64) {
	for d := codec.NewDecoderBytes(data, new(codec.MsgpackHandle)); d.NumBytesRead() < len(data); count++ {
		var text string
		var response map[string]any
		if err := d.Decode(&text); err != nil {
			return count
		}
		if err := d.Decode(&response); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("answer %d: %v", count, err)
			}
			return count
		}
	}
	return count
}

// request is a request that a transport can send. send returns the response, which
// held something before.
type request struct {
	name string
	send func(a *raftwire.NetworkTransport) (resp any, err error)
}

func (r request) String() string { return r.name }

const (
	pipelined  = "pipeline"
	installing = "InstallSnapshot"
)

var requests = []request{
	{"AppendEntries", func(a *raftwire.NetworkTransport) (any, error) {
		resp := staleAppend()
		return resp, a.AppendEntries("b", "b", appendRequest(1), resp)
	}},
	{"heartbeat", func(a *raftwire.NetworkTransport) (any, error) {
		resp := staleAppend()
		args := &raftwire.AppendEntriesRequest{RPCHeader: raftwire.RPCHeader{Addr: []byte("a")}, Term: 7}
		return resp, a.AppendEntries("b", "b", args, resp)
	}},
	{"RequestVote", func(a *raftwire.NetworkTransport) (any, error) {
		resp := &raftwire.RequestVoteResponse{Term: 99, Peers: []byte("stale"), Granted: true}
		return resp, a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 7}, resp)
	}},
	{"RequestPreVote", func(a *raftwire.NetworkTransport) (any, error) {
		resp := &raftwire.RequestPreVoteResponse{Term: 99, Granted: true}
		return resp, a.RequestPreVote("b", "b", &raftwire.RequestPreVoteRequest{Term: 7}, resp)
	}},
	{"TimeoutNow", func(a *raftwire.NetworkTransport) (any, error) {
		resp := &raftwire.TimeoutNowResponse{RPCHeader: raftwire.RPCHeader{ID: []byte("stale")}}
		return resp, a.TimeoutNow("b", "b", &raftwire.TimeoutNowRequest{}, resp)
	}},
	{installing, func(a *raftwire.NetworkTransport) (any, error) {
		resp := &raftwire.InstallSnapshotResponse{Term: 99, Success: true}
		args := &raftwire.InstallSnapshotRequest{Term: 7, Size: 1000}
		return resp, a.InstallSnapshot("b", "b", args, resp, io.LimitReader(zeros{}, 1000))
	}},
	{pipelined, sendPipelined},
}

func staleAppend() *raftwire.AppendEntriesResponse {
	return &raftwire.AppendEntriesResponse{Term: 99, LastLog: 99, Success: true, NoRetryBackoff: true}
}

// sendPipelined sends a request on a new pipeline, and checks that its future reaches
// the consumer, failed or not.
func sendPipelined(a *raftwire.NetworkTransport) (any, error) {
	resp := staleAppend()
	p, err := a.AppendEntriesPipeline("b", "b")
	if err != nil {
		return new(raftwire.AppendEntriesResponse), err // nobody had resp
	}
	defer func() { _ = p.Close() }()
	f, err := p.AppendEntries(appendRequest(1), resp)
	if err != nil {
		return resp, err
	}
	err = f.Error()
	if err == raftwire.ErrTransportShutdown {
		return resp, err // and the consumer is not wanted any more
	}
	missing := time.NewTimer(prompt)
	defer missing.Stop()
	select {
	case got := <-p.Consumer():
		if got != f {
			return resp, errors.New("the consumer got another future")
		}
	case <-missing.C:
		return resp, errors.New("the consumer did not get the future")
	}
	return resp, err
}
