// Package transporttest checks that a raftwire.Transport keeps its contract.
//
// [Run] runs one subtest for each sentence of the contract, named by that
// sentence, against transports that a [Maker] makes. It is for the transports
// of this module and for your own:
//
//	func TestConformance(t *testing.T) {
//		transporttest.Run(t, transporttest.Maker{
//			New: func(t testing.TB, n int, o transporttest.Options) []raftwire.Transport { ... },
//		})
//	}
//
// Run it with -race too: in half of the cases about ownership only the race detector
// finds a broken transport. With Maker.FakeTime the cases run inside testing/synctest
// bubbles. Then they are exact about time, and take next to none. They also fail if a
// closed transport leaves a goroutine behind.
package transporttest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
)

// Maker makes the transports under test.
type Maker struct {
	// New returns n new transports, each able to reach the others under their
	// LocalAddr. It is called once or more in each case, with the t of the case.
	// The suite closes transports that implement raftwire.WithClose. Clean up
	// everything else by t.Cleanup.
	New func(t testing.TB, n int, o Options) []raftwire.Transport

	// NewSlow is New for transports that take the time connecting to connect to a
	// peer: the layer under them waits, and obeys a context as it would otherwise.
	// nil skips the cases that need it.
	NewSlow func(t testing.TB, n int, o Options, connecting time.Duration) []raftwire.Transport

	// NewAs returns a new transport for each identity, each able to reach the others
	// under their LocalAddr. nil skips the cases that need it.
	NewAs func(t testing.TB, o Options, identities ...raftwire.Identity) []raftwire.Transport

	// Without names features that the transport does not have: cases that need
	// them are skipped. The zero value expects all.
	Without Feature

	// Differs has sentences that the transport is known not to keep, each with the
	// reason. Spell them as the subtests do. They are skipped.
	Differs map[string]string

	// FakeTime runs each case inside a bubble of testing/synctest. It needs a
	// transport whose peers are reached without real I/O.
	FakeTime bool
}

// Options are what a case needs of the transports.
type Options struct {
	// Timeout is the limit for calls; 0 means none.
	Timeout time.Duration
	// Window is how many requests a pipeline has in flight, as in
	// raftwire.NetworkTransportConfig.MaxRPCsInFlight.
	Window int
}

// Feature is a set of things that a transport may lack.
type Feature uint

const (
	// Close is raftwire.WithClose, on both ends.
	Close Feature = 1 << iota
	// PreVote is raftwire.WithPreVote.
	PreVote
	// HeartbeatHandler is the use of the function set by SetHeartbeatHandler.
	HeartbeatHandler
	// Pipelines is AppendEntriesPipeline.
	Pipelines
	// Windows is a window of pipelines that obeys Options.Window. Without it
	// the window must be between 10 and 99.
	Windows
)

// Run checks the transports of m, one subtest for each sentence of the contract.
func Run(t *testing.T, m Maker) {
	t.Helper()
	known := make(map[string]bool)
	for _, c := range allCases() {
		known[c.sentence] = true
		t.Run(c.sentence, func(t *testing.T) { m.run(t, c) })
	}
	for sentence := range m.Differs {
		if !known[sentence] {
			t.Errorf("Maker.Differs names %q, which is not a sentence of the contract", sentence)
		}
	}
}

func (m Maker) run(t *testing.T, c testCase) {
	if lacks := c.needs & m.Without; lacks != 0 {
		t.Skipf("the transport is declared to lack %v", lacks)
	}
	if reason, differs := m.Differs[c.sentence]; differs {
		t.Skip(reason)
	}
	if !m.FakeTime {
		c.check(newTester(t, m))
		return
	}
	synctest.Test(t, func(t *testing.T) { c.check(newTester(t, m)) })
}

// testCase is one sentence of the contract. Its check may be run with any
// testing.TB, so that it can be seen to fail.
type testCase struct {
	sentence string
	needs    Feature
	check    func(t *tester)
}

func allCases() []testCase {
	return slices.Concat(callCases, ownershipCases, answerCases, deadlineCases,
		heartbeatCases, pipelineCases, windowCases, snapshotCases, closeCases, contextCases, identityCases)
}

// String lists the names of the features.
func (f Feature) String() string {
	names := []string{"Close", "PreVote", "HeartbeatHandler", "Pipelines", "Windows"}
	text := ""
	for i, name := range names {
		if f&(1<<i) != 0 {
			text += " " + name
		}
	}
	if text == "" {
		return "nothing"
	}
	return text[1:]
}
