package e2e

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// judge is told what happens on every node, and sees what none of them can.
type judge struct {
	lock    sync.Mutex // protects following
	leaders map[uint64]raft.ServerID
	entries map[uint64]string // by index: term and content
	wrong   []error           // what must not be
}

func newJudge() *judge {
	return &judge{leaders: map[uint64]raft.ServerID{}, entries: map[uint64]string{}}
}

// observe watches a node for its becoming the leader. A filter is called where
// it happens, before the node does anything as the leader.
func (j *judge) observe(id raft.ServerID, node *raft.Raft) {
	node.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if o.Data == raft.Leader {
			j.leads(o.Raft.CurrentTerm(), id)
		}
		return false
	}))
}

// leads notes who leads in a term: there must be one, although it may have the
// office again after a restart.
func (j *judge) leads(term uint64, id raft.ServerID) {
	j.lock.Lock()
	defer j.lock.Unlock()
	if other, known := j.leaders[term]; known && other != id {
		j.wrong = append(j.wrong, fmt.Errorf("term %d has two leaders: %s and %s", term, other, id))
	}
	j.leaders[term] = id
}

// applied notes an entry, which must be the same on every node, and the same
// again after a restart.
func (j *judge) applied(id raft.ServerID, l *raft.Log) {
	j.lock.Lock()
	defer j.lock.Unlock()
	entry := fmt.Sprintf("%q of term %d", l.Data, l.Term)
	if other, known := j.entries[l.Index]; known && other != entry {
		j.wrong = append(j.wrong, fmt.Errorf("entry %d is %s, and on %s it is %s", l.Index, other, id, entry))
	}
	j.entries[l.Index] = entry
}

// verdict returns what was wrong.
func (j *judge) verdict() error {
	j.lock.Lock()
	defer j.lock.Unlock()
	return errors.Join(j.wrong...)
}

// elections returns how many have succeeded.
func (j *judge) elections() int {
	j.lock.Lock()
	defer j.lock.Unlock()
	return len(j.leaders)
}
