package timers

import (
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/raftwire/raftwire/metrics/labels"
)

var hashicorp Registry = hashicorpRegistry{}

type hashicorpRegistry struct{}

var timerLabels = labels.TimerLabels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })

// A registry that was ever set up has a granularity: it divides by it.
func (hashicorpRegistry) InUse() bool { return metrics.Default().TimerGranularity != 0 }

func (hashicorpRegistry) Measure(key []string, kind int, took time.Duration) {
	metrics.MeasureSinceWithLabels(key, time.Now().Add(-took), timerLabels[kind])
}
