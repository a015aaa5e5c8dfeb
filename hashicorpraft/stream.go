package hashicorpraft

import (
	"context"
	"net"
	"reflect"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

// RaftStream returns a stream layer of raftwire with hashicorp/raft's type: a
// [layers.TLS], a layer of a [layers.Mux], a [layers.Handoff], or any other
// raftwire.StreamLayer. Both kinds of transport can run over it, [raft.NetworkTransport]
// too: only the transports of the nodes then differ. nil stays nil.
func RaftStream(stream raftwire.StreamLayer) raft.StreamLayer {
	if isNilPointer(stream) {
		return nil
	}
	switch s := stream.(type) {
	case nil:
		return nil
	case wireStream:
		return s.StreamLayer
	case wireContextStream:
		return s.StreamLayer
	}
	return raftStream{stream}
}

// WireStream returns a stream layer of hashicorp/raft's type with raftwire's type, for
// example to put a [layers.TLS] or a [layers.Mux] over an application's own layer. If
// the layer has a method
//
//	DialContext(ctx context.Context, address raft.ServerAddress) (net.Conn, error)
//
// raftwire dials with that, so that Close ends a dial under way. It also uses a method
// Expires: see [raftwire.StreamLayer]. WireStream undoes [RaftStream]. nil stays nil. A
// nil pointer becomes nil: constructors return one with an error.
func WireStream(stream raft.StreamLayer) raftwire.StreamLayer {
	if isNilPointer(stream) {
		return nil
	}
	switch s := stream.(type) {
	case nil:
		return nil
	case raftStream:
		return s.StreamLayer
	case contextDialer:
		return wireContextStream{wireStream{stream}, s}
	}
	return wireStream{stream}
}

func isNilPointer(v any) bool {
	pointer := reflect.ValueOf(v)
	return pointer.Kind() == reflect.Pointer && pointer.IsNil()
}

// raftStream is a stream layer of raftwire's type, given to an application.
type raftStream struct{ raftwire.StreamLayer }

func (s raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.StreamLayer.Dial(raftwire.ServerAddress(address), timeout)
}

// wireStream is a stream layer of hashicorp/raft's type, given to raftwire.
type wireStream struct{ raft.StreamLayer }

func (s wireStream) Dial(address raftwire.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.StreamLayer.Dial(raft.ServerAddress(address), timeout)
}

// Expires returns what the layer does, if it has such a method: see
// [raftwire.StreamLayer].
func (s wireStream) Expires() (certificate, ca time.Time) {
	if layer, ok := s.StreamLayer.(expiring); ok {
		return layer.Expires()
	}
	return time.Time{}, time.Time{}
}

type expiring interface {
	Expires() (certificate, ca time.Time)
}

type contextDialer interface {
	DialContext(ctx context.Context, address raft.ServerAddress) (net.Conn, error)
}

// wireContextStream is a wireStream whose dials can be ended.
type wireContextStream struct {
	wireStream
	dialer contextDialer
}

func (s wireContextStream) DialContext(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
	return s.dialer.DialContext(ctx, raft.ServerAddress(address))
}
