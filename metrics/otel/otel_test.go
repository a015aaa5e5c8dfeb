package otel

import (
	"context"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/metricstest"
	"github.com/raftwire/raftwire/internal/scrape"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch makes a pair whose nodes are measured by provider.
func watch(t *testing.T, provider metric.MeterProvider) *metricstest.Pair {
	node := func(name string) Options {
		return Options{Attributes: []attribute.KeyValue{attribute.String("node", name)}}
	}
	pair := metricstest.NewPair(t, func(name string) raftwire.Hooks {
		hooks, err := New(provider, node(name))
		require.NoError(t, err)
		return hooks
	})
	for name, transport := range map[string]*raftwire.NetworkTransport{"leader": pair.Leader, "follower": pair.Follower} {
		registration, err := Observe(provider, transport, node(name))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, registration.Unregister()) })
	}
	return pair
}

// Scraped over HTTP through the exporter to Prometheus, each metric moves that
// the doc names, and has the name that the module metrics/prometheus gives it.
func TestEveryMetricMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
		require.NoError(t, err)
		pair := watch(t, sdk.NewMeterProvider(sdk.WithReader(reader)))
		get := pair.ServeMetrics(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
		var scrapes []scrape.Series
		pair.Story(t, func() { scrapes = append(scrapes, metricstest.ParseSeries(t, get())) })
		require.Equal(t, namesIn(t, "../prometheus/doc.go", `\braftwire_[a-z_]+\b`), scrape.Moved(scrapes...))
	})
}

// A reader of the SDK sees the names, units and kinds of the doc.
func TestInstrumentsAreThoseOfTheDoc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdk.NewManualReader()
		pair := watch(t, sdk.NewMeterProvider(sdk.WithReader(reader)))
		seen := make(map[string]metricdata.Metrics)
		pair.Story(t, func() {
			for name, m := range collect(t, reader) {
				seen[name] = m
			}
		})
		var got []string
		for name, m := range seen {
			got = append(got, name+" "+kindOf(t, m)+" "+m.Unit)
			require.Regexp(t, `^[A-Z].*\.$`, m.Description, name)
		}
		slices.Sort(got)
		require.Equal(t, documented(t), got)
	})
}

// documented returns the name, kind and unit of each metric in the doc.
func documented(t *testing.T) (rows []string) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for line := range strings.Lines(string(doc)) {
		if fields := strings.Fields(strings.TrimPrefix(line, "//")); len(fields) >= 3 && strings.HasPrefix(fields[0], "raftwire.") {
			rows = append(rows, strings.Join(fields[:3], " "))
		}
	}
	slices.Sort(rows)
	return rows
}

// What is measured is what happened.
func TestFiguresAreRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdk.NewManualReader()
		pair := watch(t, sdk.NewMeterProvider(sdk.WithReader(reader)))
		var looks []map[string]metricdata.Metrics
		pair.Story(t, func() { looks = append(looks, collect(t, reader)) })
		during, after := looks[1], looks[2]

		calls := after["raftwire.call.duration"].Data.(metricdata.Histogram[float64]).DataPoints
		preVote := point(t, calls, histogramSet, "node=leader", "kind=RequestPreVote", "outcome=ok", "peer=follower", "pipelined=false")
		require.InDelta(t, (2*metricstest.Latency + metricstest.CoreTakes).Seconds(), preVote.Sum, 1e-6)
		require.EqualValues(t, 1, point(t, calls, histogramSet, "kind=RequestVote", "outcome=refused").Count)
		served := after["raftwire.serve.phase.duration"].Data.(metricdata.Histogram[float64]).DataPoints
		require.InDelta(t, metricstest.CoreTakes.Seconds(), point(t, served, histogramSet, "kind=TimeoutNow", "phase=handle").Sum, 1e-6)
		refused := after["raftwire.connections.refused"].Data.(metricdata.Sum[int64]).DataPoints
		require.EqualValues(t, 1, point(t, refused, numberSet, "node=follower", "reason=Foreign").Value)
		require.Zero(t, point(t, refused, numberSet, "node=follower", "reason=Stalled").Value)

		done := during["raftwire.snapshot.done"].Data.(metricdata.Gauge[int64]).DataPoints
		require.LessOrEqual(t, point(t, done, numberSet, "direction=outbound").Value, int64(metricstest.SnapshotSize/2))
		require.Empty(t, after["raftwire.snapshot.done"].Data, "what is over is not shown")
		inFlight := during["raftwire.peer.requests.in_flight"].Data.(metricdata.Gauge[int64]).DataPoints
		require.EqualValues(t, 2, point(t, inFlight, numberSet, "peer=follower").Value, "the snapshot, and one on the pipeline")

		for i, renewed := range []float64{0, metricstest.Day, metricstest.Day} {
			for name, expiry := range map[string]float64{"certificate": metricstest.CertificateExpiry, "ca": metricstest.CertificateExpiry + metricstest.Day} {
				shown := looks[i]["raftwire.tls."+name+".expiry.timestamp"].Data.(metricdata.Gauge[float64]).DataPoints
				require.Equal(t, expiry+renewed, point(t, shown, timeSet, "node=leader").Value, name)
			}
		}
	})
}

// The caller may use its slice again, for another transport.
func TestAttributes_AreCopied(t *testing.T) {
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	attributes := []attribute.KeyValue{attribute.String("node", "a")}
	registration, err := Observe(provider, statsFunc(func() raftwire.Stats { return raftwire.Stats{} }), Options{Attributes: attributes})
	require.NoError(t, err)
	hooks, err := New(provider, Options{Attributes: attributes})
	require.NoError(t, err)
	attributes[0] = attribute.String("node", "another")
	hooks.Dialed(raftwire.DialEvent{})
	seen := collect(t, reader)
	point(t, seen["raftwire.inbound.connections"].Data.(metricdata.Gauge[int64]).DataPoints, numberSet, "node=a")
	point(t, seen["raftwire.dial.duration"].Data.(metricdata.Histogram[float64]).DataPoints, histogramSet, "node=a")
	require.NoError(t, registration.Unregister())
}

func TestExpiry_IsShownOnlyWithTLS(t *testing.T) {
	reader := sdk.NewManualReader()
	registration, err := Observe(sdk.NewMeterProvider(sdk.WithReader(reader)), statsFunc(func() raftwire.Stats { return raftwire.Stats{} }), Options{})
	require.NoError(t, err)
	seen := collect(t, reader)
	require.Contains(t, seen, "raftwire.inbound.connections")
	require.Empty(t, seen["raftwire.tls.certificate.expiry.timestamp"].Data)
	require.Empty(t, seen["raftwire.tls.ca.expiry.timestamp"].Data)
	require.NoError(t, registration.Unregister())
}

type statsFunc func() raftwire.Stats

func (f statsFunc) Stats() raftwire.Stats { return f() }

func TestAProviderIsRequired(t *testing.T) {
	_, err := New(nil, Options{})
	require.ErrorContains(t, err, "raftwireotel: the MeterProvider is nil: use otel.GetMeterProvider()")
	_, err = Observe(nil, nil, Options{})
	require.ErrorContains(t, err, "raftwireotel: the MeterProvider is nil: use otel.GetMeterProvider()")
}

func TestPeersCanBeOmitted(t *testing.T) {
	for omit, want := range map[bool]int{false: 2, true: 1} {
		reader := sdk.NewManualReader()
		hooks, err := New(sdk.NewMeterProvider(sdk.WithReader(reader)), Options{OmitPeers: omit})
		require.NoError(t, err)
		for _, peer := range []raftwire.ServerAddress{"a", "b"} {
			hooks.CallDone(&raftwire.CallEvent{Kind: "TimeoutNow", Peer: peer})
			hooks.Dialed(raftwire.DialEvent{Peer: peer})
		}
		seen := collect(t, reader)
		for _, name := range []string{"raftwire.call.duration", "raftwire.dial.duration"} {
			require.Len(t, seen[name].Data.(metricdata.Histogram[float64]).DataPoints, want, name)
		}
	}
}

// The address that an inbound connection comes from has a new port each time.
func TestStrangersAddNoSeries(t *testing.T) {
	reader := sdk.NewManualReader()
	hooks, err := New(sdk.NewMeterProvider(sdk.WithReader(reader)), Options{})
	require.NoError(t, err)
	visit := func(peer raftwire.ServerAddress, host string) int {
		conn := raftwire.ConnEvent{Peer: peer, Host: host, Inbound: true, Err: io.EOF}
		hooks.ConnOpened(conn)
		hooks.ServeDone(&raftwire.ServeEvent{Kind: "InstallSnapshot", Peer: peer, Host: host})
		hooks.SnapshotProgress(raftwire.SnapshotEvent{Peer: peer, Inbound: true})
		hooks.SnapshotProgress(raftwire.SnapshotEvent{Peer: peer, Inbound: true, Over: true})
		hooks.Refused(raftwire.RefusalEvent{Reason: "Foreign", Peer: peer, Host: host})
		hooks.ConnClosed(conn)
		return series(collect(t, reader))
	}
	require.Equal(t, visit("10.0.0.1:1", "10.0.0.1"), visit("10.0.0.2:2", "10.0.0.2"))
}

func TestTheBusyHooksAllocateNothing(t *testing.T) {
	hooks, err := New(sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader())), Options{})
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { hooks.CallDone(&busyCall) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { hooks.ServeDone(&busyServe) }))
}

var (
	busyCall = raftwire.CallEvent{
		Kind: "AppendEntries", Pipelined: true, Peer: "10.0.0.1:8300", RequestBytes: 300, Entries: 1, Took: time.Millisecond,
	}
	busyServe = raftwire.ServeEvent{Kind: "AppendEntries", Peer: "10.0.0.1:8300", RequestBytes: 300, Handle: time.Millisecond}
)

func BenchmarkHooks(b *testing.B) {
	hooks, err := New(sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader())), Options{})
	require.NoError(b, err)
	b.Run("CallDone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hooks.CallDone(&busyCall)
		}
	})
	b.Run("ServeDone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			hooks.ServeDone(&busyServe)
		}
	})
}

// collect returns what a reader sees now, by name.
func collect(t *testing.T, reader sdk.Reader) map[string]metricdata.Metrics {
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &all))
	seen := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			seen[m.Name] = m
		}
	}
	return seen
}

func kindOf(t *testing.T, m metricdata.Metrics) string {
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64], metricdata.Histogram[int64]:
		return "histogram"
	case metricdata.Sum[int64]:
		require.True(t, data.IsMonotonic, m.Name)
		return "counter"
	case metricdata.Gauge[int64], metricdata.Gauge[float64]:
		return "gauge"
	}
	t.Fatalf("%s is a %T", m.Name, m.Data)
	return ""
}

func histogramSet(p metricdata.HistogramDataPoint[float64]) attribute.Set { return p.Attributes }
func numberSet(p metricdata.DataPoint[int64]) attribute.Set               { return p.Attributes }
func timeSet(p metricdata.DataPoint[float64]) attribute.Set               { return p.Attributes }

// point returns the only point that has the attributes, given as name=value.
func point[P any](t *testing.T, points []P, set func(P) attribute.Set, attributes ...string) P {
	t.Helper()
	var found []P
	for _, p := range points {
		attributesOf := set(p)
		has := strings.Split(attributesOf.Encoded(attribute.DefaultEncoder()), ",")
		if !slices.ContainsFunc(attributes, func(want string) bool { return !slices.Contains(has, want) }) {
			found = append(found, p)
		}
	}
	require.Len(t, found, 1, "%v", attributes)
	return found[0]
}

// series counts what a reader sees.
func series(seen map[string]metricdata.Metrics) (n int) {
	for _, m := range seen {
		switch data := m.Data.(type) {
		case metricdata.Histogram[float64]:
			n += len(data.DataPoints)
		case metricdata.Histogram[int64]:
			n += len(data.DataPoints)
		case metricdata.Sum[int64]:
			n += len(data.DataPoints)
		case metricdata.Gauge[int64]:
			n += len(data.DataPoints)
		}
	}
	return n
}

// namesIn returns the metrics that a file names.
func namesIn(t *testing.T, file, pattern string) []string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	names := regexp.MustCompile(pattern).FindAllString(string(text), -1)
	slices.Sort(names)
	return slices.Compact(names)
}
