//go:build !hashicorpmetrics

package hashicorpraft

import (
	"reflect"
	"time"

	"github.com/armon/go-metrics"
	"github.com/hashicorp/raft"
)

var armonLabels = func() (labels [rpcKinds][]metrics.Label) {
	for kind := unlabelled + 1; kind < rpcKinds; kind++ {
		labels[kind] = []metrics.Label{{Name: labelName, Value: rpcKindNames[kind]}}
	}
	return labels
}()

var armonRegistry = globalRegistry{
	inUse: func() bool { return metrics.Default().TimerGranularity != 0 },
	measure: func(key []string, kind rpcKind, since time.Time) {
		metrics.MeasureSinceWithLabels(key, since, armonLabels[kind])
	},
}

func registryOfCore() globalRegistry {
	if coreLeftArmon() {
		return hashicorpRegistry
	}
	return armonRegistry
}

// coreLeftArmon reports whether the core is v1.8.0 or newer. Neither a build
// tag nor an import can tell; a field that came with that version does.
func coreLeftArmon() bool {
	_, found := reflect.TypeFor[raft.Config]().FieldByName("RestoreCommittedLogs")
	return found
}
