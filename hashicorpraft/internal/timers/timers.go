// Package timers emits the timers of inbound requests to go-metrics. There are
// two libraries of that name, armon's and its successor hashicorp's, each with
// a registry for the whole process.
package timers

import "time"

// A Registry is that of one of the libraries.
type Registry interface {
	// InUse reports whether the application has set the registry up.
	InUse() bool

	// Measure emits a time. kind is an index into labels.TimerLabels.
	Measure(key []string, kind int, took time.Duration)
}

// Armon is the registry of armon/go-metrics, or nil. Package armonmetrics sets
// it before main starts, so that this package does not link armon's library.
var Armon Registry

// Current returns the registry that timers go to.
func Current() Registry {
	if Armon != nil && Armon.InUse() {
		return Armon
	}
	return hashicorp
}
