package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// A slowStart is a link, and a pipeline, whose first answer takes a second.
type slowStart struct {
	link // of which call alone is used
	sent chan time.Time
	once sync.Once
}

func (s *slowStart) answer() { s.once.Do(func() { <-time.After(time.Second) }) } // sleep-ok: fake time

func (s *slowStart) call() error { s.answer(); return nil }

func (s *slowStart) send() error { s.sent <- time.Now(); return nil }

func (s *slowStart) receive(<-chan struct{}) (time.Time, error) {
	s.answer()
	return <-s.sent, nil
}

func (s *slowStart) Close() error { return nil }

// At a rate, a late answer makes those late that were to be asked for meanwhile.
func TestRate_LatencyCountsFromTheIntendedStart(t *testing.T) {
	for name, newExchange := range map[string]func(*slowStart) exchange{
		"calls":    func(s *slowStart) exchange { return calls{s, 10} },
		"pipeline": func(s *slowStart) exchange { return &pipelined{s, 10} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stop atomic.Bool
				time.AfterFunc(1950*time.Millisecond, func() { stop.Store(true) })
				latency := newHistogram()
				n, err := newExchange(&slowStart{sent: make(chan time.Time, 1)}).run(&stop, latency)
				require.NoError(t, err)
				require.InDelta(t, 20, n, 1)
				require.InEpsilon(t, time.Second, latency.Max(), 0.001)
				require.InEpsilon(t, 500*time.Millisecond, latency.ValueAtQuantile(75), 0.21)
				require.Zero(t, latency.ValueAtQuantile(45))
			})
		})
	}
}

func TestRate_IsThatOfEachFollower(t *testing.T) {
	opts, err := parseOptions(strings.Fields("-rate 500 -workloads 1x128 -windows sync,4 -followers 1,2 -rounds 2 -slice 100ms -heap 1"), io.Discard)
	require.NoError(t, err)
	r, err := benchmark(t.Context(), opts, &progress{out: io.Discard})
	require.NoError(t, err)
	require.Len(t, r.Results, 2*2*2)
	for _, result := range r.Results {
		require.Less(t, result.Median.RPCsPerSecond, 600*float64(result.Followers))
		require.GreaterOrEqual(t, result.Median.P999Micros, result.Median.P50Micros)
	}
	for _, ratio := range r.Ratios {
		require.NotNil(t, ratio.P50)
		require.NotNil(t, ratio.P99, "in a pipeline too")
		require.NotNil(t, ratio.P999)
	}
	var out bytes.Buffer
	writeTable(&out, r)
	require.Contains(t, out.String(), "500 requests/s to each follower")
	require.Contains(t, out.String(), "p99.9 µs")
	require.NotContains(t, out.String(), "slower")
}

func TestRate_HasItsOwnCells(t *testing.T) {
	opts, err := parseOptions([]string{"-rate", "300"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []followers{1, 2, 4, 6}, opts.followers)
	for _, task := range opts.tasks() {
		require.Equal(t, []string{nameHashicorp, nameRaftwire}, []string{task.rivals[0].name, task.rivals[1].name})
	}
	for want, args := range map[string]string{"not be below 0": "-rate -1", "which it sets": "-rate 5 -chart x.svg"} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		require.ErrorContains(t, err, want)
	}
}
