package hashicorpraft

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
	"github.com/raftwire/raftwire/metrics/labels"
)

// observer returns what emits the timers of a request, or nil if the application
// has set up no metrics.
func observer() func(*raftwire.ServeEvent) {
	if !timers.Current().InUse() {
		return nil
	}
	return emitTimers
}

func emitTimers(e *raftwire.ServeEvent) { labels.EachTimer(e, timers.Current().Measure) }

// emitPumped emits the timers of a request that the pump has moved: only of these
// two times it knows.
func emitPumped(command any, heartbeat bool, enqueue, handle time.Duration) {
	kind := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", command), "*raftwire."), "Request")
	if emit := observer(); emit != nil && slices.Contains(labels.Kinds[:], kind) {
		emit(&raftwire.ServeEvent{Kind: kind, Heartbeat: heartbeat, Enqueue: enqueue, Handle: handle, ResponseBytes: 1})
	}
}
