package hashicorpraft

import (
	"errors"
	"io"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/dispatch"
)

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// Transport is a raftwire transport with the types of hashicorp/raft. Its
// methods keep the promises of [raftwire.Transport]; errors that
// hashicorp/raft has a sentinel for are that sentinel.
type Transport struct {
	inner raftwire.Transport
	inbox *dispatch.Dispatcher[raft.RPC, raft.RPCResponse]
	pump  *pump // reads inner's Consumer, or nil if nothing can be there
}

// Wrap returns t with the types of hashicorp/raft. It takes t over: t's
// Consumer and heartbeat handler are the wrapper's from now on, and closing
// the wrapper closes t. Wrap a transport once; Wrap panics if there is none.
//
// The transports of raftwire hand their requests over without a goroutine in
// between ([raftwire.WithDispatcher], [raftwire.WithPipelineSink]). For any
// other, the wrapper runs a goroutine that reads Consumer, one for each
// request that waits for its answer, and one for each pipeline.
//
// If t has no [raftwire.WithPreVote], RequestPreVote always fails, with an error that
// hashicorp/raft takes for a granted pre-vote. So such a cluster elects as if pre-vote
// were off.
func Wrap(t raftwire.Transport) *Transport {
	if t == nil || isNilPointer(t) {
		panic(errNothingToWrap)
	}
	wrapper := &Transport{inner: t, inbox: dispatch.New(make(chan raft.RPC), newRPC)}
	if seam, ok := t.(raftwire.WithDispatcher); ok {
		seam.SetDispatcher(wrapper.open)
	} else {
		wrapper.pump = startPump(t, wrapper.open)
	}
	return wrapper
}

const errNothingToWrap = "hashicorpraft: the transport to wrap is nil: look at the error of its constructor"

// Unwrap returns the transport that Wrap was called with, for what only
// raftwire's own methods offer.
func (t *Transport) Unwrap() raftwire.Transport { return t.inner }

// Consumer returns the channel of inbound requests.
func (t *Transport) Consumer() <-chan raft.RPC { return t.inbox.Consumer() }

// LocalAddr returns the address under which peers reach this transport.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.inner.LocalAddr()) }

// EncodePeer turns an address into the bytes that travel in requests.
func (t *Transport) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return t.inner.EncodePeer(raftwire.ServerID(id), raftwire.ServerAddress(addr))
}

// DecodePeer turns the bytes of EncodePeer back into an address.
func (t *Transport) DecodePeer(buf []byte) raft.ServerAddress {
	return raft.ServerAddress(t.inner.DecodePeer(buf))
}

// SetHeartbeatHandler sets the function that takes heartbeats in place of
// Consumer; nil takes it away. It must not block.
func (t *Transport) SetHeartbeatHandler(cb func(rpc raft.RPC)) {
	t.inbox.SetHeartbeatHandler(cb)
	if t.pump != nil {
		t.pump.divertHeartbeats(cb != nil)
	}
}

// AppendEntries sends an AppendEntries request, or a heartbeat.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	answer := appendEntriesResponse.toWire(resp)
	err := t.inner.AppendEntries(raftwire.ServerID(id), raftwire.ServerAddress(target), appendEntriesRequest.toWire(args), answer)
	appendEntriesResponse.fill(resp, answer)
	return raftError(err)
}

// RequestVote asks target for its vote.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	answer := requestVoteResponse.toWire(resp)
	err := t.inner.RequestVote(raftwire.ServerID(id), raftwire.ServerAddress(target), requestVoteRequest.toWire(args), answer)
	requestVoteResponse.fill(resp, answer)
	return raftError(err)
}

// errNoPreVote has the words by which a core recognises a peer that is too old
// for pre-votes, and counts it as in favour.
var errNoPreVote = errors.New("unexpected command: this transport has no pre-vote")

// RequestPreVote asks whether target would grant a vote.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	inner, ok := t.inner.(raftwire.WithPreVote)
	if !ok {
		return errNoPreVote
	}
	answer := requestPreVoteResponse.toWire(resp)
	err := inner.RequestPreVote(raftwire.ServerID(id), raftwire.ServerAddress(target), requestPreVoteRequest.toWire(args), answer)
	requestPreVoteResponse.fill(resp, answer)
	return raftError(err)
}

// InstallSnapshot sends a snapshot: the request, then what data yields, up to
// args.Size bytes.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	answer := installSnapshotResponse.toWire(resp)
	err := t.inner.InstallSnapshot(raftwire.ServerID(id), raftwire.ServerAddress(target), installSnapshotRequest.toWire(args), answer, data)
	installSnapshotResponse.fill(resp, answer)
	return raftError(err)
}

// TimeoutNow tells target to start an election at once.
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	answer := timeoutNowResponse.toWire(resp)
	err := t.inner.TimeoutNow(raftwire.ServerID(id), raftwire.ServerAddress(target), timeoutNowRequest.toWire(args), answer)
	timeoutNowResponse.fill(resp, answer)
	return raftError(err)
}

// ClosePeer ends what is under way to a peer, and closes the idle connections to it:
// see [raftwire.WithClosePeer]. With a transport that cannot it does nothing.
func (t *Transport) ClosePeer(peer raft.ServerAddress) {
	if inner, ok := t.inner.(raftwire.WithClosePeer); ok {
		inner.ClosePeer(raftwire.ServerAddress(peer))
	}
}

// Close closes the wrapped transport, if it can be closed, and ends every
// goroutine of the wrapper.
func (t *Transport) Close() error {
	var err error
	if inner, ok := t.inner.(raftwire.WithClose); ok {
		err = inner.Close()
	}
	if t.pump != nil {
		t.pump.stop()
	}
	return raftError(err)
}
