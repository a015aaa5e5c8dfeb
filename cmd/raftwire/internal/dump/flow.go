package dump

import (
	"slices"
	"time"
)

const (
	// awaitSegment is how long a missing segment is waited for, in the capture's time,
	// if no acknowledgement tells more.
	awaitSegment = 5 * time.Second

	// maxHeld bounds what is kept meanwhile, in bytes for each direction.
	maxHeld = 4 << 20
)

// A flow puts the segments of one direction of TCP in order. What the receiver has
// acknowledged and the capture lacks is given up at once: so a request that was captured
// in part is not printed after its answer.
type flow struct {
	deliver func(seen time.Time, lost int, bytes []byte) // bytes, or that some are lost
	started bool
	next    uint32    // the sequence number of the next byte
	held    []segment // that came before those they follow, in order
	size    int       // of held
	ended   bool      // by FIN or RST
}

type segment struct {
	seen  time.Time
	seq   uint32
	bytes []byte
	fin   bool
}

// after returns how far a is after b, which sequence numbers tell modulo 2^32.
func after(a, b uint32) int { return int(int32(a - b)) }

// start sets where the flow begins.
func (f *flow) start(next uint32) { f.started, f.next = true, next }

// add takes a segment.
func (f *flow) add(s segment) {
	if after(s.seq, f.next) <= 0 {
		f.take(s)
		f.takeHeld()
		return
	}
	i, found := slices.BinarySearchFunc(f.held, s, func(a, b segment) int { return after(a.seq, b.seq) })
	if !found || len(s.bytes) > 0 || s.fin {
		f.held = slices.Insert(f.held, i, s)
		f.size += len(s.bytes)
	}
	if f.size > maxHeld || s.seen.Sub(f.held[0].seen) > awaitSegment {
		f.skip(s.seen, f.held[0].seq)
	}
}

// acknowledge notes that the receiver has everything before ack.
func (f *flow) acknowledge(seen time.Time, ack uint32) {
	for !f.ended && after(ack, f.next) > 0 {
		if len(f.held) == 0 && ack == f.next+1 {
			return // a FIN counts as a byte, too
		}
		until := ack
		if len(f.held) > 0 && after(until, f.held[0].seq) > 0 {
			until = f.held[0].seq
		}
		f.skip(seen, until)
	}
}

// finish gives up everything that is missing.
func (f *flow) finish() {
	for len(f.held) > 0 {
		f.skip(f.held[0].seen, f.held[0].seq)
	}
}

// skip gives up the bytes before until.
func (f *flow) skip(seen time.Time, until uint32) {
	f.deliver(seen, after(until, f.next), nil)
	f.next = until
	f.takeHeld()
}

// takeHeld takes the held segments that are next.
func (f *flow) takeHeld() {
	for len(f.held) > 0 && after(f.held[0].seq, f.next) <= 0 {
		s := f.held[0]
		f.held = f.held[1:]
		f.size -= len(s.bytes)
		f.take(s)
	}
}

// take delivers what is new in a segment that is next, or was before.
func (f *flow) take(s segment) {
	known := after(f.next, s.seq)
	if f.ended || known < 0 || known > len(s.bytes) { // a distance of 2^31 is negative both ways
		return
	}
	if fresh := s.bytes[known:]; len(fresh) > 0 {
		f.next += uint32(len(fresh))
		f.deliver(s.seen, 0, fresh)
	}
	if s.fin {
		f.next++
		f.ended = true
	}
}
