package hashicorpraft

import (
	"time"

	"github.com/hashicorp/go-metrics"
)

var hashicorpLabels = func() (labels [rpcKinds][]metrics.Label) {
	for kind := unlabelled + 1; kind < rpcKinds; kind++ {
		labels[kind] = []metrics.Label{{Name: labelName, Value: rpcKindNames[kind]}}
	}
	return labels
}()

var hashicorpRegistry = globalRegistry{
	// A registry that was ever set up has a granularity: it divides by it.
	inUse: func() bool { return metrics.Default().TimerGranularity != 0 },
	measure: func(key []string, kind rpcKind, since time.Time) {
		metrics.MeasureSinceWithLabels(key, since, hashicorpLabels[kind])
	},
}
