package raftwire_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Every request from every kind of sender: only whole requests reach the core, and the
// connection ends when it should. It is counted if it was refused. Others are served
// meanwhile, and no goroutine or connection is left.
func TestNetworkTransport_EveryRequestFromEverySender(t *testing.T) {
	for _, s := range senders {
		for _, in := range inboundRequests() {
			for _, crumb := range []int{0, 3} {
				name := fmt.Sprintf("%s, %s, %s", s.name, in.name, choose(crumb > 0, "in crumbs", "in one piece"))
				t.Run(name, func(t *testing.T) {
					onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
						net.Slice(crumb)
						newReceiver(t, net, s).suffer(s, in)
					})
				})
			}
		}
	}
}

// inbound is what a sender sends: one request, or several.
type inbound struct {
	name  string
	bytes []byte
	begun int // bytes before those inside of which something goes wrong

	// How many requests reach the core, if it does and if it does not.
	early, all int32

	snapshot bool // the core reads a body
}

// isBody reports whether something goes wrong in the body of a snapshot.
func (in inbound) isBody() bool { return in.snapshot && in.begun > 0 }

func inboundRequests() []inbound {
	header := snapshotHeader(100)
	three := bytes.Repeat(requestFrame(appendRequest(1)), 3)
	all := []inbound{
		{name: "a snapshot's body", bytes: append(header, make([]byte, 100)...), begun: len(header), early: 1, all: 1, snapshot: true},
		{name: "the third of three", bytes: three, begun: len(three) / 3 * 2, early: 2, all: 3},
	}
	for _, command := range commandsOfEveryKind() {
		_, snapshot := command.(*raftwire.InstallSnapshotRequest)
		all = append(all, inbound{name: nameOf(command), bytes: requestFrame(command), all: 1, snapshot: snapshot})
	}
	return all
}

func nameOf(command any) string {
	if m, ok := command.(*raftwire.AppendEntriesRequest); ok && len(m.Entries) == 0 {
		return "heartbeat"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", command), "*raftwire.")
}

// receiver is a transport, and a raw connection to it.
type receiver struct {
	t     *testing.T
	net   *faultnet.Network
	b     *raftwire.NetworkTransport
	conn  *faultnet.Conn
	heard chan []byte    // everything that was read from conn, once that is over
	seen  atomic.Int32   // requests that reached the core
	over  atomic.Bool    // the core is healthy again
	ended chan time.Time // when the connection did
}

func (x *receiver) suffer(s sender, in inbound) {
	s.does(x, in)
	done := time.Now()
	pause(time.Hour)
	x.checkEnd(s, in, done)
	x.net.Heal()
	_ = x.conn.Close()
	x.checkDeliveries(s, in)
	refused := s.refused
	if in.snapshot && s.surplus {
		refused = raftwire.Refusals{}
	}
	synctest.Wait() // a refusal is counted after the connection was closed
	require.Equal(x.t, refused, x.b.Refusals())
	x.checkOthers()
}

func (x *receiver) checkDeliveries(s sender, in inbound) {
	want := in.early
	if s.whole {
		want = in.all
	}
	if s.deaf || s.core != nil { // a request may wait for the answer to the one before
		want = min(want, max(x.seen.Load(), 1))
	}
	require.Equal(x.t, want, x.seen.Load(), "requests at the core")
	if s.hears {
		require.EqualValues(x.t, want, countAnswers(x.t, <-x.heard), "answers")
	}
}

func (x *receiver) checkEnd(s sender, in inbound, done time.Time) {
	after := s.after
	if in.snapshot && s.snapshotAfter != 0 {
		after = s.snapshotAfter
	}
	if in.isBody() && s.bodyAfter != 0 {
		after = s.bodyAfter
	}
	select {
	case ended := <-x.ended:
		took := ended.Sub(done)
		switch after {
		case promptly:
			require.LessOrEqual(x.t, took, prompt)
		case answered:
			require.LessOrEqual(x.t, took, testTimeout)
		case whenIdle:
			require.LessOrEqual(x.t, took, 3*atWork)
		default:
			require.Equal(x.t, after, took)
		}
	default:
		require.Equal(x.t, stays, after, "the connection is still open")
	}
}

// checkOthers checks that another peer is served.
func (x *receiver) checkOthers() {
	x.over.Store(true)
	b := x.b
	if b.IsShutdown() {
		b = listen(x.t, x.net, "b")
		serve(x.t, b, accept)
	}
	x.net.SetBuffer(faultnet.DefaultBuffer)
	c := listen(x.t, x.net, "c")
	var resp raftwire.RequestVoteResponse
	require.NoError(x.t, c.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 7}, &resp))
	require.True(x.t, resp.Granted)
}

func newReceiver(t *testing.T, net *faultnet.Network, s sender) *receiver {
	x := &receiver{t: t, net: net, heard: make(chan []byte, 1), ended: make(chan time.Time, 3)}
	if s.deaf {
		net.SetBuffer(16)
	}
	x.b = listen(t, net, "b", withHooks(raftwire.Hooks{
		ConnClosed: func(raftwire.ConnEvent) { x.ended <- time.Now() },
	}))
	serve(t, x.b, func(rpc raftwire.RPC) {
		x.seen.Add(1)
		if core := s.core; core != nil && !x.over.Load() {
			go core(rpc)
		} else {
			go accept(rpc)
		}
	})
	x.conn = dialRaw(t, net, "a").(*faultnet.Conn)
	if !s.deaf {
		go func() { all, _ := io.ReadAll(x.conn); x.heard <- all }()
	}
	return x
}

// sender is a way to send requests, and what must come of it.
type sender struct {
	name string
	does func(x *receiver, in inbound)
	core func(rpc raftwire.RPC) // nil: it is healthy

	// When the connection ends, after does has returned: exactly, or promptly. A
	// snapshot is the last request on its connection.
	after, snapshotAfter, bodyAfter time.Duration

	surplus bool // what it sends after a snapshot is thrown away
	whole   bool // all that was sent reaches the core, else what came early
	hears   bool // and all of that is answered
	deaf    bool // nothing is read from the connection, which holds little
	refused raftwire.Refusals
}

const (
	promptly = time.Duration(0)
	stays    = time.Duration(-1)
	answered = time.Duration(-2) // once it has been silent for Timeout after the answer

	whenIdle = time.Duration(-3) // once the core has answered all

	// atWork is how long a busy core takes.
	atWork = 10 * time.Second
)

var stalled = raftwire.Refusals{Stalled: 1}

var senders = []sender{
	{name: "hangs up inside", does: halfway(hangUp)},
	{name: "resets inside", does: halfway(breakOff)},
	{name: "falls silent inside", does: halfway(nothing), after: testTimeout, bodyAfter: time.Minute, hears: true, refused: stalled},
	{name: "is cut off inside", does: halfway(cutOff), after: testTimeout, bodyAfter: time.Minute, refused: stalled},
	{name: "loses its power inside", does: halfway(powerOff), after: testTimeout, bodyAfter: time.Minute, refused: stalled},
	{name: "meets CloseStreams inside", does: halfway(closeStreams)},
	{name: "meets Close inside", does: halfway(closeTransport)},

	{name: "brings a byte now and then", does: drip, after: stays, snapshotAfter: answered, whole: true, hears: true},
	{name: "ends its side after it", does: goesOn("", endSide), whole: true, hears: true},
	{name: "never reads", does: push, after: testTimeout, whole: true, deaf: true, refused: stalled},
	{name: "is cut off after it", does: wholly(cutOff), after: stays, snapshotAfter: answered, whole: true, hears: true},
	{name: "goes on with garbage", does: goesOn("\xc1", nothing), snapshotAfter: answered, surplus: true, whole: true, hears: true, refused: raftwire.Refusals{Foreign: 1}},
	{name: "goes on with half a request", does: goesOn("\x00\x81\xa4", nothing), after: testTimeout, surplus: true, whole: true, hears: true, refused: stalled},

	{name: "hangs up on a busy core", does: wholly(hangUp), core: busyCore, whole: true, after: whenIdle, snapshotAfter: atWork},
	{name: "resets on a busy core", does: wholly(breakOff), core: busyCore, whole: true, after: whenIdle, snapshotAfter: atWork},
	{name: "meets CloseStreams at a busy core", does: wholly(closeStreams), core: busyCore, whole: true},
	{name: "meets Close at a busy core", does: wholly(closeTransport), core: busyCore, whole: true},
}

func busyCore(rpc raftwire.RPC) {
	if rpc.Reader != nil {
		_, _ = io.Copy(io.Discard, rpc.Reader)
	}
	pause(atWork)
	accept(rpc)
}

// halfway sends what comes before the place where something goes wrong, and half of
// the rest.
func halfway(then func(*receiver)) func(*receiver, inbound) {
	return func(x *receiver, in inbound) {
		say(x.t, x.conn, string(in.bytes[:(in.begun+len(in.bytes))/2]))
		synctest.Wait()
		then(x)
	}
}

// wholly sends everything, and waits until it has arrived.
func wholly(then func(*receiver)) func(*receiver, inbound) {
	return func(x *receiver, in inbound) {
		say(x.t, x.conn, string(in.bytes))
		synctest.Wait()
		then(x)
	}
}

// goesOn sends everything, and more, at once.
func goesOn(more string, then func(*receiver)) func(*receiver, inbound) {
	return func(x *receiver, in inbound) {
		say(x.t, x.conn, string(in.bytes)+more)
		then(x)
	}
}

// drip sends as slowly as is allowed. A body allows less than a message.
func drip(x *receiver, in inbound) {
	for i, b := range in.bytes {
		say(x.t, x.conn, string([]byte{b}))
		if in.isBody() && i >= in.begun {
			pause(testTimeout / 2)
		} else {
			pause(testTimeout - 1)
		}
	}
}

// push sends without waiting until the bytes are taken.
func push(x *receiver, in inbound) {
	go func() { _, _ = x.conn.Write(in.bytes) }()
	synctest.Wait()
}

func nothing(*receiver)          {}
func hangUp(x *receiver)         { _ = x.conn.Close() }
func endSide(x *receiver)        { _ = x.conn.CloseWrite() }
func breakOff(x *receiver)       { x.conn.Reset() }
func cutOff(x *receiver)         { x.net.Partition("a", "b") }
func powerOff(x *receiver)       { x.net.Host("a").PowerOff() }
func closeStreams(x *receiver)   { x.b.CloseStreams() }
func closeTransport(x *receiver) { _ = x.b.Close() }
