package raftwire

import (
	"bytes"
	"reflect"

	"github.com/raftwire/raftwire/internal/sock"
)

// What travels in memory is copied, as it would be by the wire: sender and
// receiver share nothing.

// cloneRequest returns a copy of a request.
func cloneRequest(args any) any {
	to := reflect.New(reflect.TypeOf(args).Elem())
	copyMessage(to, args)
	return to.Interface()
}

// copyResponse copies to resp what a consumer has answered, which it may go on to
// change. Nil, also of a type, leaves resp as it is.
func copyResponse(resp, answer any) {
	if !sock.IsNil(answer) {
		copyMessage(reflect.ValueOf(resp), answer)
	}
}

// copyMessage copies a message, which is a pointer to a struct.
func copyMessage(to reflect.Value, from any) {
	to.Elem().Set(reflect.ValueOf(from).Elem())
	for i := range to.Elem().NumField() {
		switch field := to.Elem().Field(i).Addr().Interface().(type) {
		case *RPCHeader:
			field.ID, field.Addr = bytes.Clone(field.ID), bytes.Clone(field.Addr)
		case *[]byte:
			*field = bytes.Clone(*field)
		case *[]*Log:
			*field = cloneLogs(*field)
		}
	}
}

func cloneLogs(entries []*Log) []*Log {
	if entries == nil {
		return nil
	}
	clones := make([]*Log, len(entries))
	for i, entry := range entries {
		clone := *entry // of its own: whoever keeps one Log of an array keeps what all hold
		clone.Data = bytes.Clone(entry.Data)
		clone.Extensions = bytes.Clone(entry.Extensions)
		clone.AppendedAt = entry.AppendedAt.Round(0) // the monotonic reading does not travel
		clones[i] = &clone
	}
	return clones
}
