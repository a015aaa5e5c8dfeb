package raftwire

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/identity"
)

var (
	// ErrTransportShutdown is returned, unwrapped, by every call on a closed
	// transport and by calls under way when it is closed. A transport whose
	// configuration made no sense returns what is wrong with it instead.
	ErrTransportShutdown = errors.New("transport shutdown")

	// ErrPipelineShutdown is returned, unwrapped, by calls on a closed
	// pipeline, and settles the futures that were in flight. A pipeline that failed
	// before it was closed continues to return the error that it failed with.
	ErrPipelineShutdown = errors.New("append pipeline closed")

	// ErrPipelineReplicationNotSupported is returned, unwrapped, by
	// AppendEntriesPipeline if pipelining is off. A Raft core compares it by
	// identity and falls back to single requests.
	ErrPipelineReplicationNotSupported = errors.New("pipeline replication not supported")
)

// If an [Identity] refuses a call, here or at the peer, the call returns an [OpError] with
// one of these causes. The error's text names both nodes.
var (
	// ErrWrongCluster means that the peer is of another cluster.
	ErrWrongCluster = identity.ErrWrongCluster

	// ErrWrongNode means that the peer is not the node that was called.
	ErrWrongNode = identity.ErrWrongNode

	// ErrNoIdentity means that the peer does not say who it is, and that
	// Identity.Require is set here.
	ErrNoIdentity = identity.ErrNoIdentity
)

// If ClosePeer ends a call, the call returns an [OpError] with ErrClosePeer as its cause.
var ErrClosePeer = errors.New("ended by ClosePeer")

var (
	errStreamsClosed = errors.New("connection closed by CloseStreams")
	errPeerGone      = errors.New("the peer closed the idle connection")

	// errEnded is returned where the connection was closed by somebody else, who
	// gave the reason.
	errEnded = errors.New("connection closed")
)

// RemoteError is an error that the peer's Raft core answered with. The request
// arrived and was answered; the connection is sound. Its text is the peer's,
// unchanged, because a Raft core looks at it.
type RemoteError struct {
	// Op is the request, "AppendEntries" for example.
	Op string
	// Peer is the address that answered.
	Peer ServerAddress
	// Text is the peer's error text.
	Text string
}

// Error returns the peer's text, unchanged.
func (e *RemoteError) Error() string { return e.Text }

// OpError says which request to which peer failed, and why. The peer has not got the
// request if it was refused here (an argument was nil, for example) or if dialling
// failed. Otherwise the peer may have got it.
type OpError struct {
	// Op is the request, "AppendEntries" for example.
	Op string
	// Peer is the address it went to.
	Peer ServerAddress
	// Err is the cause.
	Err error
}

// Error returns operation, peer and cause.
func (e *OpError) Error() string { return e.Op + " to " + string(e.Peer) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether the cause is a timeout. It makes OpError a net.Error.
func (e *OpError) Timeout() bool { return errno.IsTimeout(e.Err) }

// Temporary is the same as Timeout. Deprecated in net.Error, required by it.
func (e *OpError) Temporary() bool { return e.Timeout() }

// Is makes every timeout match os.ErrDeadlineExceeded, also the ones that the
// net package reports differently (dialling).
func (e *OpError) Is(target error) bool {
	return target == os.ErrDeadlineExceeded && e.Timeout()
}

// explain turns the error of a request into what its caller gets. A
// *RemoteError and the sentinels stay as they are.
func explain(kind rpcKind, peer ServerAddress, err error) error {
	if err == nil || err == ErrTransportShutdown || err == ErrPipelineShutdown {
		return err
	}
	if _, remote := err.(*RemoteError); remote {
		return err
	}
	return &OpError{Op: kind.String(), Peer: peer, Err: err}
}

// endOf returns why ctx has ended, or nil. The error matches ctx.Err() and the cause.
func endOf(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// orEndOf returns the end of ctx in place of err, with which a call has failed: its
// caller looks for that. An answer and the transport's own end stay as they are.
func orEndOf(ctx context.Context, err error) error {
	_, remote := err.(*RemoteError)
	if err == nil || remote || err == ErrTransportShutdown || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %v", endOf(ctx), err)
}
