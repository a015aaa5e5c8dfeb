package main

import (
	"net/http"
	"strconv"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsHandler answers with what registry has, for Prometheus.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// watchRaft adds what Raft says of itself. Its timers are not among it: they go
// to a registry of go-metrics, which has a sink for Prometheus.
func watchRaft(registry *prometheus.Registry, r *raft.Raft) {
	for _, name := range []string{"term", "last_log_index", "commit_index", "applied_index"} {
		addGauge(registry, name, "What Raft's Stats call "+name+".", func() float64 {
			v, _ := strconv.ParseFloat(r.Stats()[name], 64)
			return v
		})
	}
	addGauge(registry, "leader", "1 at the leader, 0 at the other nodes.", func() float64 {
		if r.State() == raft.Leader {
			return 1
		}
		return 0
	})
}

func addGauge(registry *prometheus.Registry, name, help string, value func() float64) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "raft", Name: name, Help: help}, value))
}
