package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// Whoever checks must be checked: what follows is wrong on purpose.

func TestAForgottenWriteIsNoticed(t *testing.T) {
	requireNoticed(t, sabotage{drop: true}, "the nodes differ", "acknowledged writes are lost on a: ", "not linearizable")
}

func TestStaleReadsAreNoticed(t *testing.T) {
	requireNoticed(t, sabotage{stale: true}, "not linearizable")
}

// requireNoticed runs seeds until each of the texts was in an error of one.
func requireNoticed(t *testing.T, sabotage sabotage, texts ...string) {
	t.Helper()
	for seed := int64(1); len(texts) > 0; seed++ {
		require.LessOrEqual(t, seed, int64(20), "unnoticed: %q", texts)
		r := newRun(seed)
		r.options.snapshots = false // or the node that forgets may get what it has forgotten
		r.options.sabotage = sabotage
		err := r.check(t)
		texts = slices.DeleteFunc(texts, func(text string) bool { return err != nil && strings.Contains(err.Error(), text) })
	}
}

func TestTwoLeadersOfATermAreNoticed(t *testing.T) {
	j := newJudge()
	j.leads(1, "a")
	j.leads(2, "b")
	j.leads(1, "a")
	require.NoError(t, j.verdict())
	j.leads(2, "c")
	require.EqualError(t, j.verdict(), "term 2 has two leaders: b and c")
}

func TestDifferentEntriesAreNoticed(t *testing.T) {
	j := newJudge()
	j.applied("a", &raft.Log{Index: 1, Term: 1, Data: []byte("x")})
	j.applied("b", &raft.Log{Index: 1, Term: 1, Data: []byte("x")})
	require.NoError(t, j.verdict())
	j.applied("c", &raft.Log{Index: 1, Term: 1, Data: []byte("y")})
	require.EqualError(t, j.verdict(), `entry 1 is "x" of term 1, and on c it is "y" of term 1`)
}

func TestHistories(t *testing.T) {
	write := func(begin, end int, value, result string) operation {
		return operation{key: "k", value: value, begin: time.Duration(begin), end: time.Duration(end), result: result}
	}
	read := func(begin, end int, result string) operation { return write(begin, end, "", result) }
	fail := func(begin, end int, value string) operation {
		o := write(begin, end, value, "")
		o.unclear = true
		return o
	}
	for name, c := range map[string]struct {
		kind semantics
		good bool
		all  []operation
	}{
		"in turn":                        {appending, true, []operation{write(1, 2, "a", "a,"), write(3, 4, "b", "a,b,"), read(5, 6, "a,b,")}},
		"at once, in either order":       {appending, true, []operation{write(1, 9, "a", "b,a,"), write(2, 8, "b", "b,"), read(3, 7, "b,")}},
		"a stale read":                   {appending, false, []operation{write(1, 2, "a", "a,"), read(3, 4, "")}},
		"a read back in time":            {appending, false, []operation{write(1, 9, "a", "a,"), read(2, 3, "a,"), read(4, 5, "")}},
		"a lost write":                   {appending, false, []operation{write(1, 2, "a", "a,"), write(3, 4, "b", "b,")}},
		"a write done twice":             {appending, false, []operation{write(1, 2, "a", "a,"), read(3, 4, "a,a,")}},
		"two that differ":                {appending, false, []operation{write(1, 2, "a", "a,"), write(3, 4, "b", "a,b,"), read(5, 6, "b,a,")}},
		"an unclear write, done":         {appending, true, []operation{fail(1, 2, "a"), read(3, 4, ""), read(5, 6, "a,")}},
		"an unclear write, not done":     {appending, true, []operation{fail(1, 2, "a"), write(3, 4, "b", "b,"), read(5, 6, "b,")}},
		"an unclear write, undone":       {appending, false, []operation{fail(1, 2, "a"), read(3, 4, "a,"), read(5, 6, "")}},
		"an unclear write, seen before":  {appending, false, []operation{read(1, 2, "a,"), fail(3, 4, "a")}},
		"an unclear write, out of turn":  {appending, false, []operation{write(1, 2, "b", "b,"), fail(3, 4, "a"), read(5, 6, "a,b,")}},
		"replaced":                       {replacing, true, []operation{write(1, 2, "a", "a"), write(3, 4, "b", "b"), read(5, 6, "b")}},
		"replaced, and read as before":   {replacing, false, []operation{write(1, 2, "a", "a"), write(3, 4, "b", "b"), read(5, 6, "a")}},
		"replaced by an unclear write":   {replacing, true, []operation{write(1, 2, "a", "a"), fail(3, 4, "b"), read(5, 6, "a"), read(7, 8, "b")}},
		"an unclear replacement, undone": {replacing, false, []operation{write(1, 2, "a", "a"), fail(3, 4, "b"), read(5, 6, "b"), read(7, 8, "a")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			for _, o := range c.all {
				h.add(o)
			}
			if c.good {
				require.NoError(t, h.check(c.kind))
			} else {
				require.ErrorIs(t, h.check(c.kind), errNotLinearizable)
			}
		})
	}
}
