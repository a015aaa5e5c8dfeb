package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/raftwire/raftwire"
)

// storage is what a node keeps on disk, with a copy in memory. What a method has changed is
// on disk when it returns. The methods are for the main loop, except replace. Entries never
// change, so that other goroutines may read those that they were given.
//
// There are two files: "log", with a record in each line, and a snapshot, whose name tells
// its index and term. Files of other names are what a crash has left.
type storage struct {
	record
	dir string
	log *os.File
}

// record is everything that is known, or, as a line of the log, what is new: its entries
// replace those that the lines before have from the first one's index on. A line begins with
// a checksum.
type record struct {
	Term                        uint64            // the current one
	Vote                        raftwire.ServerID // who got this node's vote in it, or ""
	SnapshotIndex, SnapshotTerm uint64            // the last entry in the snapshot, or 0

	// Entries[0] stands for everything before the log. Only its index and term count: those
	// of the last entry that was dropped, or 0.
	Entries []*raftwire.Log
}

// fsync returns when the disk has what was written. Tests replace it.
var fsync = (*os.File).Sync

// openStorage reads what a directory holds, and makes what is missing.
func openStorage(dir string) (*storage, error) {
	s := &storage{dir: dir}
	if err := errors.Join(os.MkdirAll(dir, 0o755), s.read()); err != nil {
		return nil, err
	}
	names, _ := filepath.Glob(s.path("*-*"))
	for _, name := range names {
		if name != s.path(snapshotName(s.SnapshotIndex, s.SnapshotTerm)) {
			_ = os.Remove(name)
		}
	}
	return s, nil
}

// read reads the log up to its end, or up to what a crash has left of the last write:
// nobody was told that this is stored.
func (s *storage) read() error {
	text, err := os.ReadFile(s.path("log"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for line := range bytes.Lines(text) {
		var r record
		if json.Unmarshal(line[min(9, len(line)):], &r) != nil || !bytes.Equal(line, r.line()) {
			break
		}
		r.Entries = replaceEntries(s.Entries, r.Entries)
		s.record = r
	}
	if len(s.Entries) == 0 {
		s.Entries = []*raftwire.Log{{}}
	}
	return s.rewrite()
}

func (r record) line() []byte {
	text, _ := json.Marshal(r) // cannot fail
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(text), text)
}

// rewrite makes a log of one line.
func (s *storage) rewrite() (err error) {
	_ = s.log.Close() // nil does not mind
	if err = s.replace("log", bytes.NewReader(s.line())); err == nil {
		s.log, err = os.OpenFile(s.path("log"), os.O_WRONLY|os.O_APPEND, 0)
	}
	return err
}

// append adds entries, in place of those from the first one's index on.
func (s *storage) append(entries ...*raftwire.Log) error {
	s.Entries = replaceEntries(s.Entries, entries)
	_, err := s.log.Write(record{s.Term, s.Vote, s.SnapshotIndex, s.SnapshotTerm, entries}.line())
	return errors.Join(err, fsync(s.log))
}

func replaceEntries(old, entries []*raftwire.Log) []*raftwire.Log {
	if len(old) > 0 && len(entries) > 0 {
		old = old[:entries[0].Index-old[0].Index]
	}
	return append(old, entries...)
}

// setVote stores a term, and the vote in it.
func (s *storage) setVote(term uint64, vote raftwire.ServerID) error {
	s.Term, s.Vote = term, vote
	return s.append()
}

// useSnapshot makes a snapshot the newest one; replace has made its file. Of the entries in
// it some stay in the log. If the log does not match, it begins anew.
func (s *storage) useSnapshot(index, term, stay uint64) error {
	old := snapshotName(s.SnapshotIndex, s.SnapshotTerm)
	s.SnapshotIndex, s.SnapshotTerm = index, term
	if s.matches(index, term) {
		s.Entries = s.slice(max(s.first(), index-min(index, stay)), s.last().Index+1)
	} else {
		s.Entries = []*raftwire.Log{{Index: index, Term: term}}
	}
	err := s.rewrite()
	_ = os.Remove(s.path(old)) // what cannot be removed is when the node starts again
	return err
}

// openSnapshot opens the newest snapshot. It can be read to its end although a newer one
// takes its place.
func (s *storage) openSnapshot() (*os.File, error) {
	return os.Open(s.path(snapshotName(s.SnapshotIndex, s.SnapshotTerm)))
}

func snapshotName(index, term uint64) string { return fmt.Sprintf("snapshot-%d-%d", index, term) }

// replace gives a file new content. After a crash it has either the old or the new one.
func (s *storage) replace(name string, content io.Reader) error {
	temp, err := os.CreateTemp(s.dir, "temp-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(temp, content)
	if err = errors.Join(err, fsync(temp), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	err = os.Rename(temp.Name(), s.path(name))
	if dir, openErr := os.Open(s.dir); openErr == nil {
		_ = errors.Join(fsync(dir), dir.Close()) // Windows cannot sync a directory
	}
	return err
}

func (s *storage) path(name string) string { return filepath.Join(s.dir, name) }

// first returns the index of the entry before the log.
func (s *storage) first() uint64 { return s.Entries[0].Index }

func (s *storage) last() *raftwire.Log { return s.Entries[len(s.Entries)-1] }

func (s *storage) entry(index uint64) *raftwire.Log { return s.Entries[index-s.first()] }

// slice returns the entries from begin to before end.
func (s *storage) slice(begin, end uint64) []*raftwire.Log {
	return append([]*raftwire.Log(nil), s.Entries[begin-s.first():end-s.first()]...)
}

// matches reports whether the log has an entry of this index and term. What was dropped is
// committed, so that it does match.
func (s *storage) matches(index, term uint64) bool {
	return index < s.first() || index <= s.last().Index && s.entry(index).Term == term
}
