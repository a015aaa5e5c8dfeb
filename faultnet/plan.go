package faultnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Action is what a [Fault] does. As text, an action is followed by the hosts
// that it concerns and, for some, by an amount.
type Action string

// The actions, each with its text and what it is short for.
const (
	Cut        Action = "cut"        // cut from to: Link.Cut
	HealLink   Action = "heallink"   // heallink from to: Link.Heal
	Partition  Action = "partition"  // partition a b: Network.Partition
	Isolate    Action = "isolate"    // isolate a...: Network.Isolate
	Heal       Action = "heal"       // heal: Network.Heal
	Drop       Action = "drop"       // drop from to: Link.Drop
	Latency    Action = "latency"    // latency from to 20ms: Link.SetLatency
	Jitter     Action = "jitter"     // jitter from to 5ms: Link.SetJitter
	Bandwidth  Action = "bandwidth"  // bandwidth from to 10000: Link.SetBandwidth
	Slice      Action = "slice"      // slice from to 100: Link.Slice
	Corrupt    Action = "corrupt"    // corrupt from to 1000: Link.Corrupt
	ResetAfter Action = "resetafter" // resetafter from to 500: Link.ResetAfter
	Reset      Action = "reset"      // reset a b: Network.Reset

	Refuse      Action = "refuse"      // refuse a: Host.Refuse(true)
	Admit       Action = "admit"       // admit a: Host.Refuse(false)
	FailAccepts Action = "failaccepts" // failaccepts a: Host.FailAccepts(true)
	Accept      Action = "accept"      // accept a: Host.FailAccepts(false)
	Crash       Action = "crash"       // crash a: Host.Crash
	PowerOff    Action = "poweroff"    // poweroff a: Host.PowerOff
	Restart     Action = "restart"     // restart a: Host.Restart
)

// Fault is a change of a network, for the worse or for the better.
type Fault struct {
	Action Action
	// Hosts are the hosts that it concerns; from and to for a link. Their
	// names must have no space in them.
	Hosts []string
	// Time is the amount of Latency and Jitter.
	Time time.Duration
	// Bytes is the amount of Bandwidth, Slice, Corrupt and ResetAfter.
	Bytes int64
}

// String returns the fault as ParsePlan reads it: "latency a b 20ms".
func (f Fault) String() string {
	words := append([]string{string(f.Action)}, f.Hosts...)
	switch kinds[f.Action].amount {
	case duration:
		words = append(words, f.Time.String())
	case bytecount:
		words = append(words, strconv.FormatInt(f.Bytes, 10))
	}
	return strings.Join(words, " ")
}

// Step is a fault at its time.
type Step struct {
	// At is when it happens, since the plan began.
	At time.Duration
	Fault
}

// String returns the step as ParsePlan reads it: "1.5s latency a b 20ms".
func (s Step) String() string { return s.At.String() + " " + s.Fault.String() }

// Plan is a schedule of faults, in the order of their times.
type Plan []Step

// String returns the plan as text, a line for each step. ParsePlan reads it.
func (p Plan) String() string {
	var text strings.Builder
	for _, step := range p {
		fmt.Fprintln(&text, step)
	}
	return text.String()
}

// ParsePlan reads a plan from its text. Empty lines are skipped, the order of
// the lines does not matter.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	number := 0
	for line := range strings.Lines(text) {
		number++
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		step, err := parseStep(words)
		if err != nil {
			return nil, fmt.Errorf("faultnet: line %d of the plan: %w", number, err)
		}
		p = append(p, step)
	}
	p.sort()
	return p, nil
}

func parseStep(words []string) (step Step, err error) {
	if step.At, err = time.ParseDuration(words[0]); err != nil {
		return Step{}, err
	}
	if len(words) < 2 {
		return Step{}, errors.New("a time without an action")
	}
	step.Action = Action(words[1])
	hosts, err := step.parseAmount(words[2:])
	if err != nil {
		return Step{}, err
	}
	step.Hosts = copyHosts(hosts)
	return step, step.check()
}

// copyHosts returns nil for none.
func copyHosts(hosts []string) []string { return append([]string(nil), hosts...) }

// parseAmount takes the amount from the end of words, if the action has one.
func (f *Fault) parseAmount(words []string) (rest []string, err error) {
	amount := kinds[f.Action].amount
	if amount == none {
		return words, nil
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("%s without an amount", f.Action)
	}
	last := len(words) - 1
	if amount == duration {
		f.Time, err = time.ParseDuration(words[last])
	} else {
		f.Bytes, err = strconv.ParseInt(words[last], 10, 64)
	}
	if err != nil {
		err = fmt.Errorf("%s needs an amount at its end: %w", f.Action, err)
	}
	return words[:last], err
}

// check returns what is wrong with the fault.
func (f Fault) check() error {
	k, ok := kinds[f.Action]
	switch {
	case !ok:
		return fmt.Errorf("no such action: %q", f.Action)
	case k.hosts == someHosts && len(f.Hosts) == 0:
		return fmt.Errorf("%s names no hosts", f.Action)
	case k.hosts != someHosts && k.hosts != len(f.Hosts):
		return fmt.Errorf("%s names %d hosts, not %d", f.Action, k.hosts, len(f.Hosts))
	}
	return nil
}

func (p Plan) sort() {
	slices.SortStableFunc(p, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
}

// Run applies each step to n at its time, counted from the call. It blocks
// until the last one or until ctx is done, and returns the error of ctx or of a
// step that makes no sense. After each step it calls then, if that is not nil:
// a program that a crash has ended is stopped there, and started again after
// the restart. While then runs, the steps that follow wait.
func (p Plan) Run(ctx context.Context, n Target, then func(Step)) error {
	start := time.Now()
	for _, step := range p {
		if err := waitUntil(ctx, start.Add(step.At)); err != nil {
			return err
		}
		if err := n.Apply(step.Fault); err != nil {
			return err
		}
		if then != nil {
			then(step)
		}
	}
	return nil
}

func waitUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Apply makes a fault happen. The methods of networks, links and hosts that
// cause or end faults are short for it. It fails only if the fault makes no
// sense: an unknown action, the wrong number of hosts.
func (n *Network) Apply(f Fault) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("faultnet: %w", err)
	}
	f.Hosts = copyHosts(f.Hosts)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.history = append(n.history, Step{At: time.Since(n.start), Fault: f})
	kinds[f.Action].do(n, f)
	return nil
}

// must is Apply for faults of our own making.
func (n *Network) must(f Fault) {
	if err := n.Apply(f); err != nil {
		panic(err)
	}
}

// History returns the faults so far, with their times since New: a plan that
// does the same to another network. What was done to single connections, and
// Network.Slice, are not in it.
func (n *Network) History() Plan {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.history)
}

// String returns text for a failing test to print: the seed and the history.
func (n *Network) String() string {
	return fmt.Sprintf("faultnet.New(%d), and then\n%v", n.seed, n.History())
}

// kind is how an action is written, what it does, and what ends it.
type kind struct {
	hosts  int    // how many it names, or someHosts
	amount amount // what it has an amount of
	do     func(n *Network, f Fault)

	// For plans at random.
	end  Action // with as many of the hosts as it takes; none if it ends by itself
	calm int64  // the amount of bytes then
}

type amount uint8

const (
	none amount = iota
	duration
	bytecount
)

// someHosts is one or more.
const someHosts = -1

// kinds is what there is. The functions are called with the network's mu held.
var kinds = map[Action]kind{
	Cut:        {hosts: 2, do: onLink(func(l *Link, _ Fault) { l.setCut(true) }), end: HealLink},
	HealLink:   {hosts: 2, do: onLink(func(l *Link, _ Fault) { l.setCut(false) })},
	Partition:  {hosts: 2, do: func(n *Network, f Fault) { n.partition(n.host(f.Hosts[0]), n.host(f.Hosts[1])) }, end: Heal},
	Isolate:    {hosts: someHosts, do: func(n *Network, f Fault) { n.isolate(f.Hosts) }, end: Heal},
	Heal:       {do: func(n *Network, _ Fault) { n.heal() }},
	Drop:       {hosts: 2, do: onLink(func(l *Link, _ Fault) { l.drop() })},
	Latency:    {hosts: 2, amount: duration, do: onLink(func(l *Link, f Fault) { l.latency = f.Time }), end: Latency},
	Jitter:     {hosts: 2, amount: duration, do: onLink(func(l *Link, f Fault) { l.jitter = f.Time }), end: Jitter},
	Bandwidth:  {hosts: 2, amount: bytecount, do: onLink(func(l *Link, f Fault) { l.bandwidth = f.Bytes }), end: Bandwidth},
	Slice:      {hosts: 2, amount: bytecount, do: onLink(func(l *Link, f Fault) { l.slice = f.Bytes }), end: Slice},
	Corrupt:    {hosts: 2, amount: bytecount, do: onLink(func(l *Link, f Fault) { l.setCorrupt(f.Bytes) }), end: Corrupt},
	ResetAfter: {hosts: 2, amount: bytecount, do: onLink(func(l *Link, f Fault) { l.fuse.light(f.Bytes) }), end: ResetAfter, calm: -1},
	Reset:      {hosts: 2, do: func(n *Network, f Fault) { n.reset(n.host(f.Hosts[0]), n.host(f.Hosts[1])) }},

	Refuse:      {hosts: 1, do: onHost(func(h *Host) { h.setRefusing(true) }), end: Admit},
	Admit:       {hosts: 1, do: onHost(func(h *Host) { h.setRefusing(false) })},
	FailAccepts: {hosts: 1, do: onHost(func(h *Host) { h.failing = true }), end: Accept},
	Accept:      {hosts: 1, do: onHost(func(h *Host) { h.failing = false })},
	Crash:       {hosts: 1, do: onHost(func(h *Host) { h.stop(hostCrashed) }), end: Restart},
	PowerOff:    {hosts: 1, do: onHost(func(h *Host) { h.stop(hostOff) }), end: Restart},
	Restart:     {hosts: 1, do: onHost((*Host).restart)},
}

func onLink(do func(*Link, Fault)) func(*Network, Fault) {
	return func(n *Network, f Fault) { do(n.link(n.host(f.Hosts[0]), n.host(f.Hosts[1])), f) }
}

func onHost(do func(*Host)) func(*Network, Fault) {
	return func(n *Network, f Fault) { do(n.host(f.Hosts[0])) }
}
