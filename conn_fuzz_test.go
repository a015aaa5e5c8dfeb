package raftwire_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
)

// Fuzzing of both ends of a connection, with any bytes in any pieces and with any
// end. The codec has fuzz targets of its own.

// FuzzServe sends arbitrary bytes to a transport whose core answers in
// arbitrary ways. manner seeds how the bytes are cut, how the sender ends, and
// how the core answers.
func FuzzServe(f *testing.F) {
	for i, bytes := range inboundSeeds() {
		f.Add(bytes, uint64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, manner uint64) {
		grown := allocatedBytes(func() {
			synctest.Test(t, func(t *testing.T) { serveBytes(t, data, manner) })
		})
		if most := uint64(8<<20 + 32*len(data)); grown > most {
			t.Fatalf("%d bytes of input allocated %d", len(data), grown)
		}
	})
}

// FuzzAnswers answers requests of every kind, also pipelined, with arbitrary bytes.
// manner seeds the kind, how the bytes are cut, and whether the peer then hangs up.
func FuzzAnswers(f *testing.F) {
	for i, bytes := range answerSeeds() {
		for manner := range uint64(len(requests)) {
			f.Add(bytes, uint64(i)*100+manner)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, manner uint64) {
		grown := allocatedBytes(func() {
			synctest.Test(t, func(t *testing.T) { answerBytes(t, data, manner) })
		})
		if most := uint64(8<<20 + 32*len(data)); grown > most {
			t.Fatalf("%d bytes of answers allocated %d", len(data), grown)
		}
	})
}

func serveBytes(t *testing.T, data []byte, manner uint64) {
	random := rand.New(rand.NewPCG(manner, 0))
	net := faultnet.New(int64(manner))
	b := listen(t, net, "b")
	core := &fuzzedCore{t: t, random: rand.New(rand.NewPCG(manner, 1)), budget: len(data)}
	b.SetHeartbeatHandler(core.answer)
	serve(t, b, core.answer)

	conn, err := net.Host("a").Dial(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte)
	go func() { all, _ := io.ReadAll(conn); heard <- all }()
	writeInPieces(conn, random, data)
	switch random.IntN(3) {
	case 0:
		_ = conn.(*faultnet.Conn).CloseWrite()
	case 1:
		_ = conn.Close()
	}
	pause(2 * testTimeout)
	_ = conn.Close() // those who are still silent, between messages
	answers := countAnswers(t, <-heard)
	if core.seen.Load() < answers {
		t.Fatalf("%d answers to %d requests", answers, core.seen.Load())
	}
	pause(2 * testTimeout)
	if core.silent.Load() {
		b.CloseStreams() // an answer that never comes keeps a connection
		synctest.Wait()
	}
	if open := net.OpenConns(); open > 0 {
		t.Fatalf("%d connections are left", open)
	}
}

// writeInPieces writes data in up to four pieces, with pauses that are short
// enough, or one that is not.
func writeInPieces(conn io.Writer, random *rand.Rand, data []byte) {
	for range random.IntN(4) {
		n := random.IntN(len(data) + 1)
		if _, err := conn.Write(data[:n]); err != nil {
			return
		}
		data = data[n:]
		pause(time.Duration(random.Int64N(int64(testTimeout * 5 / 4))))
	}
	_, _ = conn.Write(data)
}

// fuzzedCore checks the requests that it gets, and answers them at random.
type fuzzedCore struct {
	t      *testing.T
	seen   atomic.Int64
	silent atomic.Bool // it has left a request without an answer
	budget int         // of bytes that requests may hold

	mu     sync.Mutex // protects random
	random *rand.Rand
}

func (c *fuzzedCore) answer(rpc raftwire.RPC) {
	c.seen.Add(1)
	checkCommand(c.t, rpc, c.budget)
	c.mu.Lock()
	manner := c.random.IntN(8)
	c.mu.Unlock()
	switch manner {
	case 0:
		rpc.Respond(nil, errors.New("refused"))
	case 1:
		rpc.Respond(typedNil(rpc.Command), nil)
	case 2:
		rpc.Respond(otherAnswer(rpc.Command), nil)
	case 3:
		accept(rpc)
		accept(rpc)
	case 4:
		if rpc.Reader != nil {
			_, _ = io.CopyN(io.Discard, rpc.Reader, 1)
		}
		rpc.Respond(nil, nil)
	case 5: // never, but a body cannot be taken back from a core
		if rpc.Reader == nil {
			c.silent.Store(true)
			return
		}
		fallthrough
	default:
		accept(rpc)
	}
}

// checkCommand checks that a command holds no value that could make a core panic.
func checkCommand(t *testing.T, rpc raftwire.RPC, budget int) {
	held := 0
	switch m := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		held = len(m.ID) + len(m.Addr) + len(m.Leader)
		for i, entry := range m.Entries {
			if entry == nil {
				t.Errorf("entry %d is nil", i)
				return
			}
			held += 1 + len(entry.Data) + len(entry.Extensions)
		}
	case *raftwire.InstallSnapshotRequest:
		held = len(m.ID) + len(m.Addr) + len(m.Leader) + len(m.Peers) + len(m.Configuration)
		if m.Size < 0 {
			t.Errorf("size %d", m.Size)
		}
		if rpc.Reader == nil {
			t.Error("a snapshot without a reader")
		}
	case *raftwire.RequestVoteRequest:
		held = len(m.ID) + len(m.Addr) + len(m.Candidate)
	case *raftwire.RequestPreVoteRequest:
		held = len(m.ID) + len(m.Addr)
	case *raftwire.TimeoutNowRequest:
		held = len(m.ID) + len(m.Addr)
	default:
		t.Errorf("a command of type %T", m)
	}
	if held > budget {
		t.Errorf("a command of %d bytes came from %d", held, budget)
	}
}

func answerBytes(t *testing.T, data []byte, manner uint64) {
	net := faultnet.New(int64(manner))
	peer := newBabbler(t, net, data, rand.New(rand.NewPCG(manner, 0)))
	a := listen(t, net, "a", withWindow(4))
	answers := &oracle{codec.NewDecoder(bytes.NewReader(data), new(codec.MsgpackHandle))}
	if r := requests[manner%uint64(len(requests))]; r.name == pipelined {
		checkFutures(t, a, answers)
	} else {
		checkCall(t, a, r, answers)
	}
	peer.becomeSensible()
	resp := staleAppend()
	if err := a.AppendEntries("b", "b", appendRequest(1), resp); err != nil || !reflect.DeepEqual(resp, &sensibleAnswer) {
		t.Fatalf("the next request got %+v and %v", resp, err)
	}
}

func checkCall(t *testing.T, a *raftwire.NetworkTransport, r request, answers *oracle) {
	var resp any
	var err error
	limit := testTimeout
	if r.name == installing {
		limit *= 10 // for the restore
	}
	if took := elapsed(func() { resp, err = r.send(a) }); took > limit {
		t.Fatalf("%v took %v", r, took)
	}
	answers.check(t, resp, err, true)
}

// checkFutures sends up to three requests at once. Their futures must settle in order,
// each with its own answer, until one fails on the way; then the rest must fail.
func checkFutures(t *testing.T, a *raftwire.NetworkTransport, answers *oracle) {
	p := openPipeline(t, a, "b")
	var futures []raftwire.AppendFuture
	for i := range uint64(3) {
		if f, err := p.AppendEntries(appendRequest(i), staleAppend()); err == nil {
			futures = append(futures, f)
		}
	}
	lost := false
	for i, f := range futures {
		if took := elapsed(func() { _ = f.Error() }); took > testTimeout {
			t.Fatalf("future %d took %v", i, took)
		}
		answered := answers.check(t, f.Response(), f.Error(), false)
		if lost && answered {
			t.Fatalf("future %d was answered after one that was lost", i)
		}
		lost = !answered
	}
}

// oracle reads answers from a connection as hashicorp's codec does. A slice would not
// do: from one it does not take an empty extension for a whole value.
type oracle struct{ answers *codec.Decoder }

// check compares the outcome of a request with the next answer, and reports whether
// there was one. Without an answer the response must be zero. keeps says that an error
// leaves the response that came with it.
func (o *oracle) check(t *testing.T, resp any, err error, keeps bool) (answered bool) {
	t.Helper()
	var remote *raftwire.RemoteError
	if err != nil && !errors.As(err, &remote) {
		if !reflect.ValueOf(resp).Elem().IsZero() {
			t.Fatalf("failed with %v and response %+v", err, resp)
		}
		return false
	}
	text, want := o.next(t, resp)
	if (remote != nil) != (text != "") || remote != nil && remote.Text != text {
		t.Fatalf("got error %v from error %q", err, text)
	}
	if remote != nil && !keeps {
		want = reflect.Zero(reflect.TypeOf(want).Elem()).Interface()
		resp = reflect.ValueOf(resp).Elem().Interface()
	}
	if !reflect.DeepEqual(resp, want) {
		t.Fatalf("got response %+v from %+v", resp, want)
	}
	return true
}

// next reads an answer whose response has the same type as like.
func (o *oracle) next(t *testing.T, like any) (text string, resp any) {
	t.Helper()
	resp = reflect.New(reflect.TypeOf(like).Elem()).Interface()
	if err := errors.Join(o.answers.Decode(&text), o.answers.Decode(resp)); err != nil {
		t.Fatalf("took for an answer what is none: %v", err)
	}
	return text, resp
}

// babbler is a peer that answers the first request on its first connection with the
// bytes that it was given.
type babbler struct {
	layer    *faultnet.Layer
	babbled  chan struct{} // closed when it has
	sensible atomic.Bool   // it answers as it should
	jobs     sync.WaitGroup
}

func (p *babbler) listen(data []byte, random *rand.Rand) {
	for first := true; ; first = false {
		conn, err := p.layer.Accept()
		if err != nil {
			return
		}
		p.jobs.Go(func() {
			defer func() { _ = conn.Close() }()
			if !first || p.babble(conn, data, random) {
				p.talk(conn)
			}
		})
	}
}

// babble reports whether it keeps the connection open.
func (p *babbler) babble(conn net_, data []byte, random *rand.Rand) bool {
	defer close(p.babbled)
	_, _ = conn.Read(make([]byte, 4096))
	writeInPieces(conn, random, data)
	return random.IntN(2) == 0
}

// talk answers requests. Each must come with one read.
func (p *babbler) talk(conn net_) {
	answer := appendMsgpack(appendMsgpack(nil, ""), &sensibleAnswer)
	for buf := make([]byte, 4096); ; {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if p.sensible.Load() {
			_, _ = conn.Write(answer)
		}
	}
}

// becomeSensible waits until the peer has sent its bytes. From then on it answers
// properly.
func (p *babbler) becomeSensible() {
	<-p.babbled
	p.sensible.Store(true)
	synctest.Wait()
}

// sensibleAnswer is the answer of a babbler that answers properly.
var sensibleAnswer = raftwire.AppendEntriesResponse{Term: 7, LastLog: 4711, Success: true}

func newBabbler(t *testing.T, net *faultnet.Network, data []byte, random *rand.Rand) *babbler {
	layer, err := net.Host("b").Listen()
	if err != nil {
		t.Fatal(err)
	}
	p := &babbler{layer: layer, babbled: make(chan struct{})}
	p.jobs.Go(func() { p.listen(data, random) })
	t.Cleanup(func() {
		_ = layer.Close()
		p.jobs.Wait()
		if open := net.OpenConns(); open > 0 {
			t.Errorf("%d connections are left", open)
		}
	})
	return p
}

// answerSeeds returns answers, and bytes that are almost one.
func answerSeeds() [][]byte {
	good := appendMsgpack(appendMsgpack(nil, ""), &raftwire.AppendEntriesResponse{
		RPCHeader: raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("b"), Addr: []byte("b")}, Term: 7, LastLog: 300, Success: true,
	})
	both := appendMsgpack(appendMsgpack(nil, "refused"), &raftwire.RequestVoteResponse{Term: 7, Peers: []byte("p"), Granted: true})
	return [][]byte{
		nil, good, bytes.Repeat(good, 3), bytes.Repeat(good, 4), good[:len(good)/2], both, append(both, good...),
		[]byte("\xa0\xc0"), []byte("\xa0\xc0\xa0\xc0\xa0\xc0"), []byte("\xa0\xc0\xa0"), []byte("\xa6failed\xc0"), []byte("\xc0\xc0"),
		[]byte("\xdb\xff\xff\xff\xff"), []byte("\xa0\xdf\xff\xff\xff\xff"), []byte("\xa0\x81\xa4Term\xff"), []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
	}
}

// allocatedBytes returns how much f allocates, freed or not.
func allocatedBytes(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// inboundSeeds returns requests, and what other programs send.
func inboundSeeds() [][]byte {
	seeds := [][]byte{
		nil, []byte("\x03\x80"), []byte("\x03\x80\x03\x80\x03\x80"), []byte("\x05"), []byte("GET / HTTP/1.1\r\n\r\n"), []byte("\x16\x03\x01\x02"),
		[]byte("\x00\x81\xa7Entries\x92\x80\xc0"), []byte("\x00\x82\xa7Entries\x92\x80\x81\xa4Data\xa3abc\xa4Term\x05"),
		[]byte("\x02\x81\xa4Size\xff"), []byte("\x02\x81\xa4Size\x03abc\x03\x80"), []byte("\x02\x81\xa4Size\x05abc"),
		append(snapshotHeader(1<<30), "ten bytes."...),
		[]byte("\x00\x89\xa4Addr\xdb\xff\xff\xff\xff"), []byte("\x00\xdf\xff\xff\xff\xff"), []byte(tinyEntries)[:1000],
	}
	var stream []byte
	for _, c := range commandsOfEveryKind() {
		frame := requestFrame(c)
		seeds = append(seeds, frame)
		stream = append(stream, frame...)
	}
	return append(seeds, stream, bytes.Repeat(stream, 20))
}
