package raftwire

import (
	"reflect"

	"github.com/raftwire/raftwire/internal/msgpack"
)

// rpcKind is the first byte of a request.
type rpcKind uint8

const (
	rpcAppendEntries rpcKind = iota
	rpcRequestVote
	rpcInstallSnapshot
	rpcTimeoutNow
	rpcRequestPreVote
	rpcKinds // how many there are
)

func (k rpcKind) String() string { return kinds[k].name }

// kinds are the requests that there are, with the types of their messages.
var kinds = [rpcKinds]struct {
	name              string
	request, response *messageType
}{
	rpcAppendEntries:   {"AppendEntries", newMessageType[AppendEntriesRequest](), newMessageType[AppendEntriesResponse]()},
	rpcRequestVote:     {"RequestVote", newMessageType[RequestVoteRequest](), newMessageType[RequestVoteResponse]()},
	rpcInstallSnapshot: {"InstallSnapshot", newMessageType[InstallSnapshotRequest](), newMessageType[InstallSnapshotResponse]()},
	rpcTimeoutNow:      {"TimeoutNow", newMessageType[TimeoutNowRequest](), newMessageType[TimeoutNowResponse]()},
	rpcRequestPreVote:  {"RequestPreVote", newMessageType[RequestPreVoteRequest](), newMessageType[RequestPreVoteResponse]()},
}

// newResponse returns the response that answers a request of this kind.
func newResponse(kind rpcKind) any { return kinds[kind].response.new() }

// messageType says which fields a message has. Messages other than AppendEntries are
// rare, so they are read and written by reflection.
type messageType struct {
	pointer reflect.Type // to the message
	names   []string     // of the fields, sorted as they travel
	places  map[string][]int
	fields  *msgpack.Fields
}

var messageTypes = make(map[reflect.Type]*messageType) // by pointer

func newMessageType[M any]() *messageType {
	message := reflect.TypeFor[M]()
	t := &messageType{pointer: reflect.TypeFor[*M](), places: make(map[string][]int)}
	var declared []string
	for _, field := range reflect.VisibleFields(message) {
		if !field.Anonymous {
			declared = append(declared, field.Name)
			t.places[field.Name] = field.Index
		}
	}
	t.fields = msgpack.NewFields(message.Name(), declared...)
	t.names = t.fields.Names()
	messageTypes[t.pointer] = t
	return t
}

func (t *messageType) new() any { return reflect.New(t.pointer.Elem()).Interface() }

// field returns a pointer to a field of a message.
func (t *messageType) field(message any, name string) any {
	return reflect.ValueOf(message).Elem().FieldByIndex(t.places[name]).Addr().Interface()
}

func appendMessage(dst []byte, message any) []byte {
	t := messageTypes[reflect.TypeOf(message)]
	dst = msgpack.AppendMapHeader(dst, len(t.names))
	for _, name := range t.names {
		dst = msgpack.AppendString(dst, name)
		switch field := t.field(message, name).(type) {
		case *[]byte:
			dst = msgpack.AppendBytes(dst, *field)
		case *uint64:
			dst = msgpack.AppendUint(dst, *field)
		case *bool:
			dst = msgpack.AppendBool(dst, *field)
		case *int64:
			dst = msgpack.AppendInt(dst, *field)
		case *ProtocolVersion:
			dst = msgpack.AppendInt(dst, int64(*field))
		case *SnapshotVersion:
			dst = msgpack.AppendInt(dst, int64(*field))
		}
	}
	return dst
}

// readMessage decodes a message, whatever it was before. If that fails, which r.Err
// tells, it holds a part of it.
func readMessage(r *msgpack.Reader, message any) {
	t := messageTypes[reflect.TypeOf(message)]
	clearMessage(message)
	for s := r.Struct(t.fields); s.Next(); {
		switch field := t.field(message, s.Name).(type) {
		case *[]byte:
			*field = r.Bytes()
		case *uint64:
			*field = r.Uint64()
		case *bool:
			*field = r.Bool()
		case *int64: // the size of a snapshot
			if *field = r.Int64(); *field < 0 {
				r.Reject("%d is negative", *field)
			}
		case *ProtocolVersion:
			*field = ProtocolVersion(r.Int64())
		case *SnapshotVersion:
			*field = SnapshotVersion(r.Int64())
		}
	}
}

// clearMessage zeroes a message; nil stays nil. A call clears its response first, so that one that
// fails leaves nothing stale: a Raft core reuses responses.
func clearMessage(message any) {
	switch m := message.(type) {
	case nil:
	case *AppendEntriesResponse: // many times a second
		*m = AppendEntriesResponse{}
	default:
		reflect.ValueOf(message).Elem().SetZero()
	}
}
