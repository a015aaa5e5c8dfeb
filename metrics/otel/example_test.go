package otel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/raftwire/raftwire"
	raftwireotel "github.com/raftwire/raftwire/metrics/otel"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
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

// Several transports in one process, told apart by an attribute.
func ExampleObserve() {
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	for _, group := range []string{"orders", "invoices"} {
		options := raftwireotel.Options{Attributes: []attribute.KeyValue{attribute.String("group", group)}}
		hooks, err := raftwireotel.New(provider, options)
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
		watch, err := raftwireotel.Observe(provider, transport, options)
		if err != nil {
			log.Fatal(err)
		}
		defer watch.Unregister()
	}

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, metric := range collected.ScopeMetrics[0].Metrics {
		if gauge, ok := metric.Data.(metricdata.Gauge[int64]); ok && metric.Name == "raftwire.inbound.connections" {
			for _, point := range gauge.DataPoints {
				group, _ := point.Attributes.Value("group")
				fmt.Println(group.AsString(), "inbound:", point.Value)
			}
		}
	}
	// Unordered output:
	// orders inbound: 0
	// invoices inbound: 0
}
