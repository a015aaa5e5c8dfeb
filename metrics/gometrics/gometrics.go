// Package gometrics gives the timers of hashicorp/raft's own transport to
// hashicorp/go-metrics, under the names and with the labels that dashboards
// know:
//
//	config.Hooks = gometrics.New(metrics.Default())
//	...
//	transport, err := raftwire.NewTCPTransportWithConfig("10.0.0.1:8300", nil, config)
//
// # Metrics
//
// They are about the requests of peers, in TimerGranularity, a millisecond by
// default:
//
//	raft.net.getRPCType                from when the one before was done with, until a request begins
//	raft.net.rpcDecode   rpcType       until it was decoded
//	raft.net.rpcEnqueue  rpcType       until the Raft core has taken it
//	raft.net.rpcRespond  rpcType       until the core has answered
//
// rpcType is AppendEntries, Heartbeat, InstallSnapshot, RequestPreVote,
// RequestVote or TimeoutNow. A request that is not answered, because its
// connection has ended, is measured as far as it came. No label depends on a peer,
// so that the number of series is fixed.
//
// # When to use it
//
// For programs that use raftwire with a Raft core of their own. For those on
// hashicorp/raft the adapter, package hashicorpraft, emits the same four by
// itself, to the registry that their hashicorp/raft emits to: with these hooks
// as well, each request would be counted twice. Everything else that hooks
// tell, such as what this node asks of its peers, is in the modules
// metrics/prometheus and metrics/otel, which may be used beside either.
package gometrics

import (
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/metrics/labels"
)

// New returns hooks that emit the timers to sink; nil means what
// metrics.Default returns when a request has been answered. Several transports
// may have the same hooks, and are measured together.
func New(sink *metrics.Metrics) raftwire.Hooks {
	return raftwire.Hooks{ServeDone: func(e *raftwire.ServeEvent) {
		to := sink
		if to == nil {
			to = metrics.Default()
		}
		if to.TimerGranularity == 0 {
			return // nobody has set it up
		}
		labels.EachTimer(e, func(key []string, kind int, took time.Duration) {
			to.MeasureSinceWithLabels(key, time.Now().Add(-took), timerLabels[kind])
		})
	}}
}

var timerLabels = labels.TimerLabels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })
