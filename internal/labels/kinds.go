package labels

import "sync/atomic"

// PerKind keeps what belongs to each kind of request, at less cost than a
// Cache: it looks nothing up.
type PerKind[V any] struct {
	// Make makes what belongs to a kind, by its label. It may be called more
	// than once for one, by several goroutines; any of the results is kept.
	Make func(label string) V

	known [kinds]atomic.Pointer[V]
}

// Get returns what belongs to a kind. It may be called by several goroutines.
func (p *PerKind[V]) Get(kind string, heartbeat bool) *V {
	slot := &p.known[number(kind, heartbeat)]
	if v := slot.Load(); v != nil {
		return v
	}
	v := p.Make(Kind(kind, heartbeat))
	slot.Store(&v)
	return &v
}

// kinds is how many kinds there are.
const kinds = 6

// number numbers the kinds. It panics with one that does not exist.
func number(kind string, heartbeat bool) int {
	switch kind {
	case "AppendEntries":
		if heartbeat {
			return 1
		}
		return 0
	case "RequestVote":
		return 2
	case "RequestPreVote":
		return 3
	case "InstallSnapshot":
		return 4
	case "TimeoutNow":
		return 5
	}
	panic("labels: no request has the kind " + kind)
}
