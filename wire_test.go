package raftwire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Whatever a consumer answers, the caller gets an error or the right response, with a
// single request and in a pipeline.
func TestAnswers_OfEveryKindEndTheCall(t *testing.T) {
	for name, c := range map[string]struct {
		response any
		err      error
		text     string
	}{
		"nothing":                {nil, nil, ""},
		"a nil pointer":          {(*raftwire.AppendEntriesResponse)(nil), nil, ""},
		"an error alone":         {nil, errors.New("refused"), "refused"},
		"of another kind":        {&raftwire.RequestVoteResponse{}, nil, "the consumer answered AppendEntries with a *raftwire.RequestVoteResponse: it takes a *AppendEntriesResponse, or nil"},
		"nil of another kind":    {(*raftwire.RequestVoteResponse)(nil), nil, "the consumer answered AppendEntries with a *raftwire.RequestVoteResponse: it takes a *AppendEntriesResponse, or nil"},
		"of another kind, error": {&raftwire.RequestVoteResponse{}, errors.New("refused"), "refused"},
		"no response at all":     {"yes", nil, "the consumer answered AppendEntries with a string: it takes a *AppendEntriesResponse, or nil"},
	} {
		t.Run(name, func(t *testing.T) {
			onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
				serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(c.response, c.err) })
				resp := raftwire.AppendEntriesResponse{Success: true}
				err := a.AppendEntries("b", "b", appendRequest(1), &resp)
				future := send(t, openPipeline(t, a, "b"), 1)[0]
				pipelined := future.Error()
				require.Zero(t, resp)
				require.Zero(t, *future.Response())
				if c.text == "" {
					require.NoError(t, err)
					require.NoError(t, pipelined)
					return
				}
				for _, err := range []error{err, pipelined} {
					var remote *raftwire.RemoteError
					require.ErrorAs(t, err, &remote)
					require.EqualError(t, err, c.text)
				}
			})
		})
	}
}

// An answer of the wrong type is logged at the node that gave it, once for each kind
// and type.
func TestAnswers_OfTheWrongTypeAreLogged(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b", withLog(&log))
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(&raftwire.RequestVoteResponse{}, nil) })
		for range 3 {
			require.Error(t, appendOnce(a, "b"))
			require.Error(t, calls["TimeoutNow"](a, "b"))
			require.NoError(t, calls["RequestVote"](a, "b"))
		}
		require.NoError(t, b.Close())
	})
	for _, kind := range []string{"AppendEntries", "TimeoutNow"} {
		line := `wrong answer: local=b peer=a:40001 error="the consumer answered ` + kind + ` with a *raftwire.RequestVoteResponse: it takes a *` + kind + `Response, or nil"`
		require.Len(t, linesWith(log.String(), "[ERROR]", line), 1, log.String())
	}
	require.Len(t, linesWith(log.String(), "[ERROR]"), 2)
}

// A nil pointer is a valid answer to every kind of request.
func TestAnswers_MayBeNilPointers(t *testing.T) {
	nils := map[string]any{
		"AppendEntries":   (*raftwire.AppendEntriesResponse)(nil),
		"RequestVote":     (*raftwire.RequestVoteResponse)(nil),
		"RequestPreVote":  (*raftwire.RequestPreVoteResponse)(nil),
		"TimeoutNow":      (*raftwire.TimeoutNowResponse)(nil),
		"InstallSnapshot": (*raftwire.InstallSnapshotResponse)(nil),
	}
	for kind, call := range calls {
		t.Run(kind, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a"), listen(t, net, "b")
				serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(nils[kind], nil) })
				require.NoError(t, call(a, "b"))
			})
		})
	}
}

// A second or late answer reaches no other request.
func TestAnswers_TwiceOrLateAreDropped(t *testing.T) {
	onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
		stale := make(chan raftwire.RPC, 1)
		serve(t, b, func(rpc raftwire.RPC) {
			number := rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry
			if number == 0 {
				stale <- rpc
				return
			}
			accept(rpc)
			rpc.Respond(&raftwire.AppendEntriesResponse{LastLog: 999}, nil)
		})
		var resp raftwire.AppendEntriesResponse
		requireTimeout(t, a.AppendEntries("b", "b", appendRequest(0), &resp))
		(<-stale).RespChan <- raftwire.RPCResponse{Response: &raftwire.AppendEntriesResponse{LastLog: 999}}
		for number := uint64(1); number < 10; number++ {
			require.NoError(t, a.AppendEntries("b", "b", appendRequest(number), &resp))
			require.Equal(t, number, resp.LastLog)
		}
	})
}
