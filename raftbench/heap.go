package main

import hashicorp "github.com/hashicorp/raft"

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
