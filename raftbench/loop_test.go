package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

// A scripted pipeline answers what was sent until the given request, which
// then fails in one way or another.
type scripted struct {
	sent      chan time.Time
	failSend  int
	failAfter int // answers
	outOfTurn bool

	sends, receives int
	close           func() // idempotent
	closed          chan struct{}
}

var errScripted = errors.New("scripted failure")

func newScripted() *scripted {
	s := &scripted{sent: make(chan time.Time, 2), closed: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	return s
}

func (s *scripted) send() error {
	if s.sends++; s.sends == s.failSend {
		return errScripted
	}
	select {
	case s.sent <- time.Now():
		return nil
	case <-s.closed:
		return errors.New("closed")
	}
}

func (s *scripted) receive(quit <-chan struct{}) (time.Time, error) {
	if s.receives++; s.receives == s.failAfter {
		return time.Time{}, errScripted
	}
	select {
	case start := <-s.sent:
		if s.outOfTurn {
			start = start.Add(-time.Duration(s.receives) * time.Hour)
		}
		return start, nil
	case <-quit:
		return time.Time{}, errNoMore
	}
}

func (s *scripted) Close() error { s.close(); return nil }

func runScripted(s *scripted) (int64, error) {
	var stop atomic.Bool
	defer time.AfterFunc(5*time.Millisecond, func() { stop.Store(true) }).Stop()
	return (&pipelined{pipeline: s}).run(&stop, newHistogram())
}

func TestPipelineCountsEveryAnswer(t *testing.T) {
	s := newScripted()
	n, err := runScripted(s)
	require.NoError(t, err)
	require.EqualValues(t, s.sends, n)
	require.EqualValues(t, s.receives, n)
}

func TestPipelineReportsFailedSend(t *testing.T) {
	s := newScripted()
	s.failSend = 5
	_, err := runScripted(s)
	require.ErrorIs(t, err, errScripted)
}

func TestPipelineReportsFailedAnswer(t *testing.T) {
	s := newScripted()
	s.failAfter = 5
	_, err := runScripted(s)
	require.ErrorIs(t, err, errScripted)
}

func TestPipelineReportsOvertaking(t *testing.T) {
	s := newScripted()
	s.outOfTurn = true
	_, err := runScripted(s)
	require.ErrorContains(t, err, "overtook")
}

func TestTallyRefusesWrongAnswers(t *testing.T) {
	answers := setup{}.tally()
	require.NoError(t, answers.check(true, firstAnswer))
	require.NoError(t, answers.check(true, firstAnswer+1))
	require.ErrorContains(t, answers.check(true, firstAnswer+3), "wrong answer")
	require.ErrorContains(t, answers.check(false, firstAnswer+2), "wrong answer")

	elsewhere := setup{target: "other:7000"}.tally()
	require.NoError(t, elsewhere.check(true, 77), "a server that has answered others")
	require.ErrorContains(t, elsewhere.check(true, 77), "wrong answer")
}

// A stuck exchange never ends by itself.
type stuck chan struct{}

func (s stuck) run(*atomic.Bool, *hdrhistogram.Histogram) (int64, error) { <-s; return 0, nil }
func (s stuck) Close() error                                             { return nil }

func TestStuckRivalIsReported(t *testing.T) {
	x := make(stuck)
	defer close(x)
	_, err := runFor(t.Context(), x, time.Millisecond, time.Millisecond, nil)
	require.ErrorIs(t, err, errStuck)
}
