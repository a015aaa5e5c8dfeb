package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// machine is the state machine of a node: keys, and what was appended to each.
// A value so tells every write that made it, which is more than a register
// does: one that is lost, done twice or in another order is seen for ever.
type machine struct {
	id    raft.ServerID
	judge *judge
	drops int // which append, counted from the start, it forgets; see sabotage

	lock   sync.Mutex // protects following
	values map[string]string
	index  uint64 // of the last entry applied
	count  int    // of appends
}

func newMachine(id raft.ServerID, judge *judge) *machine {
	return &machine{id: id, judge: judge, values: map[string]string{}}
}

// Apply returns the value of the key, after the entry.
func (m *machine) Apply(l *raft.Log) any {
	m.judge.applied(m.id, l)
	key, value, isAppend := strings.Cut(string(l.Data), " ")
	m.lock.Lock()
	defer m.lock.Unlock()
	m.index = l.Index
	if isAppend {
		m.append(key, value)
	}
	return m.values[key]
}

func (m *machine) append(key, value string) {
	m.count++
	if m.count != m.drops {
		m.values[key] = appending.write(m.values[key], value)
	}
}

// appendCommand and getCommand are what Apply takes apart.
func appendCommand(key, value string) []byte { return []byte(key + " " + value) }
func getCommand(key string) []byte           { return []byte(key) }

func (m *machine) get(key string) string {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.values[key]
}

// state is what must be the same on every node.
type state struct {
	Index  uint64
	Values map[string]string
}

func (m *machine) state() state {
	m.lock.Lock()
	defer m.lock.Unlock()
	return state{m.index, maps.Clone(m.values)}
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return m.state(), nil }

func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	var s state
	if err := json.NewDecoder(from).Decode(&s); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	m.index, m.values = s.Index, s.Values
	return nil
}

func (s state) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (s state) Release() {}
