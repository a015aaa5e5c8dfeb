package labels

import "sync/atomic"

// Slot keeps what belongs to a set of labels from its first use on, so that a busy
// hook need not look it up.
type Slot[V any] struct{ kept atomic.Pointer[V] }

// Get returns what is kept, or nil.
func (s *Slot[V]) Get() *V { return s.kept.Load() }

// Keep keeps v, unless another goroutine was faster, and returns what is kept.
func (s *Slot[V]) Keep(v *V) *V {
	s.kept.CompareAndSwap(nil, v)
	return s.kept.Load()
}
