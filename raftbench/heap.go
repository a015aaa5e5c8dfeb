package main

// A heapObject is one of the many small objects that make up the live heap of
// a Raft node: 64 bytes, with a pointer for the collector to follow.
type heapObject struct {
	next *heapObject
	_    [56]byte
}

// liveHeap returns about that many MiB of objects, which live until the
// result is dropped.
func liveHeap(mib int) []*heapObject {
	const perMiB = 1 << 20 / (64 + 8) // object and the pointer to it
	objects := make([]*heapObject, mib*perMiB)
	var previous *heapObject
	for i := range objects {
		objects[i] = &heapObject{next: previous}
		previous = objects[i]
	}
	return objects
}
