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
// They time the requests of peers, in units of TimerGranularity, a millisecond by
// default:
//
//	raft.net.getRPCType                from when the one before was done with, until a request begins
//	raft.net.rpcDecode   rpcType       until it was decoded
//	raft.net.rpcEnqueue  rpcType       until the Raft core has taken it
//	raft.net.rpcRespond  rpcType       until the core has answered
//
// rpcType is AppendEntries, Heartbeat, InstallSnapshot, RequestPreVote,
// RequestVote or TimeoutNow. If a request is not answered because its connection
// has ended, the timers that it reached are measured. No label depends on a peer,
// so the number of series is fixed.
//
// [EmitExpiry] sets two gauges. They are in seconds, negative once the time is over, as
// Consul's agent.tls.cert.expiry is:
//
//	raft.net.tls.cert.expiry           until this node's own TLS certificate expires
//	raft.net.tls.ca.expiry             until the CA that has signed it expires
//
// # When to use it
//
// Use it in programs that have a Raft core of their own. In programs on
// hashicorp/raft, package hashicorpraft emits the same four timers by itself, to
// the registry that hashicorp/raft emits to. With these hooks too, each request
// would count twice. The modules metrics/prometheus and metrics/otel have all the
// other metrics, such as those of this node's own calls. Either may be used beside
// this one.
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
		to := readyOf(sink)
		if to == nil {
			return
		}
		labels.EachTimer(e, func(key []string, kind int, took time.Duration) {
			to.MeasureSinceWithLabels(key, time.Now().Add(-took), timerLabels[kind])
		})
	}}
}

// readyOf returns a registry, that of the moment for nil, or nil if nobody has set it up.
func readyOf(sink *metrics.Metrics) *metrics.Metrics {
	if sink == nil {
		sink = metrics.Default()
	}
	if sink.TimerGranularity == 0 {
		return nil
	}
	return sink
}

var timerLabels = labels.TimerLabels(func(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} })

// EmitExpiry sets the gauges for certificates in sink, from what a transport's Stats
// returns; nil means metrics.Default. Without TLS it sets none. Call it every few seconds,
// as go-metrics does for its own gauges: sinks forget those that nobody sets. Programs on
// hashicorp/raft may call it, too.
func EmitExpiry(sink *metrics.Metrics, stats raftwire.Stats) {
	to := readyOf(sink)
	if to == nil {
		return
	}
	for name, at := range map[string]time.Time{"cert": stats.CertificateExpires, "ca": stats.CAExpires} {
		if !at.IsZero() {
			to.SetGauge([]string{"raft", "net", "tls", name, "expiry"}, float32(time.Until(at).Seconds()))
		}
	}
}
