package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

// judge is told what happens in a cluster, and knows what must not.
type judge struct {
	mu        sync.Mutex // protects following
	leaders   map[uint64]string
	entries   map[entryID]entryFacts
	committed map[uint64]uint64 // the terms of committed entries by index
	list      []string          // the commands that were applied, in their order
	writes    []operation       // acknowledged
	nothing   map[string]bool   // the commands that must not be carried out
	wrong     []error
}

type entryID struct{ index, term uint64 }

type entryFacts struct {
	before uint64 // the term of the entry before
	data   string
}

// operation is a write that was acknowledged.
type operation struct {
	command    string
	position   int // in the list
	begin, end time.Time
}

func newJudge() *judge {
	return &judge{
		leaders: make(map[uint64]string), entries: make(map[entryID]entryFacts),
		committed: make(map[uint64]uint64), nothing: make(map[string]bool),
	}
}

func (j *judge) finds(format string, args ...any) {
	if len(j.wrong) < 5 {
		j.wrong = append(j.wrong, fmt.Errorf(format, args...))
	}
}

// leads is election safety: a term has one leader. It reports whether this is news.
func (j *judge) leads(term uint64, id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	other, known := j.leaders[term]
	if known && other != id {
		j.finds("term %d has two leaders, %s and %s", term, other, id)
	}
	j.leaders[term] = id
	return !known
}

// log is log matching: two entries with the same index and term are the same, and so are
// those before them. What one node has committed is committed for ever.
func (j *judge) log(node string, entries []*raftwire.Log, commit uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, entry := range entries[1:] { // the first stands for those before
		id, facts := entryID{entry.Index, entry.Term}, entryFacts{entries[i].Term, string(entry.Data)}
		if other, ok := j.entries[id]; ok && other != facts {
			j.finds("entry %v is %v on %s, and was %v", id, facts, node, other)
		}
		j.entries[id] = facts
		if entry.Index > commit {
			continue
		}
		if term, ok := j.committed[entry.Index]; ok && term != entry.Term {
			j.finds("entry %d is committed with term %d on %s, and was with term %d", entry.Index, entry.Term, node, term)
		}
		j.committed[entry.Index] = entry.Term
	}
}

// applied is state machine safety: all nodes apply the same commands in the same order.
func (j *judge) applied(node string, position int, command string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case position == len(j.list):
		j.list = append(j.list, command)
	case position > len(j.list) || j.list[position] != command:
		j.finds("%s applies %q at place %d of %q", node, command, position, j.list[max(0, min(position, len(j.list))-3):min(position+1, len(j.list))])
	}
}

func (j *judge) acknowledged(o operation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes = append(j.writes, o)
}

func (j *judge) refused(o operation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.nothing[o.command] = true
}

// verdict looks at the whole: no acknowledged write is lost, none was done twice, and their
// order is one that all clients can have seen (linearizability).
func (j *judge) verdict() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range j.writes {
		if o.position >= len(j.list) || j.list[o.position] != o.command {
			j.finds("the acknowledged write %q is not at its place %d", o.command, o.position)
		}
	}
	seen := make(map[string]bool)
	for _, command := range j.list {
		if seen[command] && command != lastWrite {
			j.finds("%q was carried out twice", command)
		}
		if j.nothing[command] {
			j.finds("%q was carried out, and its client was told that it is not", command)
		}
		seen[command] = true
	}
	slices.SortFunc(j.writes, func(a, b operation) int { return a.position - b.position })
	var latest operation // to begin, of those before in the list
	for _, o := range j.writes {
		if o.end.Before(latest.begin) {
			j.finds("%q ended before %q began, and comes after it", o.command, latest.command)
		}
		if o.begin.After(latest.begin) {
			latest = o
		}
	}
	return errors.Join(j.wrong...)
}

func TestJudge_FindsWhatIsWrong(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	logOf := func(terms ...uint64) (entries []*raftwire.Log) {
		for i, term := range terms {
			entries = append(entries, &raftwire.Log{Index: uint64(i), Term: term})
		}
		return entries
	}
	for name, do := range map[string]func(j *judge){
		"two leaders":               func(j *judge) { j.leads(3, "a"); j.leads(3, "b") },
		"other entries before":      func(j *judge) { j.log("a", logOf(0, 1, 3), 0); j.log("b", logOf(0, 2, 3), 0) },
		"a committed entry changes": func(j *judge) { j.log("a", logOf(0, 1), 1); j.log("b", logOf(0, 2), 1) },
		"another command":           func(j *judge) { j.applied("a", 0, "x"); j.applied("b", 0, "y") },
		"a command left out":        func(j *judge) { j.applied("a", 1, "x") },
		"a lost write":              func(j *judge) { j.acknowledged(operation{command: "x"}) },
		"a write done twice":        func(j *judge) { j.applied("a", 0, "x"); j.applied("a", 1, "x") },
		"a refused write done":      func(j *judge) { j.applied("a", 0, "x"); j.refused(operation{command: "x"}) },
		"an order nobody can have seen": func(j *judge) {
			j.applied("a", 0, "x")
			j.applied("a", 1, "y")
			j.acknowledged(operation{"x", 0, at(3), at(4)})
			j.acknowledged(operation{"y", 1, at(1), at(2)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudge()
			do(j)
			require.Error(t, j.verdict())
		})
	}
}

func TestJudge_FindsNothingElse(t *testing.T) {
	j := newJudge()
	j.leads(1, "a")
	j.leads(1, "a")
	j.leads(2, "b")
	now := time.Now()
	for _, node := range []string{"a", "b"} {
		j.applied(node, 0, "x")
		j.applied(node, 1, "y")
		j.log(node, []*raftwire.Log{{}, {Index: 1, Term: 1}}, 1)
	}
	j.acknowledged(operation{"y", 1, now, now.Add(2)})
	j.acknowledged(operation{"x", 0, now.Add(1), now.Add(3)})
	require.NoError(t, j.verdict())
}
