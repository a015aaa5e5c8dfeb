package timers

import (
	"time"

	"github.com/hashicorp/go-metrics"
)

var hashicorp Registry = hashicorpRegistry{}

type hashicorpRegistry struct{}

var labels = Labels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })

// A registry that was ever set up has a granularity: it divides by it.
func (hashicorpRegistry) InUse() bool { return metrics.Default().TimerGranularity != 0 }

func (hashicorpRegistry) Measure(key []string, kind Kind, start time.Time) {
	metrics.MeasureSinceWithLabels(key, start, labels[kind])
}
