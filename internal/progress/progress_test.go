package progress

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// clock has all limits; hurry says whether the early one counts.
func clock(hurry *bool) Clock {
	c := Clock{
		Stall: Limit{8 * time.Second, "stalled for %v"},
		Early: Limit{3 * time.Second, "stalled for %v, and others wait"},
		Hurry: func() bool { return *hurry },
		Total: Limit{20 * time.Second, "took longer than %v"},
		Look:  2 * time.Second,
	}
	c.Restart(time.Now())
	return c
}

// onFakeTime runs a test that pauses for whole seconds.
func onFakeTime(t *testing.T, test func(t *testing.T, pause func(seconds int))) {
	synctest.Test(t, func(t *testing.T) {
		test(t, func(seconds int) { <-time.NewTimer(time.Duration(seconds) * time.Second).C })
	})
}

func TestClock_EndsWhatMakesNoProgress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, pause func(int)) {
		hurry := false
		c := clock(&hurry)
		pause(7)
		require.NoError(t, c.Check(true))
		pause(7)
		require.NoError(t, c.Check(false))
		require.Equal(t, time.Second, time.Until(c.NextLook()))
		hurry = true
		require.EqualError(t, c.Check(false), "stalled for 3s, and others wait")
		hurry = false
		pause(1)
		err := c.Check(false)
		require.EqualError(t, err, "stalled for 8s")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestClock_EndsWhatTakesTooLong(t *testing.T) {
	onFakeTime(t, func(t *testing.T, pause func(int)) {
		c := clock(new(bool))
		for range 3 {
			pause(6)
			require.NoError(t, c.Check(true))
		}
		require.Equal(t, 2*time.Second, time.Until(c.Deadline()))
		pause(2)
		require.EqualError(t, c.Check(true), "took longer than 20s")
	})
}

func TestClock_WithoutLimitsNeverEnds(t *testing.T) {
	onFakeTime(t, func(t *testing.T, pause func(int)) {
		var c Clock
		c.Restart(time.Now())
		pause(1e6)
		require.NoError(t, c.Check(false))
		require.Zero(t, c.Deadline())
		require.Zero(t, c.NextLook())
	})
}

// Bytes count for the time that they take at the rate; time in which nobody waits does
// not count, and bytes that come early are no credit.
func TestClock_EndsWhatDrips(t *testing.T) {
	const rate = 10
	onFakeTime(t, func(t *testing.T, pause func(int)) {
		c := Clock{Stall: Limit{8 * time.Second, "%v"}}
		c.Restart(time.Now())
		wait := func(seconds, bytes int) error {
			c.Resume()
			pause(seconds)
			c.Received(bytes, rate)
			return c.Check(false)
		}
		require.NoError(t, wait(1, 1000))
		pause(100)
		require.NoError(t, wait(4, 10))
		require.Equal(t, 5*time.Second, time.Until(c.Deadline()))
		pause(100)
		require.NoError(t, wait(4, 0))
		require.Error(t, wait(2, 10))
	})
}
