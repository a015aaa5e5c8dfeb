package testnode

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// OnFakeTime runs test in a bubble with a network, and fails if a connection
// is left open.
func OnFakeTime(t *testing.T, test func(t *testing.T, net *faultnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := faultnet.New(1)
		t.Cleanup(func() { require.Zero(t, net.OpenConns(), "connections left open") })
		test(t, net)
	})
}

// Pause lets fake time pass. It does not wait on a timer that is due already: in a
// bubble, under the race detector, that has crashed the runtime of Go 1.26.8.
func Pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	<-timer.C
}

// Elapsed returns how long f takes.
func Elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
