package labels

import (
	"time"

	"github.com/raftwire/raftwire"
)

// The four timers of an inbound request, which applications know from
// hashicorp/raft's own transport.
var (
	getRPCType = []string{"raft", "net", "getRPCType"} // waiting for a request
	rpcDecode  = []string{"raft", "net", "rpcDecode"}  // reading it
	rpcEnqueue = []string{"raft", "net", "rpcEnqueue"} // handing it to the core
	rpcRespond = []string{"raft", "net", "rpcRespond"} // waiting for the answer
)

// unlabelled is the kind of getRPCType.
const unlabelled = len(Kinds)

// EachTimer calls measure with the timers of a request, as far as it came, and with
// the place of their labels in what TimerLabels returns.
func EachTimer(e *raftwire.ServeEvent, measure func(key []string, kind int, took time.Duration)) {
	kind, answered := Kind(e.Kind, e.Heartbeat), e.ResponseBytes > 0
	measure(getRPCType, unlabelled, e.Wait)
	measure(rpcDecode, kind, e.Decode)
	if answered || e.Enqueue > 0 {
		measure(rpcEnqueue, kind, e.Enqueue)
	}
	if answered {
		measure(rpcRespond, kind, e.Handle)
	}
}

// TimerLabels makes the labels of timers, in the type of a metrics library.
func TimerLabels[L any](label func(name, value string) L) (all [unlabelled + 1][]L) {
	for i, kind := range Kinds {
		all[i] = []L{label("rpcType", kind)}
	}
	return all
}
