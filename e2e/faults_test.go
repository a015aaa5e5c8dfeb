package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire/faultnet"
)

// defaultSeeds is how many seeds run if nothing else is asked for. CI runs them
// with two versions of hashicorp/raft, and in the workspace.
const defaultSeeds = 400

// Whatever happens to links and hosts, a cluster does what its clients were
// promised, and works again when it is over.
func TestClusterUnderFaults(t *testing.T) {
	seeds := seedsToRun(t)
	var sum totals
	t.Run("seed", func(t *testing.T) {
		for seed := seeds.first; seed <= seeds.last; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				r := newRun(seed)
				if seeds.count() == 1 && testing.Verbose() {
					r.options.logger = logTo(t)
				}
				r.test(t)
				sum.add(r)
			})
		}
	})
	t.Logf("%d seeds: %v", seeds.count(), &sum)
	if seeds.count() >= defaultSeeds {
		sum.requireVariety(t)
	}
}

// run is what one seed decides, and what comes of it.
type run struct {
	seed     int64
	options  options
	verified bool // clients read without the log
	plan     faultnet.Plan

	cluster *cluster
	history *history
	healed  time.Duration // until the first write after the faults
}

const (
	faultsLast = 12 * electionTimeout
	// catchUpLimit is more than the longest pause of the core after failures.
	catchUpLimit = 20 * electionTimeout
)

// newRun draws everything from the seed.
func newRun(seed int64) *run {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	r := &run{seed: seed}
	r.options = options{
		size:      []int{3, 3, 3, 3, 3, 5}[random.IntN(6)],
		window:    []int{1, 2, 16, 130}[random.IntN(4)],
		newTimes:  random.IntN(2) == 0,
		snapshots: random.IntN(2) == 0,
	}
	if random.IntN(3) == 0 { // what comes while a core is busy must not get lost
		r.options.diskTime = time.Duration(random.IntN(200)) * time.Millisecond
	}
	r.verified = random.IntN(2) == 0 && !r.options.mayLeaveUnanswered()
	r.plan = faultnet.RandomPlan(seed, r.options.names(), faultsLast)
	for i := range r.plan { // what ends a fault must not leave links without latency
		if r.plan[i].Action == faultnet.Latency {
			r.plan[i].Time = max(r.plan[i].Time, latency)
		}
	}
	return r
}

// test runs the seed, and tells all about it if something was not as promised,
// also if that was a goroutine left, at which a bubble panics.
func (r *run) test(t *testing.T) {
	t.Helper()
	good := false
	defer func() {
		if !good {
			t.Log(r)
		}
	}()
	require.NoError(t, r.check(t))
	good = true
}

// check runs the seed and returns what was not as promised.
func (r *run) check(t *testing.T) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { err = r.inBubble(t) })
	return errors.Join(err, r.history.check(appending))
}

// inBubble runs the seed. A bubble ends only with the last of its goroutines, so
// none can be left.
func (r *run) inBubble(t *testing.T) error {
	r.history = newHistory()
	r.cluster = newCluster(t, r.seed, r.options)
	clients := startClients(r.cluster, r.history, r.seed, r.verified)
	defer func() {
		clients.stop()
		r.cluster.shutdown() // answers what clients still wait for
		clients.running.Wait()
	}()
	require.NoError(t, r.plan.Run(t.Context(), r.cluster.net, r.cluster.follow))
	err := errors.Join(r.checkProgress(), r.checkCatchUp())
	clients.stop()
	return errors.Join(err, r.checkAgreement(), r.checkWrites(), r.cluster.judge.verdict())
}

// follow does to a node what was done to its host.
func (c *cluster) follow(step faultnet.Step) {
	switch step.Action {
	case faultnet.Crash, faultnet.PowerOff:
		c.node(step.Hosts[0]).stop()
	case faultnet.Restart:
		c.node(step.Hosts[0]).start()
	}
}

func (c *cluster) node(name string) *node {
	return c.nodes[slices.Index(c.options.names(), name)]
}

// checkProgress wants a write to succeed soon after the faults are over.
func (r *run) checkProgress() error {
	over := r.history.now()
	if !within(5*electionTimeout, func() bool { return r.history.writtenSince(over) }) {
		return fmt.Errorf("no write has succeeded in %v without faults", 5*electionTimeout)
	}
	r.healed = r.history.now() - over
	return nil
}

// checkCatchUp wants every node to have soon what has been committed by now.
// Clients go on meanwhile, because the core may need a newer snapshot for it;
// see trailingLogs.
func (r *run) checkCatchUp() error {
	committed := slices.Max(r.indexes())
	if !within(catchUpLimit, func() bool { return slices.Min(r.indexes()) >= committed }) {
		return fmt.Errorf("in %v without faults not all nodes have reached entry %d, but %d", catchUpLimit, committed, r.indexes())
	}
	return nil
}

// checkAgreement wants all nodes to be the same in the end.
func (r *run) checkAgreement() error {
	if !within(catchUpLimit, func() bool {
		states := r.states()
		return !slices.ContainsFunc(states, func(s state) bool { return !reflect.DeepEqual(s, states[0]) })
	}) {
		return fmt.Errorf("the nodes differ: %v", r.states())
	}
	return nil
}

// checkWrites wants every write that was acknowledged to be on every node in the
// end.
func (r *run) checkWrites() (err error) {
	for i, s := range r.states() {
		var lost []string
		for _, o := range r.history.succeeded() {
			if _, there := appending.after(s.Values[o.key], o.value); o.isWrite() && !there {
				lost = append(lost, o.value)
			}
		}
		if lost != nil {
			err = errors.Join(err, fmt.Errorf("acknowledged writes are lost on %s: %s", r.cluster.nodes[i].name, lost))
		}
	}
	return err
}

func (r *run) states() (all []state) {
	for _, n := range r.cluster.nodes {
		all = append(all, n.running().machine.state())
	}
	return all
}

func (r *run) indexes() (all []uint64) {
	for _, s := range r.states() {
		all = append(all, s.Index)
	}
	return all
}

// String tells what to know about a run that failed, and how to have it again.
func (r *run) String() string {
	return fmt.Sprintf(`seed %d: %d nodes, window %d, new time format %t, snapshots %t, verified reads %t, disks %v
again: %s=%d go test -count=100 -run TestClusterUnderFaults . # with the flags of this run; -v shows logs
the plan:
%v
what clients saw:
%v`, r.seed, r.options.size, r.options.window, r.options.newTimes, r.options.snapshots, r.verified, r.options.diskTime, seedsEnv, r.seed, r.plan, r.history)
}

// totals is what all seeds together have come to.
type totals struct {
	lock       sync.Mutex // protects following
	operations int
	elections  int
	slowest    time.Duration // until the first write after the faults
	calls      calls
}

func (s *totals) add(r *run) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.operations += len(r.history.succeeded())
	s.elections += r.cluster.judge.elections()
	s.slowest = max(s.slowest, r.healed)
	s.calls.include(r.cluster.calls)
}

func (s *totals) String() string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return fmt.Sprintf("%d operations of clients succeeded, %d elections, working again after %v at most; %v", s.operations, s.elections, s.slowest, &s.calls)
}

// requireVariety wants every kind of request to have succeeded and to have
// failed.
func (s *totals) requireVariety(t *testing.T) {
	t.Helper()
	for _, kind := range []string{
		"Heartbeat", "AppendEntries", "AppendEntries in a pipeline", "RequestVote", "RequestPreVote", "InstallSnapshot", "TimeoutNow",
	} {
		require.NotZero(t, s.calls.of(kind), kind)
		require.NotZero(t, s.calls.of(kind+" failed"), kind)
	}
}

// logTo shows the logs of nodes, with the time since the beginning.
func logTo(t *testing.T) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Debug, TimeFormat: "04:05.000"})
}
