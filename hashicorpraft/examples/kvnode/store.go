package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// store is the state machine: what all nodes have in common.
type store struct {
	logger hclog.Logger
	lock   sync.RWMutex      // protects following
	values map[string][]byte // a value is replaced, never changed
}

func newStore(logger hclog.Logger) *store {
	return &store{logger: logger, values: map[string][]byte{}}
}

// command is one entry of the log.
type command struct {
	Key    string
	Value  []byte
	Delete bool `json:",omitempty"`
}

func (c command) encode() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and bytes can always be encoded
	}
	return data
}

// Apply is called by Raft, with one committed entry after the other.
func (s *store) Apply(entry *raft.Log) any {
	var c command
	if err := json.Unmarshal(entry.Data, &c); err != nil {
		panic(fmt.Sprintf("entry %d of the log: %v", entry.Index, err)) // going on would make the nodes differ
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if c.Delete {
		delete(s.values, c.Key)
	} else {
		s.values[c.Key] = c.Value
	}
	return nil
}

func (s *store) get(key string) ([]byte, bool) {
	s.lock.RLock()
	defer s.lock.RUnlock()
	value, ok := s.values[key]
	return value, ok
}

// all returns every key with its value.
func (s *store) all() map[string][]byte {
	s.lock.RLock()
	defer s.lock.RUnlock()
	return maps.Clone(s.values)
}

// Snapshot is called by Raft between two entries; the snapshot is written while
// later ones are applied.
func (s *store) Snapshot() (raft.FSMSnapshot, error) { return snapshot(s.all()), nil }

// Restore is called by Raft when the node starts, and when it has been away for
// longer than the log goes back.
func (s *store) Restore(from io.ReadCloser) error {
	defer from.Close()
	var values map[string][]byte
	if err := json.NewDecoder(from).Decode(&values); err != nil {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.values = values
	return nil
}

type snapshot map[string][]byte

// Persist writes the snapshot where Raft wants it.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release has nothing to give back.
func (s snapshot) Release() {}
