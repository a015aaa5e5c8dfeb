package prometheus_test

import (
	"log"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/raftwire/raftwire"
	raftwireprom "github.com/raftwire/raftwire/metrics/prometheus"
)

func Example() {
	hooks, err := raftwireprom.New(prometheus.DefaultRegisterer, raftwireprom.Options{})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := raftwire.NewTCPTransportWithConfig("10.0.0.1:8300", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, Timeout: 10 * time.Second, Hooks: hooks,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := prometheus.Register(raftwireprom.NewCollector(transport, raftwireprom.Options{})); err != nil {
		log.Fatal(err)
	}
	http.Handle("/metrics", promhttp.Handler())
	log.Fatal(http.ListenAndServe(":9100", nil))
}
