package hashicorpraft

import (
	"time"

	"github.com/raftwire/raftwire"
)

// rpcKind chooses a label value.
type rpcKind int

const (
	unlabelled rpcKind = iota
	heartbeats
	appendEntries
	requestVote
	requestPreVote
	installSnapshot
	timeoutNow
	rpcKinds
)

var rpcKindNames = [rpcKinds]string{
	heartbeats:      "Heartbeat",
	appendEntries:   "AppendEntries",
	requestVote:     "RequestVote",
	requestPreVote:  "RequestPreVote",
	installSnapshot: "InstallSnapshot",
	timeoutNow:      "TimeoutNow",
}

func kindOf(command any, heartbeat bool) rpcKind {
	switch command.(type) {
	case *raftwire.AppendEntriesRequest:
		if heartbeat {
			return heartbeats
		}
		return appendEntries
	case *raftwire.RequestVoteRequest:
		return requestVote
	case *raftwire.RequestPreVoteRequest:
		return requestPreVote
	case *raftwire.InstallSnapshotRequest:
		return installSnapshot
	case *raftwire.TimeoutNowRequest:
		return timeoutNow
	default:
		return unlabelled
	}
}

// stopwatch times what becomes of one request. It stands still, and reads no
// clock, while the application has set up no metrics.
type stopwatch struct {
	kind  rpcKind
	since time.Time
}

func startStopwatch(command any, heartbeat bool) stopwatch {
	if !registry.inUse() {
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
	registry.measure(key, s.kind, s.since)
	s.since = time.Now()
	return s
}

// globalRegistry is one of the process-wide registries of metrics. There are
// two: go-metrics moved from armon to hashicorp, and a program may link both.
type globalRegistry struct {
	inUse   func() bool // whether an application has given it a sink
	measure func(key []string, kind rpcKind, since time.Time)
}

// registry is the one that the hashicorp/raft of this build emits to, so that
// its metrics and ours meet in the same sink: from v1.8.0 on hashicorp's;
// before that armon's, unless the build tag hashicorpmetrics is set.
var registry = registryOfCore()
