package hashicorpraft

import (
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/raftwire/raftwire/internal/labels"
)

var hashicorpLabels = func() (all [rpcKinds][]metrics.Label) {
	for kind := unlabelled + 1; kind < rpcKinds; kind++ {
		all[kind] = []metrics.Label{{Name: labels.RPCType, Value: rpcKindNames[kind]}}
	}
	return all
}()

var hashicorpRegistry = globalRegistry{
	// A registry that was ever set up has a granularity: it divides by it.
	inUse: func() bool { return metrics.Default().TimerGranularity != 0 },
	measure: func(key []string, kind rpcKind, since time.Time) {
		metrics.MeasureSinceWithLabels(key, since, hashicorpLabels[kind])
	},
}
