//go:build !hashicorpmetrics

package armonmetrics

import (
	"time"

	"github.com/armon/go-metrics"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
)

func init() { timers.Armon = registry{} }

type registry struct{}

var labels = timers.Labels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })

// A registry that was ever set up has a granularity: it divides by it.
func (registry) InUse() bool { return metrics.Default().TimerGranularity != 0 }

func (registry) Measure(key []string, kind timers.Kind, start time.Time) {
	metrics.MeasureSinceWithLabels(key, start, labels[kind])
}
