//go:build !hashicorpmetrics

package hashicorpraft

import (
	"reflect"
	"time"

	"github.com/armon/go-metrics"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire/internal/labels"
)

var armonLabels = func() (all [rpcKinds][]metrics.Label) {
	for kind := unlabelled + 1; kind < rpcKinds; kind++ {
		all[kind] = []metrics.Label{{Name: labels.RPCType, Value: rpcKindNames[kind]}}
	}
	return all
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
