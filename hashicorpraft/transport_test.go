package hashicorpraft

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// eachPath runs test with messages cast and with messages copied.
func eachPath(t *testing.T, test func(t *testing.T)) {
	t.Run("cast", test)
	t.Run("copy", func(t *testing.T) {
		alwaysCopy = true
		t.Cleanup(func() { alwaysCopy = false }) // after the parallel tests inside
		test(t)
	})
}

// eachPair runs test with two connected transports of every kind, on both paths.
func eachPair(t *testing.T, test func(t *testing.T, from, to closer)) {
	eachPath(t, func(t *testing.T) {
		eachCarrier(t, func(t *testing.T, next func() closer) {
			from, to := next(), next()
			defer from.Close()
			defer to.Close()
			test(t, from, to)
		})
	})
}

// serve answers what arrives at transport until the test ends, or stop is called.
func serve(transport raft.Transport, answer func(rpc raft.RPC)) (stop func()) {
	done := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			select {
			case rpc := <-transport.Consumer():
				answer(rpc)
			case <-done:
				return
			}
		}
	})
	return func() { close(done); serving.Wait() }
}

// filled returns a message with every field set to something of its own.
func filled[T any]() *T {
	message, seed := new(T), 0
	fillValue(reflect.ValueOf(message).Elem(), &seed)
	return message
}

func fillValue(v reflect.Value, seed *int) {
	*seed++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(int64(*seed), 5).UTC()))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fillValue(v.Field(i), seed)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillValue(v.Elem(), seed)
	case v.Type() == reflect.TypeFor[[]byte]():
		v.SetBytes([]byte(fmt.Sprint("bytes ", *seed)))
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillValue(v.Index(0), seed)
		fillValue(v.Index(1), seed)
	case v.CanInt():
		v.SetInt(int64(*seed))
	case v.CanUint():
		v.SetUint(uint64(*seed) % 200)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	default:
		panic("cannot fill a " + v.Type().String())
	}
}

// exchange sends args, checks what arrives and what comes back.
func exchange[Q, A any](t *testing.T, to raft.Transport, send func(args *Q, resp *A) error) {
	args, answer, resp := filled[Q](), filled[A](), new(A)
	got := make(chan any, 1)
	defer serve(to, func(rpc raft.RPC) {
		if rpc.Reader != nil {
			_, _ = io.Copy(io.Discard, rpc.Reader)
		}
		got <- rpc.Command
		rpc.Respond(answer, nil)
	})()
	require.NoError(t, send(args, resp))
	require.Equal(t, filled[Q](), <-got)
	require.Equal(t, filled[Q](), args, "args were changed")
	require.Equal(t, filled[A](), resp)
}

// A nil response is an error, whether messages are copied or not.
func TestTransport_RefusesNilResponses(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		id, target := raft.ServerID("id"), to.LocalAddr()
		require.ErrorContains(t, from.AppendEntries(id, target, new(raft.AppendEntriesRequest), nil), "nil resp")
		require.ErrorContains(t, from.RequestVote(id, target, new(raft.RequestVoteRequest), nil), "nil resp")
		require.ErrorContains(t, from.RequestPreVote(id, target, new(raft.RequestPreVoteRequest), nil), "nil resp")
		require.ErrorContains(t, from.InstallSnapshot(id, target, new(raft.InstallSnapshotRequest), nil, nil), "nil resp")
		require.ErrorContains(t, from.TimeoutNow(id, target, new(raft.TimeoutNowRequest), nil), "nil resp")
		p, err := from.AppendEntriesPipeline(id, target)
		require.NoError(t, err)
		defer p.Close()
		_, err = p.AppendEntries(new(raft.AppendEntriesRequest), nil)
		require.ErrorContains(t, err, "nil resp")
	})
}

func TestEveryRequestArrivesWithEveryFieldAndSoDoesItsAnswer(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		id, target := raft.ServerID("id"), to.LocalAddr()
		exchange(t, to, func(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
			return from.AppendEntries(id, target, args, resp)
		})
		exchange(t, to, func(args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
			return from.RequestVote(id, target, args, resp)
		})
		exchange(t, to, func(args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
			return from.RequestPreVote(id, target, args, resp)
		})
		exchange(t, to, func(args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse) error {
			return from.InstallSnapshot(id, target, args, resp, bytes.NewReader(make([]byte, args.Size)))
		})
		exchange(t, to, func(args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
			return from.TimeoutNow(id, target, args, resp)
		})
	})
}

func TestAnswersOfEveryKindReachTheCaller(t *testing.T) {
	refusal := errors.New("refused")
	for name, answer := range map[string]struct {
		response any
		err      error
		want     *raft.AppendEntriesResponse
		text     string // of the error; "*" is any
	}{
		"nothing":                 {nil, nil, &raft.AppendEntriesResponse{}, ""},
		"an error":                {nil, refusal, &raft.AppendEntriesResponse{}, "refused"},
		"a response and an error": {&raft.AppendEntriesResponse{Term: 7}, refusal, &raft.AppendEntriesResponse{Term: 7}, "refused"},
		"another response":        {&raft.RequestVoteResponse{Term: 7}, nil, &raft.AppendEntriesResponse{}, "*"},
		"a value":                 {raft.AppendEntriesResponse{Term: 7}, nil, &raft.AppendEntriesResponse{}, "*"},
		"something else":          {"yes", nil, &raft.AppendEntriesResponse{}, "*"},
		"a typed nil":             {(*raft.AppendEntriesResponse)(nil), nil, &raft.AppendEntriesResponse{}, ""},
		"another typed nil":       {(*raft.RequestVoteResponse)(nil), nil, &raft.AppendEntriesResponse{}, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			eachPair(t, func(t *testing.T, from, to closer) {
				defer serve(to, func(rpc raft.RPC) { rpc.Respond(answer.response, answer.err) })()
				resp := filled[raft.AppendEntriesResponse]()
				err := from.AppendEntries("id", to.LocalAddr(), filled[raft.AppendEntriesRequest](), resp)
				requireText(t, answer.text, err)
				require.Equal(t, answer.want, resp)
			})
		})
	}
}

func requireText(t *testing.T, text string, err error) {
	t.Helper()
	switch text {
	case "":
		require.NoError(t, err)
	case "*":
		require.Error(t, err)
	default:
		require.EqualError(t, err, text)
	}
}

func heartbeat() *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: []byte("leader")}, Term: 1}
}

func TestHeartbeatsGoToTheirHandler(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		var got []string // by the goroutine that answers, while this one waits
		defer serve(to, func(rpc raft.RPC) { got = append(got, "consumer"); rpc.Respond(&raft.AppendEntriesResponse{}, nil) })()
		beat := func() {
			require.NoError(t, from.AppendEntries("id", to.LocalAddr(), heartbeat(), new(raft.AppendEntriesResponse)))
		}
		beat()
		to.SetHeartbeatHandler(func(rpc raft.RPC) { got = append(got, "handler"); rpc.Respond(&raft.AppendEntriesResponse{}, nil) })
		beat()
		to.SetHeartbeatHandler(nil)
		beat()
		require.Equal(t, []string{"consumer", "handler", "consumer"}, got)
	})
}

// A core that has shut down leaves heartbeats and requests without an answer.
func TestCloseEndsWhatIsNeverAnswered(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		arrived := make(chan struct{}, 2)
		to.SetHeartbeatHandler(func(raft.RPC) { arrived <- struct{}{} })
		defer serve(to, func(raft.RPC) { arrived <- struct{}{} })()

		var calls sync.WaitGroup
		for _, args := range []*raft.AppendEntriesRequest{heartbeat(), filled[raft.AppendEntriesRequest]()} {
			calls.Go(func() {
				require.Error(t, from.AppendEntries("id", to.LocalAddr(), args, new(raft.AppendEntriesResponse)))
			})
		}
		<-arrived
		<-arrived
		require.NoError(t, to.Close())
		calls.Wait()
	})
}

func TestPipelineDeliversTheCallersOwnRequestsInOrder(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		defer serve(to, func(rpc raft.RPC) {
			rpc.Respond(&raft.AppendEntriesResponse{LastLog: rpc.Command.(*raft.AppendEntriesRequest).PrevLogEntry}, nil)
		})()
		pipeline, err := from.AppendEntriesPipeline("id", to.LocalAddr())
		require.NoError(t, err)
		defer pipeline.Close()

		const count = 100
		sent := make(chan raft.AppendFuture, count)
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			for i := range uint64(count) {
				args := filled[raft.AppendEntriesRequest]()
				args.PrevLogEntry = i
				resp := new(raft.AppendEntriesResponse)
				future, err := pipeline.AppendEntries(args, resp)
				if err != nil || future.Request() != args || future.Response() != resp {
					t.Errorf("request %d: a future of something else, or %v", i, err)
					close(sent)
					return
				}
				sent <- future
			}
		})
		for i := range uint64(count) {
			future := <-pipeline.Consumer()
			require.Equal(t, <-sent, future)
			require.Equal(t, i, future.Response().LastLog) // a core does not call Error first
			require.NoError(t, future.Error())
			require.Equal(t, i, future.Request().PrevLogEntry)
			require.False(t, future.Start().IsZero())
		}
	})
}

func TestFailedFutureHasAZeroResponse(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		defer serve(to, func(rpc raft.RPC) { rpc.Respond(nil, errors.New("refused")) })()
		pipeline, err := from.AppendEntriesPipeline("id", to.LocalAddr())
		require.NoError(t, err)
		defer pipeline.Close()
		_, err = pipeline.AppendEntries(filled[raft.AppendEntriesRequest](), filled[raft.AppendEntriesResponse]())
		require.NoError(t, err)
		future := <-pipeline.Consumer()
		require.Equal(t, &raft.AppendEntriesResponse{}, future.Response())
		require.EqualError(t, future.Error(), "refused")
	})
}

func TestErrorsAreHashicorpRaftsOwn(t *testing.T) {
	for _, pair := range sentinels {
		require.True(t, raftError(pair[1]) == pair[0])
	}
	other := errors.New("other")
	require.True(t, raftError(other) == other)
	require.NoError(t, raftError(nil))
}

func TestClosedTransportSaysSo(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		require.NoError(t, from.Close())
		require.NoError(t, from.Close())
		err := from.AppendEntries("id", to.LocalAddr(), heartbeat(), new(raft.AppendEntriesResponse))
		require.True(t, err == raft.ErrTransportShutdown, err)
		_, err = from.AppendEntriesPipeline("id", to.LocalAddr())
		require.True(t, err == raft.ErrTransportShutdown, err)
	})
}

func TestClosedPipelineSaysSo(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to closer) {
		pipeline, err := from.AppendEntriesPipeline("id", to.LocalAddr())
		require.NoError(t, err)
		future, err := pipeline.AppendEntries(filled[raft.AppendEntriesRequest](), filled[raft.AppendEntriesResponse]())
		require.NoError(t, err)
		require.NoError(t, pipeline.Close())
		require.True(t, future.Error() == raft.ErrPipelineShutdown, future.Error())
		require.Equal(t, &raft.AppendEntriesResponse{}, future.Response())
		_, err = pipeline.AppendEntries(filled[raft.AppendEntriesRequest](), new(raft.AppendEntriesResponse))
		require.True(t, err == raft.ErrPipelineShutdown, err)
	})
}

// withoutPreVote is a transport that has neither seam nor pre-vote.
type withoutPreVote struct {
	raftwire.Transport
	raftwire.WithClose
}

func TestTransportWithoutPreVoteLeavesElectionsAlone(t *testing.T) {
	_, inmem := NewInmemTransport("")
	inner := inmem.Unwrap()
	transport := Wrap(withoutPreVote{inner, inner.(raftwire.WithClose)})
	defer transport.Close()
	err := transport.RequestPreVote("id", "peer", new(raft.RequestPreVoteRequest), new(raft.RequestPreVoteResponse))
	require.ErrorContains(t, err, "unexpected command")
}

func TestConnectRefusesWhatItCannotReach(t *testing.T) {
	addr, ours := NewInmemTransport("")
	defer ours.Close()
	require.Equal(t, addr, ours.LocalAddr())
	_, theirs := raft.NewInmemTransport("")
	require.PanicsWithValue(t,
		"hashicorpraft: cannot connect a *raft.InmemTransport: make it with this package's constructors",
		func() { ours.Connect("peer", theirs) })
}

func TestDisconnectedPeersAreOutOfReach(t *testing.T) {
	next := inMemory(t)
	from, to := next().(*InmemTransport), next().(*InmemTransport)
	defer from.Close()
	defer to.Close()
	defer serve(to, func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{}, nil) })()
	call := func() error {
		return from.AppendEntries("id", to.LocalAddr(), heartbeat(), new(raft.AppendEntriesResponse))
	}
	require.NoError(t, call())
	from.Disconnect(to.LocalAddr())
	require.Error(t, call())
	from.Connect(to.LocalAddr(), struct{ *InmemTransport }{to}) // what embeds one will do
	require.NoError(t, call())
	from.DisconnectAll()
	require.Error(t, call())
}
