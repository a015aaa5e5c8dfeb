package raftwire

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// A field whose type copyMessage does not know would be shared.
func TestInmemCopy_KnowsEveryFieldThatCanBeShared(t *testing.T) {
	known := []reflect.Type{reflect.TypeFor[RPCHeader](), reflect.TypeFor[[]byte](), reflect.TypeFor[[]*Log]()}
	requests := []any{new(AppendEntriesRequest), new(RequestVoteRequest), new(InstallSnapshotRequest), new(TimeoutNowRequest), new(RequestPreVoteRequest)}
	for kind, request := range requests {
		for _, message := range []any{request, newResponse(rpcKind(kind))} {
			fields := reflect.TypeOf(message).Elem()
			for i := range fields.NumField() {
				switch field := fields.Field(i); field.Type.Kind() {
				case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64:
				case reflect.Struct, reflect.Slice:
					require.Contains(t, known, field.Type, "%T.%s", message, field.Name)
				default:
					t.Errorf("%T.%s has an unexpected type", message, field.Name)
				}
			}
		}
	}
}
