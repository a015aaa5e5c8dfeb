package dispatch

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

type request struct {
	command any
	answers chan<- string
}

func newDesk() *Desk[request, string] {
	return NewDesk(make(chan request), func(command any, _ io.Reader, answers chan<- string) request {
		return request{command, answers}
	})
}

// start runs f on a goroutine of its own until it blocks or returns.
func start(f func() bool) chan bool {
	result := make(chan bool, 1)
	go func() { result <- f() }()
	synctest.Wait()
	return result
}

func TestAnswersComeInTheOrderOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		line := desk.Open(nil)
		var taken []request
		for i := range 5 {
			result := start(func() bool { return line.Dispatch(i, nil, false) })
			taken = append(taken, <-desk.Consumer())
			require.True(t, <-result)
		}
		for i := len(taken) - 1; i >= 0; i-- { // answered the other way round
			require.Equal(t, i, taken[i].command)
			require.False(t, line.Ready())
			taken[i].answers <- string(rune('a' + i))
		}
		for i := range taken {
			require.True(t, line.Ready())
			answer, ok := line.Answer()
			require.True(t, ok)
			require.Equal(t, string(rune('a'+i)), answer)
		}
		require.False(t, line.Ready())
	})
}

// An answer must not wait until the consumer takes the next request.
func TestDispatchReturnsForAnAnswerThatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		line := desk.Open(nil)
		result := start(func() bool { return line.Dispatch("first", nil, false) })
		first := <-desk.Consumer()
		require.True(t, <-result)

		result = start(func() bool { return line.Dispatch("second", nil, false) })
		first.answers <- "one"
		require.False(t, <-result)
		require.False(t, line.Dispatch("second", nil, false), "the answer must be collected first")
		answer, ok := line.Answer()
		require.True(t, ok)
		require.Equal(t, "one", answer)

		result = start(func() bool { return line.Dispatch("second", nil, false) })
		second := <-desk.Consumer()
		require.True(t, <-result)
		require.Equal(t, "second", second.command)
	})
}

func TestDoneEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		done := make(chan struct{})
		line := desk.Open(done)
		result := start(func() bool { return line.Dispatch("taken", nil, false) })
		<-desk.Consumer()
		require.True(t, <-result)
		answered := start(func() bool { _, ok := line.Answer(); return ok })
		other := desk.Open(done)
		offered := start(func() bool { return other.Dispatch("not taken", nil, false) })
		close(done)
		require.False(t, <-answered)
		require.False(t, <-offered)
		require.False(t, other.Dispatch("late", nil, false))
		_, ok := other.Answer()
		require.False(t, ok)
	})
}

func TestHeartbeatsGoToTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		line := desk.Open(nil)
		desk.SetHeartbeatHandler(func(r request) { r.answers <- "alive" })
		require.True(t, line.Dispatch("heartbeat", nil, true))
		answer, ok := line.Answer()
		require.True(t, ok)
		require.Equal(t, "alive", answer)

		result := start(func() bool { return line.Dispatch("append", nil, false) })
		require.Empty(t, result, "only heartbeats go to the handler")
		<-desk.Consumer()
		require.True(t, <-result)

		desk.SetHeartbeatHandler(nil)
		result = start(func() bool { return desk.Open(nil).Dispatch("heartbeat", nil, true) })
		require.Equal(t, "heartbeat", (<-desk.Consumer()).command)
		require.True(t, <-result)
	})
}

// A core that answers twice must not block, even if nobody collects.
func TestTheSecondAnswerDoesNotBlock(t *testing.T) {
	desk := newDesk()
	go func() { desk.Open(nil).Dispatch("request", nil, false) }()
	r := <-desk.Consumer()
	r.answers <- "one"
	r.answers <- "two"
}
