package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asNode in the environment makes the test binary the program itself, so that tests start
// processes of what they were built from.
const asNode = "OWNRAFT_TEST_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		main()
		return
	}
	fsync = disks.sync
	maxEntries = 2 // so that logs differ in the middle of what a leader sends
	goleak.VerifyTestMain(m)
}

// disks stands for the disks under all nodes of this process: it takes time to sync, and a
// power cut loses what was not synced.
var disks = disk{synced: make(map[string][]syncedFile)}

type disk struct {
	mu     sync.Mutex              // protects following
	synced map[string][]syncedFile // by directory, the latest at the end
}

// syncedFile is a file, whatever its name, and how much of it is safe.
type syncedFile struct {
	info os.FileInfo
	size int64
}

func (d *disk) sync(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	d.note(filepath.Dir(f.Name()), info)
	time.Sleep(rand.N(2 * time.Millisecond)) // sleep-ok: fake time, but for a few tests of the storage alone
	return nil
}

func (d *disk) note(dir string, info os.FileInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := slices.DeleteFunc(d.synced[dir], func(s syncedFile) bool { return os.SameFile(s.info, info) })
	d.synced[dir] = append(others[max(0, len(others)-100):], syncedFile{info, info.Size()})
}

// cutPower loses what was written to a file and not synced.
func (d *disk) cutPower(t *testing.T, file string) {
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		return
	}
	if safe := d.safe(filepath.Dir(file), info); safe < info.Size() {
		if err := os.Truncate(file, safe); err != nil {
			t.Error(err)
		}
	}
}

func (d *disk) safe(dir string, info os.FileInfo) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.synced[dir] {
		if os.SameFile(s.info, info) {
			return s.size
		}
	}
	return 0
}
