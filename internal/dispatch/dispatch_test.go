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
func start[T any](f func() T) chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	synctest.Wait()
	return result
}

func TestEachRequestGetsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		line := desk.Open(nil)
		var taken []request
		var pending []Answers[string]
		for i := range 5 {
			result := start(func() Answers[string] { return line.Dispatch(i, nil, false) })
			require.Empty(t, result, "nobody has taken it")
			taken = append(taken, <-desk.Consumer())
			pending = append(pending, <-result)
		}
		for i := len(taken) - 1; i >= 0; i-- { // answered the other way round
			require.Equal(t, i, taken[i].command)
			require.False(t, pending[i].Ready())
			taken[i].answers <- string(rune('a' + i))
			require.True(t, pending[i].Ready())
		}
		for i := range pending {
			answer, ok := pending[i].Await(nil)
			require.True(t, ok)
			require.Equal(t, string(rune('a'+i)), answer)
			require.False(t, pending[i].Ready())
		}
	})
}

func TestDoneEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		done := make(chan struct{})
		line := desk.Open(done)
		result := start(func() Answers[string] { return line.Dispatch("taken", nil, false) })
		<-desk.Consumer()
		pending := <-result
		answered := start(func() bool { _, ok := pending.Await(done); return ok })
		offered := start(func() Answers[string] { return line.Dispatch("not taken", nil, false) })
		close(done)
		require.False(t, <-answered)
		require.Nil(t, <-offered)
		late := start(func() any { return <-desk.Consumer() })
		require.Nil(t, line.Dispatch("late", nil, false), "although somebody would take it")
		require.Empty(t, late)
		go func() { desk.Open(nil).Dispatch("the end", nil, false) }()
		<-late
	})
}

// An answer that was given counts, also at the very end.
func TestAnAnswerThatIsThereComesBeforeDone(t *testing.T) {
	done := make(chan struct{})
	close(done)
	for range 100 {
		pending := make(Answers[string], 1)
		pending <- "answer"
		_, ok := pending.Await(done)
		require.True(t, ok)
	}
}

func TestHeartbeatsGoToTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		desk := newDesk()
		line := desk.Open(nil)
		desk.SetHeartbeatHandler(func(r request) { r.answers <- "alive" })
		answer, ok := line.Dispatch("heartbeat", nil, true).Await(nil)
		require.True(t, ok)
		require.Equal(t, "alive", answer)

		result := start(func() Answers[string] { return line.Dispatch("append", nil, false) })
		require.Empty(t, result, "only heartbeats go to the handler")
		<-desk.Consumer()
		require.NotNil(t, <-result)

		desk.SetHeartbeatHandler(nil)
		result = start(func() Answers[string] { return line.Dispatch("heartbeat", nil, true) })
		require.Equal(t, "heartbeat", (<-desk.Consumer()).command)
		require.NotNil(t, <-result)
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
