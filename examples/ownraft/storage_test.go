package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire"
)

func TestStorage_KeepsWhatItWasTold(t *testing.T) {
	s := open(t, t.TempDir())
	require.NoError(t, s.setVote(2, "b"))
	require.NoError(t, s.append(entryOf(1, 1), entryOf(2, 1), entryOf(3, 2)))
	require.NoError(t, s.append(entryOf(2, 3), entryOf(3, 3), entryOf(4, 3))) // in place of two
	require.NoError(t, s.setVote(3, ""))
	s = reopen(t, s)
	require.Equal(t, uint64(3), s.Term)
	require.Empty(t, s.Vote)
	require.Equal(t, []*raftwire.Log{{}, entryOf(1, 1), entryOf(2, 3), entryOf(3, 3), entryOf(4, 3)}, s.Entries)
	require.NoError(t, s.log.Close())
}

func TestStorage_KeepsSnapshotsAndDropsWhatTheyStandFor(t *testing.T) {
	s := open(t, t.TempDir())
	require.NoError(t, s.append(entryOf(1, 1), entryOf(2, 1), entryOf(3, 1), entryOf(4, 1)))
	for _, index := range []uint64{2, 3} {
		require.NoError(t, s.replace(snapshotName(index, 1), strings.NewReader("state")))
		require.NoError(t, s.useSnapshot(index, 1, 1))
	}
	s = reopen(t, s)
	require.Equal(t, "state", snapshotOf(t, s))
	require.Equal(t, uint64(2), s.first(), "one more entry stays")
	require.Equal(t, uint64(4), s.last().Index)
	require.Equal(t, []string{"log", "snapshot-3-1"}, files(t, s.dir))
	require.NoError(t, s.log.Close())
}

func TestStorage_BeginsALogAnewThatDoesNotMatchASnapshot(t *testing.T) {
	for name, index := range map[string]uint64{"another term": 2, "a later entry": 9} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			require.NoError(t, s.append(entryOf(1, 1), entryOf(2, 1), entryOf(3, 1)))
			require.NoError(t, s.replace(snapshotName(index, 5), strings.NewReader("state")))
			require.NoError(t, s.useSnapshot(index, 5, 10))
			s = reopen(t, s)
			require.Equal(t, []*raftwire.Log{{Index: index, Term: 5}}, s.Entries)
			require.NoError(t, s.log.Close())
		})
	}
}

// A crash may come at any byte of a write.
func TestStorage_DropsAWriteThatIsNotWhole(t *testing.T) {
	synctest.Test(t, dropsAWriteThatIsNotWhole) // since disks take time
}

func dropsAWriteThatIsNotWhole(t *testing.T) {
	s := open(t, t.TempDir())
	require.NoError(t, s.append(entryOf(1, 1)))
	before := read(t, s)
	require.NoError(t, s.setVote(2, "b"))
	require.NoError(t, s.append(entryOf(2, 2)))
	require.NoError(t, s.log.Close())
	whole := read(t, s)
	for size := len(before); size < len(whole); size++ {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "log"), whole[:size], 0o600))
		again := open(t, s.dir)
		require.Equal(t, uint64(1), again.last().Index, "%d bytes", size)
		require.NoError(t, again.append(entryOf(2, 3)))
		again = reopen(t, again)
		require.Equal(t, uint64(3), again.last().Term, "%d bytes", size)
		require.NoError(t, again.log.Close())
	}
	for at := len(before); at < len(whole); at += 3 { // or a sector has other bytes
		broken := bytes.Clone(whole)
		broken[at] ^= 4
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "log"), broken, 0o600))
		again := open(t, s.dir)
		require.Equal(t, uint64(1), again.last().Index, "byte %d", at)
		require.NoError(t, again.log.Close())
	}
}

func TestStorage_LeavesNothingOfASnapshotThatHasNotArrived(t *testing.T) {
	s := open(t, t.TempDir())
	lost := errors.New("connection lost")
	require.ErrorIs(t, s.replace(snapshotName(1, 1), io.MultiReader(strings.NewReader("st"), failing{lost})), lost)
	require.Equal(t, []string{"log"}, files(t, s.dir))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "temp-1"), nil, 0o600)) // of a crash
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, snapshotName(1, 1)), nil, 0o600))
	s = reopen(t, s)
	require.Equal(t, []string{"log"}, files(t, s.dir))
	require.NoError(t, s.log.Close())
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func entryOf(index, term uint64) *raftwire.Log {
	return &raftwire.Log{Index: index, Term: term, Data: []byte("command")}
}

func open(t *testing.T, dir string) *storage {
	s, err := openStorage(dir)
	require.NoError(t, err)
	return s
}

func reopen(t *testing.T, s *storage) *storage {
	require.NoError(t, s.log.Close())
	return open(t, s.dir)
}

func read(t *testing.T, s *storage) []byte {
	text, err := os.ReadFile(s.log.Name())
	require.NoError(t, err)
	return text
}

func snapshotOf(t *testing.T, s *storage) string {
	file, err := s.openSnapshot()
	require.NoError(t, err)
	defer file.Close()
	text, err := io.ReadAll(file)
	require.NoError(t, err)
	return string(text)
}

func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
