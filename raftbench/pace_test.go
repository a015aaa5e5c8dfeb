package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace_BeginsRequestsAtTimesThatDoNotDependOnAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, quit := time.Now(), make(chan struct{})
		p := newPace(100)
		for i, late := range []time.Duration{0, 0, 35 * time.Millisecond, 0, 0, 0, 0} {
			begin, ok := p.next(quit)
			require.True(t, ok)
			require.Equal(t, time.Duration(i)*10*time.Millisecond, begin.Sub(start), "request %d", i)
			require.False(t, time.Now().Before(begin))
			<-time.After(late) // sleep-ok: fake time, an answer that takes so long
		}
		require.Equal(t, 60*time.Millisecond, time.Since(start), "what was late has caught up")
	})
}

func TestPace_IsAClosedLoopWithoutARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(0)
		for range 3 {
			begin, ok := p.next(nil)
			require.True(t, ok)
			require.Equal(t, time.Now(), begin)
			<-time.After(time.Second) // sleep-ok: fake time
		}
	})
}

func TestPace_EndsWithQuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quit := make(chan struct{})
		p := newPace(1)
		_, ok := p.next(quit)
		require.True(t, ok)
		time.AfterFunc(time.Millisecond, func() { close(quit) })
		began := time.Now()
		_, ok = p.next(quit)
		require.False(t, ok)
		require.Equal(t, time.Millisecond, time.Since(began))
		_, ok = p.next(quit)
		require.False(t, ok)
	})
}
