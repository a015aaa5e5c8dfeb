package prometheus_test

import (
	"fmt"
	"log"
	"log/slog"
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

// Several transports in one process, told apart by a label.
func ExampleNew() {
	registry := prometheus.NewRegistry()
	for _, group := range []string{"orders", "invoices"} {
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"group": group}, registry)
		hooks, err := raftwireprom.New(reg, raftwireprom.Options{})
		if err != nil {
			log.Fatal(err)
		}
		transport, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
			MaxPool: 3, Timeout: 10 * time.Second, Hooks: hooks, Logger: raftwire.NewSlogLogger(slog.New(slog.DiscardHandler)),
		})
		if err != nil {
			log.Fatal(err)
		}
		defer transport.Close()
		reg.MustRegister(raftwireprom.NewCollector(transport, raftwireprom.Options{}))
	}

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "raftwire_inbound_connections" {
			for _, m := range family.GetMetric() {
				fmt.Println(m.GetLabel()[0].GetValue(), "inbound:", m.GetGauge().GetValue())
			}
		}
	}
	// Output:
	// invoices inbound: 0
	// orders inbound: 0
}
