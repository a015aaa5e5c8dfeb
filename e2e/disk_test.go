package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// disk is what a host keeps when its process ends: log, term, vote, snapshots.
type disk struct {
	*raft.InmemStore
	snapshots

	takes   time.Duration // that each StoreLogs needs
	failing atomic.Bool   // the next StoreLogs fails, and only that
}

func newDisk(takes time.Duration) *disk { return &disk{InmemStore: raft.NewInmemStore(), takes: takes} }

var errDisk = errors.New("the disk failed once")

func (d *disk) StoreLogs(logs []*raft.Log) error {
	time.Sleep(d.takes) // sleep-ok: fake time
	if d.failing.CompareAndSwap(true, false) {
		return errDisk
	}
	return d.InmemStore.StoreLogs(logs)
}

// snapshots keeps the last snapshot that was finished. The one of
// hashicorp/raft shows a snapshot that is still being written.
type snapshots struct {
	lock   sync.Mutex // protects following
	count  int
	latest *snapshotFile // nil if there is none
}

type snapshotFile struct {
	raft.SnapshotMeta
	data []byte
}

func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.count++
	return &snapshotSink{store: s, meta: raft.SnapshotMeta{
		Version:            version,
		ID:                 fmt.Sprintf("%d-%d-%d", term, index, s.count),
		Index:              index,
		Term:               term,
		Configuration:      members,
		ConfigurationIndex: membersIndex,
	}}, nil
}

func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.latest == nil {
		return nil, nil
	}
	meta := s.latest.SnapshotMeta
	return []*raft.SnapshotMeta{&meta}, nil
}

func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.latest == nil || s.latest.ID != id {
		return nil, nil, fmt.Errorf("snapshot %s has been replaced", id)
	}
	meta := s.latest.SnapshotMeta
	return &meta, io.NopCloser(bytes.NewReader(s.latest.data)), nil
}

// snapshotSink is a snapshot that is being written.
type snapshotSink struct {
	bytes.Buffer
	store *snapshots
	meta  raft.SnapshotMeta
}

func (w *snapshotSink) ID() string { return w.meta.ID }

func (w *snapshotSink) Close() error {
	w.meta.Size = int64(w.Len())
	w.store.lock.Lock()
	defer w.store.lock.Unlock()
	w.store.latest = &snapshotFile{w.meta, w.Bytes()}
	return nil
}

func (w *snapshotSink) Cancel() error { return nil }
