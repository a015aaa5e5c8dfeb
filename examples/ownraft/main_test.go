package main

import (
	"math/rand/v2"
	"os"
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
var disks disk

type disk struct {
	mu     sync.Mutex // protects following
	synced []syncedFile
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
	d.mu.Lock()
	d.synced = append(d.synced, syncedFile{info, info.Size()})
	d.mu.Unlock()
	time.Sleep(rand.N(2 * time.Millisecond)) // sleep-ok: fake time, but for a few tests of the storage alone
	return nil
}

// cutPower loses what was written to a file and not synced.
func (d *disk) cutPower(t *testing.T, file string) {
	info, err := os.Stat(file)
	if os.IsNotExist(err) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	safe := int64(0)
	for _, s := range d.synced {
		if os.SameFile(s.info, info) {
			safe = s.size
		}
	}
	if safe >= info.Size() {
		return
	}
	if err := os.Truncate(file, safe); err != nil {
		t.Error(err)
	}
}
