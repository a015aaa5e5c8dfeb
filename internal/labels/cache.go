package labels

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Cache keeps the series of each set of labels, so that a busy hook need not
// look them up. Get takes no lock and allocates nothing; a new key copies the
// map, which is for keys that are few.
type Cache[K comparable, V any] struct {
	// Make makes what a key stands for. It is called once for each key.
	Make func(K) V

	known atomic.Pointer[map[K]V]
	mu    sync.Mutex // held by whoever changes known
}

// Get returns what key stands for. It may be called by several goroutines.
func (c *Cache[K, V]) Get(key K) V {
	if known := c.known.Load(); known != nil {
		if v, found := (*known)[key]; found {
			return v
		}
	}
	return c.add(key)
}

func (c *Cache[K, V]) add(key K) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[K]V)
	if known := c.known.Load(); known != nil {
		if v, found := (*known)[key]; found {
			return v
		}
		maps.Copy(next, *known)
	}
	v := c.Make(key)
	next[key] = v
	c.known.Store(&next)
	return v
}
