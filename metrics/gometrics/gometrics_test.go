package gometrics

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/metricstest"
	"github.com/raftwire/raftwire/internal/scrape"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sinkTo returns a registry without what would only be in the way.
func sinkTo(t *testing.T, sink metrics.MetricSink) *metrics.Metrics {
	config := metrics.DefaultConfig("")
	config.EnableHostname, config.EnableRuntimeMetrics = false, false
	m, err := metrics.New(config, sink)
	require.NoError(t, err)
	return m
}

// follower returns hooks for the follower of a pair alone.
func follower(hooks raftwire.Hooks) func(string) raftwire.Hooks {
	return func(node string) raftwire.Hooks {
		if node == "follower" {
			return hooks
		}
		return raftwire.Hooks{}
	}
}

var kinds = []string{"AppendEntries", "Heartbeat", "InstallSnapshot", "RequestPreVote", "RequestVote", "TimeoutNow"}

// The in-memory sink gets the four timers, for each kind of request, with the
// times that the requests took.
func TestTheTimersInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := metrics.NewInmemSink(time.Hour, time.Hour)
		pair := metricstest.NewPair(t, follower(New(sinkTo(t, sink))))
		pair.Story(t, func() {})

		samples := samplesOf(t, sink)
		want := []string{"raft.net.getRPCType"}
		for _, kind := range kinds {
			for _, timer := range []string{"rpcDecode", "rpcEnqueue", "rpcRespond"} {
				want = append(want, "raft.net."+timer+";rpcType="+kind)
			}
		}
		slices.Sort(want)
		require.Equal(t, want, slices.Sorted(maps.Keys(samples)))

		// Two AppendEntries were answered; a third is never.
		require.Equal(t, 2, samples["raft.net.rpcRespond;rpcType=AppendEntries"].Count)
		require.Equal(t, 7, samples["raft.net.getRPCType"].Count)
		coreTakes := float64(metricstest.CoreTakes.Milliseconds())
		require.InDelta(t, coreTakes, samples["raft.net.rpcRespond;rpcType=TimeoutNow"].Sum, 0.01)
		require.InDelta(t, 1000, samples["raft.net.rpcRespond;rpcType=InstallSnapshot"].Sum, 100, "half of it was held for a second")
		require.Zero(t, samples["raft.net.rpcEnqueue;rpcType=Heartbeat"].Sum)
		require.Positive(t, samples["raft.net.getRPCType"].Sum)
	})
}

func samplesOf(t *testing.T, sink *metrics.InmemSink) map[string]metrics.SampledValue {
	intervals := sink.Data()
	require.Len(t, intervals, 1)
	return intervals[0].Samples
}

// Scraped over HTTP, each of them moves.
func TestEveryTimerMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		sink, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{Registerer: registry})
		require.NoError(t, err)
		pair := metricstest.NewPair(t, follower(New(sinkTo(t, sink))))
		get := pair.ServeMetrics(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
		var scrapes []scrape.Series
		pair.Story(t, func() { scrapes = append(scrapes, metricstest.ParseSeries(t, get())) })

		require.Equal(t, []string{"raft_net_getRPCType", "raft_net_rpcDecode", "raft_net_rpcEnqueue", "raft_net_rpcRespond"},
			scrape.Moved(scrapes...))
		after := scrapes[len(scrapes)-1]
		for _, kind := range kinds {
			require.Positive(t, after[`raft_net_rpcRespond_count{rpcType="`+kind+`"}`], kind)
		}
		require.EqualValues(t, 7, after["raft_net_getRPCType_count"])
	})
}

// A request that was not answered is measured as far as it came.
func TestARequestWithoutAnAnswerHasNoTimeOfAnswering(t *testing.T) {
	for want, e := range map[int]raftwire.ServeEvent{
		2: {Kind: "TimeoutNow"},
		3: {Kind: "TimeoutNow", Enqueue: 1},
		4: {Kind: "TimeoutNow", ResponseBytes: 1},
	} {
		sink := metrics.NewInmemSink(time.Hour, time.Hour)
		New(sinkTo(t, sink)).ServeDone(&e)
		require.Len(t, samplesOf(t, sink), want)
	}
}

// Without a registry of its own, it follows the one of the process.
func TestNilIsTheDefaultOfTheMoment(t *testing.T) {
	hooks := New(nil)
	hooks.ServeDone(&raftwire.ServeEvent{Kind: "TimeoutNow"}) // before anything was set up
	sink := metrics.NewInmemSink(time.Hour, time.Hour)
	config := metrics.DefaultConfig("")
	config.EnableRuntimeMetrics = false
	_, err := metrics.NewGlobal(config, sink)
	require.NoError(t, err)
	hooks.ServeDone(&raftwire.ServeEvent{Kind: "TimeoutNow"})
	require.Contains(t, samplesOf(t, sink), "raft.net.rpcDecode;rpcType=TimeoutNow")
}

// The gauges tell how many seconds are left.
func TestExpiry_IsInSecondsFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			stats raftwire.Stats
			want  map[string]float32
		}{
			{raftwire.Stats{}, map[string]float32{}},
			{raftwire.Stats{CertificateExpires: time.Now().Add(time.Hour)}, map[string]float32{"raft.net.tls.cert.expiry": 3600}},
			{raftwire.Stats{CertificateExpires: time.Now().Add(time.Hour), CAExpires: time.Now().Add(-time.Minute)},
				map[string]float32{"raft.net.tls.cert.expiry": 3600, "raft.net.tls.ca.expiry": -60}},
		} {
			sink := metrics.NewInmemSink(time.Hour, time.Hour)
			to := sinkTo(t, sink)
			to.SetGauge([]string{"other"}, 1) // so that there is an interval
			EmitExpiry(to, c.stats)
			got := make(map[string]float32)
			for name, gauge := range sink.Data()[0].Gauges {
				got[name] = gauge.Value
			}
			c.want["other"] = 1
			require.Equal(t, c.want, got)
		}
	})
}

// What a transport's Stats tell is in the gauges.
func TestExpiry_ComesFromStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pair := metricstest.NewPair(t, func(string) raftwire.Hooks { return raftwire.Hooks{} })
		sink := metrics.NewInmemSink(time.Hour, time.Hour)
		EmitExpiry(sinkTo(t, sink), pair.Leader.Stats())
		left := time.Until(time.Unix(metricstest.CertificateExpiry, 0)).Seconds()
		require.InEpsilon(t, left, sink.Data()[0].Gauges["raft.net.tls.cert.expiry"].Value, 1e-6)
		require.InEpsilon(t, left+metricstest.Day, sink.Data()[0].Gauges["raft.net.tls.ca.expiry"].Value, 1e-6)
	})
}

func BenchmarkServeDone(b *testing.B) {
	config := metrics.DefaultConfig("")
	config.EnableRuntimeMetrics = false
	m, err := metrics.New(config, &metrics.BlackholeSink{})
	require.NoError(b, err)
	done := New(m).ServeDone
	e := raftwire.ServeEvent{Kind: "AppendEntries", Handle: time.Millisecond, ResponseBytes: 90}
	b.ReportAllocs()
	for b.Loop() {
		done(&e)
	}
}
