package otel_test

import (
	"log"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/raftwire/raftwire"
	raftwireotel "github.com/raftwire/raftwire/metrics/otel"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

func Example() {
	reader, err := exporter.New() // or any other, such as OTLP's
	if err != nil {
		log.Fatal(err)
	}
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	hooks, err := raftwireotel.New(provider, raftwireotel.Options{})
	if err != nil {
		log.Fatal(err)
	}
	transport, err := raftwire.NewTCPTransportWithConfig("10.0.0.1:8300", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, Timeout: 10 * time.Second, Hooks: hooks,
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := raftwireotel.Observe(provider, transport, raftwireotel.Options{}); err != nil {
		log.Fatal(err)
	}
	http.Handle("/metrics", promhttp.Handler())
	log.Fatal(http.ListenAndServe(":9100", nil))
}
