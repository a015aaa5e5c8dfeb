package dispatch

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type request struct {
	command any
	answers chan<- string
}

func newDispatcher() *Dispatcher[request, string] {
	return New(make(chan request), func(command any, _ io.Reader, answers chan<- string) request {
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

func TestDispatcher_EachRequestGetsItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newDispatcher()
		conn := shared.Open(nil)
		var taken []request
		var pending []Answers[string]
		for i := range 5 {
			result := start(func() Answers[string] { return conn.Dispatch(i, nil, false) })
			require.Empty(t, result, "nobody has taken it")
			taken = append(taken, <-shared.Consumer())
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

func TestDispatcher_DoneEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newDispatcher()
		done := make(chan struct{})
		conn := shared.Open(done)
		result := start(func() Answers[string] { return conn.Dispatch("taken", nil, false) })
		<-shared.Consumer()
		pending := <-result
		answered := start(func() bool { _, ok := pending.Await(done); return ok })
		offered := start(func() Answers[string] { return conn.Dispatch("not taken", nil, false) })
		close(done)
		require.False(t, <-answered)
		require.Nil(t, <-offered)
		late := start(func() any { return <-shared.Consumer() })
		require.Nil(t, conn.Dispatch("late", nil, false), "although somebody would take it")
		require.Empty(t, late)
		go func() { shared.Open(nil).Dispatch("the end", nil, false) }()
		<-late
	})
}

// An answer that was given counts, also at the very end.
func TestAnswers_OneThatIsThereComesBeforeDone(t *testing.T) {
	done := make(chan struct{})
	close(done)
	for range 100 {
		pending := make(Answers[string], 1)
		pending <- "answer"
		_, ok := pending.Await(done)
		require.True(t, ok)
	}
}

func TestDispatcher_HeartbeatsGoToTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newDispatcher()
		conn := shared.Open(nil)
		shared.SetHeartbeatHandler(func(r request) { r.answers <- "alive" })
		answer, ok := conn.Dispatch("heartbeat", nil, true).Await(nil)
		require.True(t, ok)
		require.Equal(t, "alive", answer)

		result := start(func() Answers[string] { return conn.Dispatch("append", nil, false) })
		require.Empty(t, result, "only heartbeats go to the handler")
		<-shared.Consumer()
		require.NotNil(t, <-result)

		shared.SetHeartbeatHandler(nil)
		result = start(func() Answers[string] { return conn.Dispatch("heartbeat", nil, true) })
		require.Equal(t, "heartbeat", (<-shared.Consumer()).command)
		require.NotNil(t, <-result)
	})
}

// A core that answers twice must not block, even if nobody collects.
func TestAnswers_TheSecondDoesNotBlock(t *testing.T) {
	shared := newDispatcher()
	go func() { shared.Open(nil).Dispatch("request", nil, false) }()
	r := <-shared.Consumer()
	r.answers <- "one"
	r.answers <- "two"
}

// A request that waits for long is told of again and again, and one that is taken soon
// is not, even if the timer of an earlier wait is over.
func TestConnDispatcher_TellsOfRequestsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := newDispatcher()
		conn := shared.Open(nil)
		told := 0
		conn.OnWait(func() { told++ })
		wait := func(d time.Duration) {
			taken := start(func() Answers[string] { return conn.Dispatch("request", nil, false) })
			<-time.NewTimer(d).C
			<-shared.Consumer()
			require.NotNil(t, <-taken)
		}
		for range 10 {
			wait(waitsEvery * 3 / 4)
			require.Zero(t, told)
			<-time.NewTimer(10 * waitsEvery).C
		}
		wait(waitsEvery * 10)
		require.InDelta(t, 9, told, 1)
	})
}
