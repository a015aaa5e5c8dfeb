package transporttest

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// request is one of the five requests, in a form that a case can loop over.
type request struct {
	name string
	// args and answer return new messages with every field set, none a new zero response.
	args   func() any
	answer func() any
	none   func() any
	send   func(from raftwire.Transport, to raftwire.ServerAddress, args, resp any) error
}

// body is the snapshot of every InstallSnapshot in cases that are not about it.
const body = "the state of a state machine"

// requests returns all five, or four if the transport has no pre-vote.
func (t *tester) requests() []request {
	all := []request{
		newRequest("AppendEntries", raftwire.Transport.AppendEntries),
		newRequest("RequestVote", raftwire.Transport.RequestVote),
		newRequest("InstallSnapshot", sendSnapshot),
		newRequest("TimeoutNow", raftwire.Transport.TimeoutNow),
	}
	if t.has(PreVote) {
		all = append(all, newRequest("RequestPreVote", sendPreVote))
	}
	return all
}

func newRequest[Q, R any](name string, send func(raftwire.Transport, raftwire.ServerID, raftwire.ServerAddress, *Q, *R) error) request {
	return request{
		name:   name,
		args:   func() any { return filled(new(Q)) },
		answer: func() any { return filled(new(R)) },
		none:   func() any { return new(R) },
		send: func(from raftwire.Transport, to raftwire.ServerAddress, args, resp any) error {
			return send(from, peerID, to, args.(*Q), resp.(*R))
		},
	}
}

func sendSnapshot(from raftwire.Transport, id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.InstallSnapshotRequest, resp *raftwire.InstallSnapshotResponse) error {
	return from.InstallSnapshot(id, to, args, resp, io.LimitReader(strings.NewReader(body), args.Size))
}

func sendPreVote(from raftwire.Transport, id raftwire.ServerID, to raftwire.ServerAddress, args *raftwire.RequestPreVoteRequest, resp *raftwire.RequestPreVoteResponse) error {
	return from.(raftwire.WithPreVote).RequestPreVote(id, to, args, resp)
}

// filled sets every field of a message, each to a value of its own, so that a
// field which is lost or mixed up shows, also one that is added later.
func filled[M any](message *M) *M {
	next := 0
	fill(reflect.ValueOf(message).Elem(), &next)
	if snapshot, ok := any(message).(*raftwire.InstallSnapshotRequest); ok {
		snapshot.Size = int64(len(body))
	}
	return message
}

var timeType = reflect.TypeFor[time.Time]()

func fill(v reflect.Value, next *int) {
	*next++
	switch {
	case v.Type() == timeType:
		v.Set(reflect.ValueOf(time.Date(2020, 2, 29, 1, 2, 3, 456789012+*next, time.UTC)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), next)
	case v.CanUint():
		v.SetUint(uint64(*next))
	case v.CanInt():
		v.SetInt(int64(*next))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Slice:
		fillSlice(v, next)
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

func fillSlice(v reflect.Value, next *int) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(fmt.Appendf(nil, "value %d", *next))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 3, 3))
	for i := range v.Len() {
		fill(v.Index(i), next)
	}
}

// scribble overwrites everything that a message holds or points to.
func scribble(message any) { overwrite(reflect.ValueOf(message)) }

func overwrite(v reflect.Value) {
	switch {
	case v.Type() == timeType:
		v.SetZero()
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			overwrite(v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			overwrite(v.Index(i))
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		overwrite(v.Elem())
	case v.CanUint():
		v.SetUint(99)
	default:
		v.SetZero()
	}
}

// requireMessage compares two messages, times by the instant.
func (t *tester) requireMessage(want, got any, what string) {
	t.Helper()
	inUTC(want)
	inUTC(got)
	require.Equal(t, want, got, what)
}

func inUTC(message any) {
	if args, ok := message.(*raftwire.AppendEntriesRequest); ok {
		for _, entry := range args.Entries {
			if entry != nil {
				entry.AppendedAt = entry.AppendedAt.UTC()
			}
		}
	}
}

// heartbeat returns what every transport takes for a heartbeat.
func heartbeat() *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{
		RPCHeader: raftwire.RPCHeader{Addr: []byte("leader")},
		Term:      1,
	}
}

// numbered returns an AppendEntries request that is known by its number.
func numbered(number int) *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{Term: 1, PrevLogEntry: uint64(number)}
}

// echo answers a numbered request with its number.
func echo(rpc raftwire.RPC) {
	number := rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry
	rpc.Respond(&raftwire.AppendEntriesResponse{LastLog: number, Success: true}, nil)
}
