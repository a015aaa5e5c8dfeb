package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Every request under every fault ends when it should, with the right error, and with
// the right response or none. Afterwards the transport works, and no goroutine or
// connection is left.
func TestNetworkTransport_EveryRequestUnderEveryFault(t *testing.T) {
	for _, f := range faults {
		for _, r := range requests {
			for _, reused := range []bool{false, true} {
				for _, crumb := range []int{0, 3} {
					name := fmt.Sprintf("%v, %v, %v, %v", f, r, choose(reused, "on an idle connection", "on a new connection"), choose(crumb > 0, "in crumbs", "in one piece"))
					t.Run(name, func(t *testing.T) {
						onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
							net.Slice(crumb)
							newRig(t, net).run(f, r, reused)
						})
					})
				}
			}
		}
	}
}

// rig is a transport and its peer, with faults that a test can switch on.
type rig struct {
	t    *testing.T
	net  *faultnet.Network
	a, b *raftwire.NetworkTransport
	core atomic.Pointer[func(x *rig, rpc raftwire.RPC)]
	seen atomic.Int32 // requests that reached it
	gone atomic.Bool  // b's process has ended, or is closed

	rough atomic.Pointer[roughness] // of b's connections
}

// startPeer starts b, or another one in its place. Its timeout is long, so that a is
// the one that gives up.
func (x *rig) startPeer() {
	x.b = listenWrapped(x.t, x.net, "b", func(conn net.Conn) net.Conn { return &roughConn{conn, &x.rough} }, withTimeout(time.Hour))
	x.b.SetHeartbeatHandler(x.answer)
	serve(x.t, x.b, x.answer)
}

func (x *rig) behave(core func(*rig, raftwire.RPC)) { x.core.Store(&core) }

// answer never blocks, since a heartbeat handler must not.
func (x *rig) answer(rpc raftwire.RPC) {
	x.seen.Add(1)
	core := *x.core.Load()
	go core(x, rpc)
}

func (x *rig) run(f fault, r request, reused bool) {
	if reused {
		require.NoError(x.t, appendOnce(x.a, "b"))
	}
	x.seen.Store(0)
	if f.core != nil {
		x.behave(f.core)
	}
	if f.before != nil {
		f.before(x)
	}
	var resp any
	var err error
	took := elapsed(func() { resp, err = r.send(x.a) })
	f.want.of(r, reused).check(x.t, r, resp, err, took)
	require.LessOrEqual(x.t, x.seen.Load(), f.want.deliveries(r, reused), "the request was delivered again")

	x.repair()
	resp, err = r.send(x.a)
	if x.a.IsShutdown() {
		shutDown.check(x.t, r, resp, err, 0)
	} else {
		succeeds.check(x.t, r, resp, err, 0)
	}
}

// repair ends every fault, once what is slow has come to its end.
func (x *rig) repair() {
	x.behave(healthy)
	x.rough.Store(nil)
	x.net.SetBuffer(faultnet.DefaultBuffer)
	x.net.Link("a", "b").ResetAfter(-1)
	x.net.Link("b", "a").ResetAfter(-1)
	x.away(0)
	x.net.Host("b").Refuse(false)
	x.net.Host("b").FailAccepts(false)
	x.net.Host("b").Restart()
	x.net.Heal()
	pause(10 * time.Minute)
	if x.gone.Load() {
		require.NoError(x.t, x.b.Close())
		x.startPeer()
	}
}

// away gives b a latency of d.
func (x *rig) away(d time.Duration) {
	toward(x).SetLatency(d)
	from(x).SetLatency(d)
}

func newRig(t *testing.T, net *faultnet.Network) *rig {
	x := &rig{t: t, net: net, a: listen(t, net, "a")}
	x.behave(healthy)
	x.startPeer()
	return x
}

func healthy(_ *rig, rpc raftwire.RPC) { accept(rpc) }

// slowReader and slowWriter take half a timeout for each byte.
var (
	slowReader = &roughness{afterRead: func(n int) { pause(time.Duration(n) * testTimeout / 2) }}
	slowWriter = &roughness{write: func(c *roughConn, p []byte) (n int, err error) {
		for ; n < len(p) && err == nil; n++ {
			pause(testTimeout / 2)
			_, err = c.Conn.Write(p[n : n+1])
		}
		return n, err
	}}
)

// garbage writes what is no answer, and stammer says everything twice.
var (
	garbage = &roughness{write: func(c *roughConn, p []byte) (int, error) { return c.Conn.Write(bytes.Repeat([]byte{0xc1}, len(p))) }}
	stammer = &roughness{write: func(c *roughConn, p []byte) (int, error) {
		_, err := c.Conn.Write(bytes.Repeat(p, 2))
		return len(p), err
	}}
)

// halfAnswer writes the first half of everything, then calls next.
func halfAnswer(then func(*roughConn)) *roughness {
	return &roughness{write: func(c *roughConn, p []byte) (int, error) {
		_, err := c.Conn.Write(p[:len(p)/2])
		then(c)
		return len(p), err
	}}
}

// fault is something that goes wrong: before the request, or when it is at the
// core.
type fault struct {
	name   string
	before func(x *rig)
	core   func(x *rig, rpc raftwire.RPC)
	want   wants
}

func (f fault) String() string { return f.name }

// wants says what becomes of requests. An outcome that is not set is that of all.
type wants struct {
	all, pipeline, snapshot outcome

	// On a connection that was idle, which snapshots never use.
	reusedCall, reusedPipeline outcome

	// triedAgain is set if such a connection can fail with the request at the
	// core and no byte of an answer: then it may be tried once more.
	triedAgain bool
}

// deliveries is how often a request may reach the core.
func (w wants) deliveries(r request, reused bool) int32 {
	if w.triedAgain && reused && r.name != installing && r.name != pipelined {
		return 2
	}
	return 1
}

func (w wants) of(r request, reused bool) outcome {
	special := outcome{}
	switch {
	case r.name == installing:
		special = w.snapshot
	case r.name == pipelined && reused && w.reusedPipeline.is != nil:
		special = w.reusedPipeline
	case r.name == pipelined:
		special = w.pipeline
	case reused:
		special = w.reusedCall
	}
	if special.is == nil {
		return w.all
	}
	return special
}

// outcome is what a request must come to.
type outcome struct {
	is     func(t *testing.T, err error)
	after  time.Duration // exactly, if it is a timeout; else the request ends promptly
	answer bool          // the response is the right one, else it is zero
}

func (o outcome) check(t *testing.T, r request, resp any, err error, took time.Duration) {
	t.Helper()
	o.is(t, err)
	if o.after > 0 {
		require.Equal(t, o.after, took)
	} else {
		require.LessOrEqual(t, took, prompt)
	}
	if o.answer {
		require.Equal(t, answers[r.name], resp)
	} else {
		require.True(t, reflect.ValueOf(resp).Elem().IsZero(), "the response must be zero: %+v", resp)
	}
}

// answers are the answers that accept gives.
var answers = map[string]any{
	"AppendEntries":  &raftwire.AppendEntriesResponse{Term: 7, LastLog: 1, Success: true},
	pipelined:        &raftwire.AppendEntriesResponse{Term: 7, LastLog: 1, Success: true},
	"heartbeat":      &raftwire.AppendEntriesResponse{Term: 7, Success: true},
	"RequestVote":    &raftwire.RequestVoteResponse{Term: 7, Granted: true},
	"RequestPreVote": &raftwire.RequestPreVoteResponse{Term: 7, Granted: true},
	"TimeoutNow":     &raftwire.TimeoutNowResponse{},
	installing:       &raftwire.InstallSnapshotResponse{Term: 7, Success: true},
}

var (
	succeeds = outcome{is: func(t *testing.T, err error) { require.NoError(t, err) }, answer: true}
	isZero   = outcome{is: succeeds.is}
	shutDown = outcome{is: func(t *testing.T, err error) { require.True(t, err == raftwire.ErrTransportShutdown, "got %v", err) }}
	isLost   = outcome{is: func(t *testing.T, err error) {
		requireOpError(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}}
	timesOut = outcome{after: testTimeout, is: func(t *testing.T, err error) {
		requireOpError(t, err)
		requireTimeout(t, err)
	}}
	// A snapshot that has been sent waits for the follower's restore.
	restoreTimesOut = outcome{after: 10 * testTimeout, is: timesOut.is}
)

// isRemote is an error that the peer's core answered with.
func isRemote(text string) outcome {
	return outcome{is: func(t *testing.T, err error) {
		var remote *raftwire.RemoteError
		require.ErrorAs(t, err, &remote)
		require.Contains(t, remote.Error(), text)
		require.Equal(t, raftwire.ServerAddress("b"), remote.Peer)
	}}
}

var (
	late               = wants{all: timesOut, snapshot: restoreTimesOut}
	lost               = wants{all: isLost}
	lostWithTheRequest = wants{all: isLost, triedAgain: true}
	lostUnlessOld      = wants{all: isLost, reusedCall: succeeds, reusedPipeline: isLost}
)

const (
	half = testTimeout / 2
	far  = testTimeout / 8

	// acceptGrace is how long CloseStreams takes.
	acceptGrace = 5 * time.Millisecond
)

// toward and from return faults of one direction of the link.
func toward(x *rig) *faultnet.Link { return x.net.Link("a", "b") }
func from(x *rig) *faultnet.Link   { return x.net.Link("b", "a") }

var faults = []fault{
	{name: "nothing", want: wants{all: succeeds}},

	{name: "reset before the request", want: lostUnlessOld, before: func(x *rig) { toward(x).ResetAfter(0) }},
	{name: "reset inside the request", want: lostUnlessOld, before: func(x *rig) { toward(x).ResetAfter(1) }},
	{name: "reset after the request", want: lostWithTheRequest, core: func(x *rig, rpc raftwire.RPC) { x.net.Reset("a", "b"); accept(rpc) }},
	{name: "reset inside the answer", want: lost, before: func(x *rig) { from(x).ResetAfter(1) }},
	{name: "reset while idle", want: wants{all: succeeds}, before: func(x *rig) { x.net.Reset("a", "b"); synctest.Wait() }},

	{name: "black hole", want: wants{all: timesOut}, before: func(x *rig) { x.net.Partition("a", "b") }},
	{name: "black hole for requests", want: wants{all: timesOut}, before: func(x *rig) { toward(x).Cut() }},
	{name: "black hole for answers", want: wants{all: timesOut}, before: func(x *rig) { from(x).Cut() }},
	{name: "black hole once the request is there", want: late, core: func(x *rig, rpc raftwire.RPC) { from(x).Cut(); accept(rpc) }},

	{name: "black hole that heals", want: wants{all: succeedsAfter(half)}, before: func(x *rig) {
		x.net.Partition("a", "b")
		time.AfterFunc(half, x.net.Heal)
	}},
	{name: "black hole and Close", want: wants{all: outcome{is: shutDown.is, after: half}}, before: func(x *rig) {
		x.net.Partition("a", "b")
		time.AfterFunc(half, func() { _ = x.a.Close() })
	}},
	{name: "black hole and CloseStreams", before: func(x *rig) {
		x.net.Partition("a", "b")
		time.AfterFunc(half-acceptGrace, x.a.CloseStreams)
	}, want: wants{all: timesOut, reusedCall: outcome{is: isLost.is, after: half}, reusedPipeline: outcome{is: isLost.is, after: half}}},
	{name: "a long way", want: wants{all: succeedsAfter(4 * far), reusedCall: succeedsAfter(2 * far), reusedPipeline: succeedsAfter(2 * far)}, before: func(x *rig) { x.away(far) }},
	{name: "too long a way", want: wants{all: timesOut}, before: func(x *rig) { x.away(testTimeout) }},

	{name: "slow reader", want: wants{all: timesOut}, before: func(x *rig) { x.net.SetBuffer(16); x.rough.Store(slowReader) }},
	{name: "slow loris", want: late, before: func(x *rig) { x.rough.Store(slowWriter) }},
	{name: "half an answer and silence", want: late, before: func(x *rig) { x.rough.Store(halfAnswer(func(*roughConn) {})) }},
	{name: "half an answer and goodbye", want: lost, before: func(x *rig) {
		x.rough.Store(halfAnswer(func(c *roughConn) { _ = c.Conn.Close() }))
	}},

	{name: "garbage for an answer", want: lost, before: func(x *rig) { x.rough.Store(garbage) }},
	{name: "more than an answer", want: wants{all: succeeds}, before: func(x *rig) { x.rough.Store(stammer) }},

	{name: "nobody there", want: lost, before: func(x *rig) { x.gone.Store(true); _ = x.b.Close(); synctest.Wait() }},
	{name: "refused", want: wants{all: isLost, reusedCall: succeeds, reusedPipeline: succeeds}, before: func(x *rig) { x.net.Host("b").Refuse(true) }},
	{name: "never accepted", before: func(x *rig) { x.net.Host("b").FailAccepts(true) },
		want: wants{all: timesOut, snapshot: restoreTimesOut, reusedCall: succeeds, reusedPipeline: succeeds}},
	{name: "restart while idle", want: wants{all: succeeds}, before: func(x *rig) { x.net.Host("b").Crash(); x.gone.Store(true); x.repair() }},
	{name: "half-open", want: wants{all: timesOut}, before: func(x *rig) { x.net.Host("b").PowerOff(); x.gone.Store(true) }},
	{name: "half-open and restarted", want: wants{all: succeeds, reusedPipeline: isLost}, before: func(x *rig) {
		x.net.Host("b").PowerOff()
		x.gone.Store(true)
		x.repair()
	}},
	{name: "crash at the request", want: lost, core: func(x *rig, rpc raftwire.RPC) { x.gone.Store(true); x.net.Host("b").Crash() }},
	{name: "power cut at the request", want: late, core: func(x *rig, rpc raftwire.RPC) { x.gone.Store(true); x.net.Host("b").PowerOff() }},

	{name: "Close", want: wants{all: shutDown}, core: func(x *rig, _ raftwire.RPC) { _ = x.a.Close() }},
	{name: "CloseStreams", want: lost, core: func(x *rig, _ raftwire.RPC) { x.a.CloseStreams() }},
	{name: "Close of the peer", want: lost, core: func(x *rig, _ raftwire.RPC) { x.gone.Store(true); _ = x.b.Close() }},
	{name: "CloseStreams of the peer", want: lostWithTheRequest, core: func(x *rig, _ raftwire.RPC) { x.b.CloseStreams() }},

	{name: "no answer", want: late, core: func(*rig, raftwire.RPC) {}},
	{name: "a late answer", want: wants{all: timesOut, snapshot: succeedsLate}, core: func(_ *rig, rpc raftwire.RPC) { pause(2 * testTimeout); accept(rpc) }},
	{name: "a nil answer", want: wants{all: isZero}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond(nil, nil) }},
	{name: "a typed nil", want: wants{all: isZero}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond(typedNil(rpc.Command), nil) }},
	{name: "a typed nil and an error", want: wants{all: isRemote("busy")}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond(typedNil(rpc.Command), errors.New("busy")) }},
	{name: "the wrong type", want: wants{all: isRemote("the consumer answered")}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond("yes", nil) }},
	{name: "the answer to another request", want: wants{all: isRemote("the consumer answered")}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond(otherAnswer(rpc.Command), nil) }},
	{name: "an answer and an error", want: wants{all: withAnswer(isRemote("busy")), pipeline: isRemote("busy")}, core: answerWithError},
	{name: "an error", want: wants{all: isRemote("busy")}, core: func(_ *rig, rpc raftwire.RPC) { rpc.Respond(nil, errors.New("busy")) }},
	{name: "two answers", want: wants{all: succeeds}, core: func(_ *rig, rpc raftwire.RPC) { accept(rpc); rpc.Respond(nil, errors.New("again")) }},
}

// succeedsAfter is the outcome of a request that takes d on its way.
func succeedsAfter(d time.Duration) outcome {
	return outcome{is: succeeds.is, after: d, answer: true}
}

// succeedsLate is the outcome of a snapshot whose restore takes d.
var succeedsLate = succeedsAfter(2 * testTimeout)

// withAnswer returns an outcome that has the right response nevertheless.
func withAnswer(o outcome) outcome {
	o.answer = true
	return o
}

// answerWithError gives a right response together with an error.
func answerWithError(_ *rig, rpc raftwire.RPC) {
	right := make(chan raftwire.RPCResponse, 1)
	accept(raftwire.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: right})
	rpc.Respond((<-right).Response, errors.New("busy"))
}
