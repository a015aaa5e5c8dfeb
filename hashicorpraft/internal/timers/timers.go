// Package timers emits the timers of inbound requests to go-metrics. There are
// two libraries of that name, armon's and its successor hashicorp's, each with
// a registry for the whole process.
package timers

import "time"

// Kind says which request is timed.
type Kind int

const (
	Unlabelled Kind = iota // the kind is not known yet
	Heartbeat
	AppendEntries
	RequestVote
	RequestPreVote
	InstallSnapshot
	TimeoutNow
	kinds
)

var names = [kinds]string{
	Heartbeat:       "Heartbeat",
	AppendEntries:   "AppendEntries",
	RequestVote:     "RequestVote",
	RequestPreVote:  "RequestPreVote",
	InstallSnapshot: "InstallSnapshot",
	TimeoutNow:      "TimeoutNow",
}

// A Registry is that of one of the libraries.
type Registry interface {
	// InUse reports whether the application has set the registry up.
	InUse() bool

	// Measure emits the time since start.
	Measure(key []string, kind Kind, start time.Time)
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

// Labels makes the labels of each kind, in the type of one of the libraries.
func Labels[L any](label func(name, value string) L) (all [kinds][]L) {
	for kind := Unlabelled + 1; kind < kinds; kind++ {
		all[kind] = []L{label("rpcType", names[kind])}
	}
	return all
}
