package hashicorpraft

import (
	"reflect"
	"unsafe"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

// The messages of the two packages are the same structs under other names, but
// Go's conversion rules stop at the named types inside (ProtocolVersion,
// LogType): raftwire.AppendEntriesRequest(x) does not compile. Copying costs
// 3.5 µs and 2 allocations for a batch of 64 entries, in both directions and
// on both ends. So a pointer to one is taken as a pointer to the other, which
// package unsafe allows between types of equal memory layout, and equal layout
// is what newMessage establishes by reflection before any message travels. A
// release of hashicorp/raft that changes a message makes the check of that
// message fail, and it is then copied by field name: slower, still right.

// message converts between R, a message of hashicorp/raft, and W, the same
// message of raftwire.
type message[R, W any] struct {
	sameLayout bool
}

var (
	appendEntriesRequest    = newMessage[raft.AppendEntriesRequest, raftwire.AppendEntriesRequest]()
	appendEntriesResponse   = newMessage[raft.AppendEntriesResponse, raftwire.AppendEntriesResponse]()
	requestVoteRequest      = newMessage[raft.RequestVoteRequest, raftwire.RequestVoteRequest]()
	requestVoteResponse     = newMessage[raft.RequestVoteResponse, raftwire.RequestVoteResponse]()
	requestPreVoteRequest   = newMessage[raft.RequestPreVoteRequest, raftwire.RequestPreVoteRequest]()
	requestPreVoteResponse  = newMessage[raft.RequestPreVoteResponse, raftwire.RequestPreVoteResponse]()
	installSnapshotRequest  = newMessage[raft.InstallSnapshotRequest, raftwire.InstallSnapshotRequest]()
	installSnapshotResponse = newMessage[raft.InstallSnapshotResponse, raftwire.InstallSnapshotResponse]()
	timeoutNowRequest       = newMessage[raft.TimeoutNowRequest, raftwire.TimeoutNowRequest]()
	timeoutNowResponse      = newMessage[raft.TimeoutNowResponse, raftwire.TimeoutNowResponse]()
)

// alwaysCopy makes every message take the slow path. It is for tests, which
// set it while no transport exists.
var alwaysCopy bool

func newMessage[R, W any]() message[R, W] {
	return message[R, W]{sameLayout: sameLayout(reflect.TypeFor[R](), reflect.TypeFor[W]())}
}

// shared reports whether the two pointer types may name the same message.
func (m message[R, W]) shared() bool { return m.sameLayout && !alwaysCopy }

// toWire returns r as raftwire's message: the same memory, or a copy.
func (m message[R, W]) toWire(r *R) *W {
	if m.shared() {
		return (*W)(unsafe.Pointer(r))
	}
	return copied[W](r)
}

// toRaft returns w as hashicorp/raft's message: the same memory, or a copy.
func (m message[R, W]) toRaft(w *W) *R {
	if m.shared() {
		return (*R)(unsafe.Pointer(w))
	}
	return copied[R](w)
}

// fill brings what was written to toWire(r) back to r, unless that is nil.
func (m message[R, W]) fill(r *R, w *W) {
	if r != nil && !m.shared() {
		*r = *copied[R](w)
	}
}

// raftCommand returns an inbound request as hashicorp/raft's type.
func raftCommand(command any) any {
	switch c := command.(type) {
	case *raftwire.AppendEntriesRequest:
		return appendEntriesRequest.toRaft(c)
	case *raftwire.RequestVoteRequest:
		return requestVoteRequest.toRaft(c)
	case *raftwire.RequestPreVoteRequest:
		return requestPreVoteRequest.toRaft(c)
	case *raftwire.InstallSnapshotRequest:
		return installSnapshotRequest.toRaft(c)
	case *raftwire.TimeoutNowRequest:
		return timeoutNowRequest.toRaft(c)
	default:
		return command
	}
}

// wireAnswer returns what a Raft core answered as raftwire's type. Anything
// that is not a response stays as it is: the transport knows what to tell the
// caller about it.
func wireAnswer(response any) any {
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		return appendEntriesResponse.toWire(r)
	case *raft.RequestVoteResponse:
		return requestVoteResponse.toWire(r)
	case *raft.RequestPreVoteResponse:
		return requestPreVoteResponse.toWire(r)
	case *raft.InstallSnapshotResponse:
		return installSnapshotResponse.toWire(r)
	case *raft.TimeoutNowResponse:
		return timeoutNowResponse.toWire(r)
	default:
		return response
	}
}

// sameLayout reports whether values of the two types mean the same bytes: all
// the way down the same kinds and sizes, and in structs the same field names
// at the same offsets. The types must not be recursive; messages are not.
func sameLayout(a, b reflect.Type) bool {
	if a == b {
		return true
	}
	if a.Kind() != b.Kind() || a.Size() != b.Size() || a.Align() != b.Align() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice:
		return sameLayout(a.Elem(), b.Elem())
	case reflect.Struct:
		return sameFields(a, b)
	case reflect.Array, reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.UnsafePointer:
		return false // no message has one; alike only if identical
	default:
		return true // booleans, numbers, strings
	}
}

func sameFields(a, b reflect.Type) bool {
	if a.NumField() != b.NumField() {
		return false
	}
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if x.Name != y.Name || x.Offset != y.Offset || !sameLayout(x.Type, y.Type) {
			return false
		}
	}
	return true
}

// copied returns a new To with from's fields, or nil for nil. Byte slices are
// shared; entries are not.
func copied[To, From any](from *From) *To {
	if from == nil {
		return nil
	}
	to := new(To)
	copyValue(reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem())
	return to
}

// copyValue sets dst from src. What only one of them has is left out.
func copyValue(dst, src reflect.Value) {
	switch {
	case src.Type() == dst.Type():
		dst.Set(src)
	case src.Kind() != dst.Kind():
	case src.Kind() == reflect.Pointer:
		copyPointer(dst, src)
	case src.Kind() == reflect.Slice:
		copySlice(dst, src)
	case src.Kind() == reflect.Struct:
		copyFields(dst, src)
	case src.CanConvert(dst.Type()):
		dst.Set(src.Convert(dst.Type()))
	}
}

func copyPointer(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	dst.Set(reflect.New(dst.Type().Elem()))
	copyValue(dst.Elem(), src.Elem())
}

func copySlice(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	dst.Set(reflect.MakeSlice(dst.Type(), src.Len(), src.Len()))
	for i := range src.Len() {
		copyValue(dst.Index(i), src.Index(i))
	}
}

func copyFields(dst, src reflect.Value) {
	for i := range dst.NumField() {
		field := dst.Type().Field(i)
		if from := src.FieldByName(field.Name); from.IsValid() && field.IsExported() {
			copyValue(dst.Field(i), from)
		}
	}
}
