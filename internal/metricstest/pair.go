// Package metricstest lets everything happen that metrics are about, for the
// tests of each metrics library.
package metricstest

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

const (
	// Latency is how long a byte takes from one node to the other.
	Latency = 3 * time.Millisecond
	// CoreTakes is how long the follower's core takes for each request.
	CoreTakes = 2 * time.Millisecond
	// SnapshotSize is what the snapshot has in bytes.
	SnapshotSize = 1 << 20
	// Foreign is what a stranger sends.
	Foreign = "GET / HTTP/1.1\r\n\r\n"

	// CertificateExpiry is when the certificate of both nodes expires, in Unix time. Its CA
	// expires a Day later. In the story both are renewed, for a Day more.
	CertificateExpiry = 2_000_000_000
	// Day is a day in seconds.
	Day = 24 * 60 * 60

	// heldTerm marks an AppendEntries that the core never answers.
	heldTerm = 99
)

// Pair is the transports of a leader and of a follower, hosts of these names
// on one network. It lives in a bubble of testing/synctest.
type Pair struct {
	Network          *faultnet.Network
	Leader, Follower *raftwire.NetworkTransport

	renewed atomic.Bool // the certificates
}

// certified is a layer that says that it has a certificate.
type certified struct {
	*faultnet.Layer
	pair *Pair
}

func (c certified) Expires() (certificate, ca time.Time) {
	expiry := int64(CertificateExpiry)
	if c.pair.renewed.Load() {
		expiry += Day
	}
	return time.Unix(expiry, 0), time.Unix(expiry+Day, 0)
}

// NewPair makes a pair whose nodes have the hooks that hooks gives them.
func NewPair(t *testing.T, hooks func(node string) raftwire.Hooks) *Pair {
	p := &Pair{Network: faultnet.New(1)}
	p.Leader, p.Follower = p.node(t, "leader", hooks), p.node(t, "follower", hooks)
	p.Network.Link("leader", "follower").SetLatency(Latency)
	p.Network.Link("follower", "leader").SetLatency(Latency)
	go core(p.Follower.Consumer(), t.Context().Done())
	return p
}

func (p *Pair) node(t *testing.T, name string, hooks func(node string) raftwire.Hooks) *raftwire.NetworkTransport {
	transport := raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
		Stream: certified{p.Listen(t, name), p}, MaxPool: 3, MaxRPCsInFlight: 16, Timeout: time.Minute, Logger: hclog.NewNullLogger(), Hooks: hooks(name),
	})
	t.Cleanup(func() { require.NoError(t, transport.Close()) })
	return transport
}

// Listen opens the listener of a host on the network.
func (p *Pair) Listen(t *testing.T, host string) *faultnet.Layer {
	layer, err := p.Network.Host(host).Listen()
	require.NoError(t, err)
	return layer
}

// core is a Raft core that takes its time and votes for nobody.
func core(requests <-chan raftwire.RPC, done <-chan struct{}) {
	for {
		select {
		case rpc := <-requests:
			answer(rpc)
		case <-done:
			return
		}
	}
}

func answer(rpc raftwire.RPC) {
	time.Sleep(CoreTakes)
	switch command := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		if command.Term != heldTerm {
			rpc.Respond(&raftwire.AppendEntriesResponse{Success: true}, nil)
		}
	case *raftwire.RequestVoteRequest:
		rpc.Respond(nil, errors.New("not now"))
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(&raftwire.RequestPreVoteResponse{}, nil)
	case *raftwire.TimeoutNowRequest:
		rpc.Respond(&raftwire.TimeoutNowResponse{}, nil)
	case *raftwire.InstallSnapshotRequest:
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Success: true}, err)
	}
}

// Story calls look before anything has happened, in the middle, and after. The
// leader sends one request of each kind, of which the vote is refused, and two
// on a pipeline, of which the first is answered and not consumed, the other
// never answered. Certificates are renewed. In the middle half of a snapshot is on its
// way. Then a stranger talks to the follower, and the leader dials a host that is not
// there.
func (p *Pair) Story(t *testing.T, look func()) {
	look()
	p.callOnceEach(t)
	p.pipelineTwo(t)
	p.renewed.Store(true)
	time.Sleep(time.Second)
	finish := p.halfASnapshot(t)
	look()
	finish()
	p.strangerTalks(t)
	require.Error(t, p.Leader.RequestVote("nobody", "nobody", &raftwire.RequestVoteRequest{}, &raftwire.RequestVoteResponse{}))
	synctest.Wait()
	look()
}

func (p *Pair) callOnceEach(t *testing.T) {
	heartbeat := &raftwire.AppendEntriesRequest{RPCHeader: raftwire.RPCHeader{Addr: []byte("leader")}, Term: 1}
	require.NoError(t, p.Leader.AppendEntries("follower", "follower", heartbeat, &raftwire.AppendEntriesResponse{}))
	require.NoError(t, p.Leader.AppendEntries("follower", "follower", entries(1, 2), &raftwire.AppendEntriesResponse{}))
	require.Error(t, p.Leader.RequestVote("follower", "follower", &raftwire.RequestVoteRequest{}, &raftwire.RequestVoteResponse{}))
	require.NoError(t, p.Leader.RequestPreVote("follower", "follower", &raftwire.RequestPreVoteRequest{}, &raftwire.RequestPreVoteResponse{}))
	require.NoError(t, p.Leader.TimeoutNow("follower", "follower", &raftwire.TimeoutNowRequest{}, &raftwire.TimeoutNowResponse{}))
}

func (p *Pair) pipelineTwo(t *testing.T) {
	pipeline, err := p.Leader.AppendEntriesPipeline("follower", "follower")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pipeline.Close()) })
	for _, term := range []uint64{1, heldTerm} {
		_, err = pipeline.AppendEntries(entries(term, 1), &raftwire.AppendEntriesResponse{})
		require.NoError(t, err)
	}
}

func entries(term uint64, n int) *raftwire.AppendEntriesRequest {
	request := &raftwire.AppendEntriesRequest{Term: term}
	for i := range n {
		request.Entries = append(request.Entries, &raftwire.Log{Index: uint64(i + 1), Term: term, Data: []byte("set x=1")})
	}
	return request
}

// halfASnapshot sends half of a snapshot and returns what sends the rest.
func (p *Pair) halfASnapshot(t *testing.T) (finish func()) {
	body, source := io.Pipe()
	result := make(chan error)
	go func() {
		request := &raftwire.InstallSnapshotRequest{Size: SnapshotSize}
		result <- p.Leader.InstallSnapshot("follower", "follower", request, &raftwire.InstallSnapshotResponse{}, body)
	}()
	half := make([]byte, SnapshotSize/2)
	_, err := source.Write(half)
	require.NoError(t, err)
	time.Sleep(time.Second) // the follower has it then
	return func() {
		_, err := source.Write(half)
		require.NoError(t, err)
		require.NoError(t, source.Close())
		require.NoError(t, <-result)
	}
}

// strangerTalks sends what is not Raft, and waits to be thrown out.
func (p *Pair) strangerTalks(t *testing.T) {
	conn, err := p.Network.Host("stranger").Dial(t.Context(), "follower")
	require.NoError(t, err)
	_, err = io.WriteString(conn, Foreign)
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, conn.Close())
}
