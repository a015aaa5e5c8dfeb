package main

import (
	"fmt"

	hashicorp "github.com/hashicorp/raft"
)

// checkHeap returns what is wrong with the flag -heap.
func checkHeap(mib int) error {
	const most = 64 << 10
	if mib < 0 || mib > most {
		return fmt.Errorf("-heap %d: choose from 0 to %d MiB", mib, most)
	}
	return nil
}

// liveHeap returns that many MiB of log entries, which live as long as the
// result: the cache that a Raft node keeps of the end of its log, and most of
// what its garbage collector has to look at.
func liveHeap(mib int) []*hashicorp.Log {
	const data, overhead = 1 << 10, 96 + 8 // an entry, and the pointer to it
	cache := make([]*hashicorp.Log, (mib<<20)/(data+overhead))
	for i := range cache {
		cache[i] = &hashicorp.Log{Index: uint64(i), Term: term, Data: make([]byte, data)}
	}
	return cache
}

// warmHeap leaves that many MiB of heap that the process has written to before,
// as one has that ran for a while. The first write to a page of memory costs a
// virtual machine up to 14 µs, which is as much as a request.
func warmHeap(mib int) {
	_ = liveHeap(mib)
}
