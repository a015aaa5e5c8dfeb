package faultnet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire/faultnet"
)

var trio = []string{"a", "b", "c"}

// everyAction is a plan with each action once.
const everyAction = `1ms cut a b
2ms heallink a b
3ms partition a b
4ms isolate a b
5ms heal
6ms drop a b
7ms latency a b 1.5s
8ms jitter a b 5ms
9ms bandwidth a b 1000
10ms slice a b 3
11ms corrupt a b 1000000
12ms resetafter a b -1
13ms reset a b
14ms refuse a
15ms admit a
16ms failaccepts a
17ms accept a
18ms crash a
19ms poweroff b
20ms restart a
1h1m0s restart b
`

func TestAPlanSurvivesItsText(t *testing.T) {
	plan, err := faultnet.ParsePlan(everyAction)
	require.NoError(t, err)
	require.Len(t, plan, strings.Count(everyAction, "\n"))
	require.Equal(t, everyAction, plan.String())
	require.Equal(t, faultnet.Step{At: 7 * time.Millisecond, Fault: faultnet.Fault{
		Action: faultnet.Latency, Hosts: []string{"a", "b"}, Time: 1500 * time.Millisecond,
	}}, plan[6])
}

func TestAParsedPlanIsInOrder(t *testing.T) {
	plan, err := faultnet.ParsePlan("\n  2s heal\n\n1s\tcut a b  \n2s crash a\n")
	require.NoError(t, err)
	require.Equal(t, "1s cut a b\n2s heal\n2s crash a\n", plan.String())
}

func TestABadPlanIsRefusedByLine(t *testing.T) {
	for text, want := range map[string]string{
		"soon heal":         `line 1 of the plan: time: invalid duration "soon"`,
		"1s heal\n\n2s":     "line 3 of the plan: a time without an action",
		"1s explode a":      `no such action: "explode"`,
		"1s cut a":          "cut names 2 hosts, not 1",
		"1s heal a":         "heal names 0 hosts, not 1",
		"1s isolate":        "isolate names no hosts",
		"1s latency":        "latency without an amount",
		"1s latency a 10ms": "latency names 2 hosts, not 1",
		"1s latency a b 10": "missing unit in duration",
		"1s latency a b":    "latency needs an amount at its end",
		"1s slice a b many": "invalid syntax",
	} {
		_, err := faultnet.ParsePlan(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestAFaultThatMakesNoSenseIsRefused(t *testing.T) {
	n := faultnet.New(1)
	require.ErrorContains(t, n.Apply(faultnet.Fault{Action: "explode"}), `no such action: "explode"`)
	require.ErrorContains(t, n.Apply(faultnet.Fault{Action: faultnet.Crash}), "crash names 1 hosts, not 0")
	require.Empty(t, n.History())
	bad := faultnet.Plan{{Fault: faultnet.Fault{Action: faultnet.Cut}}}
	require.ErrorContains(t, bad.Run(t.Context(), n, nil), "cut names 2 hosts")
}

func TestRunAppliesEachStepAtItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		layer, err := n.Host("b").Listen()
		require.NoError(t, err)
		plan, err := faultnet.ParsePlan("1s refuse b\n3s admit b\n5s latency a b 100ms")
		require.NoError(t, err)
		start := time.Now()
		check := map[faultnet.Action]func(){
			faultnet.Refuse: func() { require.ErrorContains(t, dialWithin(n, "a", "b", time.Second), "refused") },
			faultnet.Admit:  func() { require.NoError(t, dialWithin(n, "a", "b", time.Second)) },
			faultnet.Latency: func() {
				require.Equal(t, 100*time.Millisecond, took(func() { _ = dialWithin(n, "a", "b", time.Hour) }))
			},
		}
		require.NoError(t, plan.Run(t.Context(), n, func(s faultnet.Step) {
			require.Equal(t, s.At, time.Since(start))
			check[s.Action]()
			delete(check, s.Action)
		}))
		require.Empty(t, check)
		require.NoError(t, layer.Close())
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		plan, err := faultnet.ParsePlan("1s heal\n1h heal")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Equal(t, time.Minute, took(func() {
			require.ErrorIs(t, plan.Run(ctx, n, nil), context.DeadlineExceeded)
		}))
		require.Len(t, n.History(), 1)
	})
}

// What methods and plans have done is one history, which does the same again.
func TestHistoryIsAPlan(t *testing.T) {
	inBubble(t, func(t *testing.T, n *faultnet.Network) {
		plan, err := faultnet.ParsePlan(everyAction)
		require.NoError(t, err)
		require.NoError(t, plan.Run(t.Context(), n, nil))
		require.Equal(t, plan, n.History())

		byHand := faultnet.New(2)
		a, b, ab := byHand.Host("a"), byHand.Host("b"), byHand.Link("a", "b")
		group := []string{"a", "b"}
		for _, step := range []func(){
			ab.Cut, ab.Heal,
			func() { byHand.Partition("a", "b") },
			func() { byHand.Isolate(group...) },
			byHand.Heal,
			ab.Drop,
			func() { ab.SetLatency(1500 * time.Millisecond) },
			func() { ab.SetJitter(5 * time.Millisecond) },
			func() { ab.SetBandwidth(1000) },
			func() { ab.Slice(3) },
			func() { ab.Corrupt(1_000_000) },
			func() { ab.ResetAfter(-1) },
			func() { byHand.Reset("a", "b") },
			func() { a.Refuse(true) },
			func() { a.Refuse(false) },
			func() { a.FailAccepts(true) },
			func() { a.FailAccepts(false) },
			a.Crash, b.PowerOff, a.Restart,
		} {
			<-time.After(time.Millisecond) // sleep-ok: fake time
			step()
		}
		group[0] = "changed"
		<-time.After(time.Hour + time.Minute - 20*time.Millisecond) // sleep-ok: fake time
		b.Restart()
		require.Equal(t, plan, byHand.History())
		require.Equal(t, "faultnet.New(2), and then\n"+everyAction, byHand.String())
	})
}

func TestARandomPlanIsItsSeeds(t *testing.T) {
	plan := faultnet.RandomPlan(1, trio, time.Minute)
	require.Equal(t, plan, faultnet.RandomPlan(1, trio, time.Minute))
	require.NotEqual(t, plan, faultnet.RandomPlan(2, trio, time.Minute))
	parsed, err := faultnet.ParsePlan(plan.String())
	require.NoError(t, err)
	require.Equal(t, plan, parsed)
}

func TestARandomPlanHasOnlyTheActionsAskedForAndTheirEnds(t *testing.T) {
	got := make(map[faultnet.Action]bool)
	for seed := range int64(20) {
		for _, step := range faultnet.RandomPlan(seed, trio, time.Minute, faultnet.Corrupt, faultnet.Cut) {
			got[step.Action] = true
		}
	}
	require.Equal(t, map[faultnet.Action]bool{faultnet.Corrupt: true, faultnet.Cut: true, faultnet.HealLink: true}, got)
}

func TestRandomPlansUseEveryFaultButCorrupt(t *testing.T) {
	got := make(map[faultnet.Action]bool)
	for seed := range int64(100) {
		for _, step := range faultnet.RandomPlan(seed, trio, time.Minute) {
			got[step.Action] = true
		}
	}
	every, err := faultnet.ParsePlan(everyAction)
	require.NoError(t, err)
	for _, step := range every {
		require.Equal(t, step.Action != faultnet.Corrupt, got[step.Action], step.Action)
	}
}

func TestARandomPlanTakesDownAMinority(t *testing.T) {
	for hosts, most := range map[int]int{2: 1, 3: 1, 4: 1, 5: 2} {
		names := []string{"a", "b", "c", "d", "e"}[:hosts]
		seen := 0
		for seed := range int64(20) {
			down := make(map[string]bool)
			for _, step := range faultnet.RandomPlan(seed, names, time.Minute, faultnet.Crash, faultnet.PowerOff) {
				host := step.Hosts[0]
				require.Equal(t, step.Action == faultnet.Restart, down[host], "%s twice", step)
				down[host] = step.Action != faultnet.Restart
				if !down[host] {
					delete(down, host)
				}
				seen = max(seen, len(down))
			}
			require.Empty(t, down)
		}
		require.Equal(t, most, seen, "of %d hosts", hosts)
	}
}

// After a random plan the network is as good as new.
func TestARandomPlanEndsWell(t *testing.T) {
	for seed := range int64(50) {
		inBubble(t, func(t *testing.T, n *faultnet.Network) {
			for _, plan := range []faultnet.Plan{
				faultnet.RandomPlan(seed, trio, time.Minute),
				faultnet.RandomPlan(seed, trio, time.Minute, faultnet.Corrupt),
			} {
				require.Greater(t, len(plan), 10)
				require.LessOrEqual(t, took(func() { require.NoError(t, plan.Run(t.Context(), n, nil)) }), time.Minute)
			}
			for _, link := range [][2]string{{"a", "b"}, {"b", "a"}, {"a", "c"}, {"c", "a"}, {"b", "c"}, {"c", "b"}} {
				requireWhole(t, n, link[0], link[1])
			}
		})
	}
}

// requireWhole checks that what goes over a link is there at once, and whole.
func requireWhole(t *testing.T, n *faultnet.Network, from, to string) {
	t.Helper()
	layer, err := n.Host(to).Listen()
	require.NoError(t, err)
	require.Zero(t, took(func() {
		c, err := n.Host(from).Dial(t.Context(), to)
		require.NoError(t, err)
		accepted, err := layer.Accept()
		require.NoError(t, err)
		sent, got := make([]byte, faultnet.DefaultBuffer), make([]byte, faultnet.DefaultBuffer)
		write(t, c, string(sent))
		count, err := accepted.Read(got)
		require.NoError(t, err)
		require.Equal(t, len(sent), count)
		require.Equal(t, sent, got)
	}), "%s to %s", from, to)
	require.NoError(t, layer.Close())
}

func FuzzParsePlan(f *testing.F) {
	f.Add(everyAction)
	f.Add(faultnet.RandomPlan(1, trio, time.Minute).String())
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := faultnet.ParsePlan(text)
		if err != nil {
			return
		}
		again, err := faultnet.ParsePlan(plan.String())
		require.NoError(t, err)
		require.Equal(t, plan, again)
	})
}
