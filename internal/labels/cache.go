package labels

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Cache keeps the series of each set of labels, so that a busy hook need not
// look them up. Get takes no lock and allocates nothing; a new key copies all that
// are known, which is for keys that are few.
type Cache[K comparable, V any] struct {
	// Make makes what a key stands for. It is called once for each key.
	Make func(K) V

	known atomic.Pointer[known[K, V]]
	mu    sync.Mutex // held by whoever changes known
}

// known is what is in a cache. The first keys are in it twice: where there are few,
// as there are peers in a cluster, to compare with each costs less than the map.
type known[K comparable, V any] struct {
	few []pair[K, V]
	all map[K]V
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

// fewKeys is how many keys are compared with before the map is asked. From eight on
// that is faster; it takes as long as four.
const fewKeys = 4

// Get returns what key stands for. It may be called by several goroutines.
func (c *Cache[K, V]) Get(key K) V {
	if known := c.known.Load(); known != nil {
		for i := range known.few {
			if p := &known.few[i]; p.key == key {
				return p.value
			}
		}
		if v, found := known.all[key]; found {
			return v
		}
	}
	return c.add(key)
}

func (c *Cache[K, V]) add(key K) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := known[K, V]{all: make(map[K]V)}
	if known := c.known.Load(); known != nil {
		if v, found := known.all[key]; found {
			return v
		}
		maps.Copy(next.all, known.all)
		next.few = known.few
	}
	v := c.Make(key)
	next.all[key] = v
	if len(next.few) < fewKeys {
		next.few = append(next.few[:len(next.few):len(next.few)], pair[K, V]{key, v})
	}
	c.known.Store(&next)
	return v
}
