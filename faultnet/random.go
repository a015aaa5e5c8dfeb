package faultnet

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

// RandomPlan returns a plan for hosts that is drawn at random: the same for the
// same arguments. Some twenty faults begin within duration, and all of them
// are over by its end, when every link is whole and every host up. Most last
// moments, some a quarter of duration.
//
// There must be two hosts at least. At any time fewer than half of them are
// down by a Crash or a PowerOff; of two, one.
//
// The actions are what is drawn from, each as often as it is named; what ends
// them comes by itself. Without any, all that begin a fault are drawn from, but
// for Corrupt: no Raft cluster survives that over plain TCP.
func RandomPlan(seed int64, hosts []string, duration time.Duration, actions ...Action) Plan {
	if len(actions) == 0 {
		actions = survivable
	}
	r := &planner{
		random:   rand.New(rand.NewPCG(uint64(seed), planStream)),
		hosts:    hosts,
		duration: duration,
		actions:  actions,
		busy:     make(map[string]time.Duration),
	}
	return r.plan()
}

// planStream keeps a plan's decisions apart from those of a network with the
// same seed.
const planStream = 1

// survivable are the faults that a cluster must survive.
var survivable = []Action{
	Cut, Partition, Isolate, Drop, Latency, Jitter, Bandwidth, Slice, ResetAfter, Reset,
	Refuse, FailAccepts, Crash, PowerOff,
}

// planner draws one plan.
type planner struct {
	random   *rand.Rand
	hosts    []string
	duration time.Duration
	actions  []Action

	steps Plan
	busy  map[string]time.Duration // until when, by the fault that will be its end
}

func (r *planner) plan() Plan {
	for at := r.pause(); at < r.duration; at += r.pause() {
		r.draw(at)
	}
	r.steps.sort()
	return r.steps
}

// pause is the time between two faults: a twentieth of the whole on average.
func (r *planner) pause() time.Duration {
	return max(readable(time.Duration(r.random.Int64N(int64(r.duration/10)+1))), 1)
}

// draw adds a fault that begins at this time, and what ends it, unless its
// place is taken.
func (r *planner) draw(at time.Duration) {
	action := r.actions[r.random.IntN(len(r.actions))]
	f := Fault{Action: action, Hosts: r.choose(action)}
	r.size(&f)
	until := min(at+readable(r.between(r.duration/1000, r.duration/4)), r.duration)
	end, ends := f.end()
	if ends && !r.take(end, at, until) {
		return
	}
	r.steps = append(r.steps, Step{at, f})
	if ends {
		r.steps = append(r.steps, Step{until, end})
	}
}

// choose returns hosts for an action.
func (r *planner) choose(a Action) []string {
	hosts := slices.Clone(r.hosts)
	r.random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	count := kinds[a].hosts
	if count == someHosts {
		count = 1 + r.random.IntN(max(len(hosts)-1, 1))
	}
	return hosts[:count]
}

// size gives a fault its amount.
func (r *planner) size(f *Fault) {
	switch f.Action {
	case Latency, Jitter:
		f.Time = readable(r.between(time.Millisecond, time.Second))
	case Bandwidth:
		f.Bytes = int64(r.between(1_000, 1_000_000))
	case Slice, ResetAfter:
		f.Bytes = int64(r.between(1, 10_000))
	case Corrupt:
		f.Bytes = int64(r.between(100, 100_000))
	}
}

// between returns something from low to high: every doubling is as likely. It
// does without floating point, which is not the same on every machine.
func (r *planner) between(low, high time.Duration) time.Duration {
	low = max(low, 1)
	low <<= r.random.IntN(bits.Len64(uint64(max(high/low, 1))))
	return min(low+time.Duration(r.random.Int64N(int64(low))), high)
}

// readable rounds to what is pleasant in a printed plan.
func readable(d time.Duration) time.Duration {
	if rounded := d.Round(time.Millisecond); rounded > 0 {
		return rounded
	}
	return d
}

// take reserves the place of a fault that is ended by end.
func (r *planner) take(end Fault, at, until time.Duration) bool {
	place := end.String()
	if r.busy[place] > at || end.Action == Restart && r.down(at) >= max((len(r.hosts)-1)/2, 1) {
		return false
	}
	r.busy[place] = until
	return true
}

// down counts the hosts that are down at a time.
func (r *planner) down(at time.Duration) int {
	down := 0
	for _, host := range r.hosts {
		if r.busy[Fault{Action: Restart, Hosts: []string{host}}.String()] > at {
			down++
		}
	}
	return down
}

// end returns the fault that ends f, if it does not end by itself.
func (f Fault) end() (Fault, bool) {
	k := kinds[f.Action]
	if k.end == "" {
		return Fault{}, false
	}
	hosts := f.Hosts[:kinds[k.end].hosts]
	return Fault{Action: k.end, Hosts: copyHosts(hosts), Bytes: k.calm}, true
}
