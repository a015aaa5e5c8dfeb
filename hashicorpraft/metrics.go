package hashicorpraft

import (
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
)

func kindOf(command any, heartbeat bool) timers.Kind {
	switch command.(type) {
	case *raftwire.AppendEntriesRequest:
		if heartbeat {
			return timers.Heartbeat
		}
		return timers.AppendEntries
	case *raftwire.RequestVoteRequest:
		return timers.RequestVote
	case *raftwire.RequestPreVoteRequest:
		return timers.RequestPreVote
	case *raftwire.InstallSnapshotRequest:
		return timers.InstallSnapshot
	case *raftwire.TimeoutNowRequest:
		return timers.TimeoutNow
	default:
		return timers.Unlabelled
	}
}

// stopwatch times what becomes of one request. It stands still, and reads no
// clock, while the application has set up no metrics.
type stopwatch struct {
	kind  timers.Kind
	since time.Time
}

func startStopwatch(command any, heartbeat bool) stopwatch {
	if !timers.Current().InUse() {
		return stopwatch{}
	}
	return stopwatch{kindOf(command, heartbeat), time.Now()}
}

func (s stopwatch) running() bool { return !s.since.IsZero() }

// lap emits the time since the stopwatch started and starts it anew.
func (s stopwatch) lap(key []string) stopwatch {
	if !s.running() {
		return s
	}
	timers.Current().Measure(key, s.kind, s.since)
	s.since = time.Now()
	return s
}
