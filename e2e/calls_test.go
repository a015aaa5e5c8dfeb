package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/raftwire/raftwire"
)

// calls counts the requests of transports by kind and outcome.
type calls struct {
	lock   sync.Mutex // protects following
	counts map[string]int
}

// add is for a raftwire.Hooks.
func (c *calls) add(e *raftwire.CallEvent) {
	kind := e.Kind
	switch {
	case e.Heartbeat:
		kind = "Heartbeat"
	case e.Pipelined:
		kind = "AppendEntries in a pipeline"
	}
	if e.Err != nil {
		kind += " failed"
	}
	c.count(kind, 1)
}

func (c *calls) count(kind string, n int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[kind] += n
}

func (c *calls) of(kind string) int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.counts[kind]
}

// include adds what others have counted.
func (c *calls) include(other *calls) {
	other.lock.Lock()
	defer other.lock.Unlock()
	for kind, n := range other.counts {
		c.count(kind, n)
	}
}

func (c *calls) String() string {
	c.lock.Lock()
	defer c.lock.Unlock()
	var text []string
	for _, kind := range slices.Sorted(maps.Keys(c.counts)) {
		text = append(text, fmt.Sprintf("%d %s", c.counts[kind], kind))
	}
	return strings.Join(text, ", ")
}
