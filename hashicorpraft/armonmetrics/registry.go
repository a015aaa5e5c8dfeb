//go:build !hashicorpmetrics

package armonmetrics

import (
	"time"

	"github.com/armon/go-metrics"
	"github.com/raftwire/raftwire/hashicorpraft/internal/timers"
	"github.com/raftwire/raftwire/metrics/labels"
)

func init() { timers.Armon = registry{} }

type registry struct{}

var timerLabels = labels.TimerLabels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })

// A registry that was ever set up has a granularity: it divides by it.
func (registry) InUse() bool { return metrics.Default().TimerGranularity != 0 }

func (registry) Measure(key []string, kind int, took time.Duration) {
	metrics.MeasureSinceWithLabels(key, time.Now().Add(-took), timerLabels[kind])
}
