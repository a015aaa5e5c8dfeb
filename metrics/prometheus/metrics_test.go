package prometheus

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/metricstest"
	"github.com/raftwire/raftwire/internal/scrape"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each metric that the package names moves when what it is about happens, and
// there are no others.
func TestEveryMetricMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		var scrapes []scrape.Series
		w.Story(t, func() { scrapes = append(scrapes, metricstest.ParseSeries(t, w.get())) })
		require.Equal(t, namesIn(t, "doc.go"), scrape.Moved(scrapes...))
	})
}

// What is measured is what happened.
func TestFiguresAreRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scrapes := newWatched(t).story(t)
		during, after := scrapes[1], scrapes[2]

		calls := after["raftwire_call_duration_seconds"]
		require.EqualValues(t, 1, one(t, calls, "node", "leader", "kind", "Heartbeat", "outcome", "ok").GetHistogram().GetSampleCount())
		require.EqualValues(t, 1, one(t, calls, "kind", "RequestVote", "peer", "follower", "outcome", "refused").GetHistogram().GetSampleCount())
		require.EqualValues(t, 1, one(t, calls, "kind", "RequestVote", "peer", "nobody", "outcome", "failed").GetHistogram().GetSampleCount())
		require.EqualValues(t, 1, one(t, calls, "kind", "AppendEntries", "pipelined", "true").GetHistogram().GetSampleCount())
		preVote := one(t, calls, "kind", "RequestPreVote").GetHistogram()
		require.InDelta(t, (2*metricstest.Latency + metricstest.CoreTakes).Seconds(), preVote.GetSampleSum(), 1e-6, "there and back on an idle connection")

		require.EqualValues(t, 3, one(t, after["raftwire_call_entries"], "node", "leader").GetHistogram().GetSampleSum())
		snapshot := one(t, after["raftwire_call_request_size_bytes"], "kind", "InstallSnapshot").GetHistogram()
		require.Greater(t, snapshot.GetSampleSum(), float64(metricstest.SnapshotSize))

		served := after["raftwire_serve_phase_duration_seconds"]
		require.EqualValues(t, 2, one(t, served, "node", "follower", "kind", "AppendEntries", "phase", "handle").GetHistogram().GetSampleCount())
		handled := one(t, served, "kind", "TimeoutNow", "phase", "handle").GetHistogram()
		require.InDelta(t, metricstest.CoreTakes.Seconds(), handled.GetSampleSum(), 1e-6)
		require.EqualValues(t, 1, one(t, after["raftwire_serve_errors_total"], "kind", "RequestVote").GetCounter().GetValue())
		require.EqualValues(t, 1, one(t, after["raftwire_connections_refused_total"], "node", "follower", "reason", "Foreign").GetCounter().GetValue())
		require.Zero(t, one(t, after["raftwire_connections_refused_total"], "node", "follower", "reason", "Stalled").GetCounter().GetValue())

		for _, direction := range []string{"inbound", "outbound"} {
			done := one(t, during["raftwire_snapshot_done_bytes"], "direction", direction).GetGauge().GetValue()
			require.Positive(t, done)
			require.LessOrEqual(t, done, metricstest.SnapshotSize/2.0)
			require.EqualValues(t, metricstest.SnapshotSize, one(t, during["raftwire_snapshot_size_bytes"], "direction", direction).GetGauge().GetValue())
		}
		require.NotContains(t, after, "raftwire_snapshot_done_bytes", "what is over is not shown")

		require.EqualValues(t, 2, one(t, during["raftwire_peer_requests_in_flight"], "peer", "follower").GetGauge().GetValue(), "the snapshot, and one on the pipeline")
		require.EqualValues(t, 1, one(t, during["raftwire_peer_pipeline_unconsumed"], "peer", "follower").GetGauge().GetValue())
		require.Greater(t, one(t, during["raftwire_peer_pipeline_oldest_seconds"], "peer", "follower").GetGauge().GetValue(), 1.0)
		sent := one(t, after["raftwire_peer_sent_bytes_total"], "peer", "follower").GetCounter().GetValue()
		received := one(t, after["raftwire_inbound_received_bytes_total"], "node", "follower").GetCounter().GetValue()
		require.InDelta(t, sent, received, float64(len(metricstest.Foreign)), "but for what the stranger sent")

		for i, renewed := range []float64{0, metricstest.Day, metricstest.Day} {
			for _, node := range []string{"leader", "follower"} {
				require.Equal(t, metricstest.CertificateExpiry+renewed, one(t, scrapes[i]["raftwire_tls_certificate_expiry_timestamp_seconds"], "node", node).GetGauge().GetValue())
				require.Equal(t, metricstest.CertificateExpiry+metricstest.Day+renewed, one(t, scrapes[i]["raftwire_tls_ca_expiry_timestamp_seconds"], "node", node).GetGauge().GetValue())
			}
		}
	})
}

// Names and units follow Prometheus' conventions.
func TestNamesFollowTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []*dto.MetricFamily
		for _, scrape := range newWatched(t).story(t) {
			for _, f := range scrape {
				all = append(all, f)
			}
		}
		problems, err := promlint.NewWithMetricFamilies(all).Lint()
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}

func TestARegistryTakesTheMetricsOnceUnlessLabelsDiffer(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, err := New(reg, Options{})
	require.NoError(t, err)
	hooks, err := New(reg, Options{})
	var already prometheus.AlreadyRegisteredError
	require.ErrorAs(t, err, &already)
	require.ErrorContains(t, err, "raftwireprom: this registerer has these metrics already: share the hooks, or wrap it with prometheus.WrapRegistererWith: ")
	require.Zero(t, hooks)
	_, err = New(prometheus.WrapRegistererWith(prometheus.Labels{"group": "7"}, prometheus.NewRegistry()), Options{})
	require.NoError(t, err)
}

func TestARegistererIsRequired(t *testing.T) {
	hooks, err := New(nil, Options{})
	require.ErrorContains(t, err, "raftwireprom: the registerer is nil: use prometheus.DefaultRegisterer")
	require.Zero(t, hooks)
}

func TestPeers_CanBeOmitted(t *testing.T) {
	stats := statsFunc(func() raftwire.Stats {
		return raftwire.Stats{Peers: []raftwire.PeerStats{{Peer: "a", Idle: 1, LastSuccess: time.Unix(1, 0)}, {Peer: "b", Idle: 2}}}
	})
	for omit, want := range map[bool]int{false: 2, true: 1} {
		reg := prometheus.NewRegistry()
		hooks, err := New(reg, Options{OmitPeers: omit})
		require.NoError(t, err)
		require.NoError(t, reg.Register(NewCollector(stats, Options{OmitPeers: omit})))
		for _, peer := range []raftwire.ServerAddress{"a", "b"} {
			hooks.CallDone(&raftwire.CallEvent{Kind: "TimeoutNow", Peer: peer})
			hooks.Dialed(raftwire.DialEvent{Peer: peer})
		}
		families, err := reg.Gather()
		require.NoError(t, err)
		seen := make(map[string]*dto.MetricFamily)
		for _, f := range families {
			seen[f.GetName()] = f
		}
		for _, name := range []string{"raftwire_call_duration_seconds", "raftwire_dial_duration_seconds", "raftwire_peer_pipelines", "raftwire_peer_sent_bytes_total"} {
			require.Len(t, seen[name].GetMetric(), want, "%s, OmitPeers %v", name, omit)
		}
		if omit {
			require.EqualValues(t, 3, one(t, seen["raftwire_peer_connections"], "state", "idle").GetGauge().GetValue())
		}
	}
}

// Each time of expiry is shown if it is known, also one that means never (RFC 5280).
func TestExpiry_IsShownOnlyWhereItIsKnown(t *testing.T) {
	never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for want, stats := range map[string]raftwire.Stats{
		"": {},
		"raftwire_tls_certificate_expiry_timestamp_seconds 253402300799": {CertificateExpires: never},
		"raftwire_tls_ca_expiry_timestamp_seconds 253402300799":          {CAExpires: never},
	} {
		reg := prometheus.NewRegistry()
		require.NoError(t, reg.Register(NewCollector(statsFunc(func() raftwire.Stats { return stats }), Options{})))
		families, err := reg.Gather()
		require.NoError(t, err)
		got := ""
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "raftwire_tls_") {
				got += fmt.Sprintf("%s %.0f", f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
			}
		}
		require.Equal(t, want, got)
	}
}

// Addresses and IDs that come and go leave a bounded number of series, and in the end
// those of the peers that are there.
func TestSeries_AreBoundedHoweverManyPeersCome(t *testing.T) {
	const come = 100_000
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		hooks, err := New(reg, Options{})
		require.NoError(t, err)
		var stats raftwire.Stats
		require.NoError(t, reg.Register(NewCollector(statsFunc(func() raftwire.Stats { return stats }), Options{})))
		talk := func(id raftwire.ServerID, peer raftwire.ServerAddress) {
			conn := raftwire.ConnEvent{ID: id, Peer: peer}
			hooks.Dialed(raftwire.DialEvent{ID: id, Peer: peer})
			hooks.ConnOpened(conn)
			hooks.CallDone(&raftwire.CallEvent{Kind: "RequestVote", ID: id, Peer: peer})
			hooks.CallDone(&raftwire.CallEvent{Kind: "RequestVote", ID: id, Peer: peer, Err: io.EOF})
			hooks.ConnClosed(conn)
		}
		member := raftwire.PeerStats{ID: "member", Peer: "member:1", Idle: 1}
		talk("member", "member:1")
		stats.Peers = []raftwire.PeerStats{member}
		alone := series(t, reg)

		before := heap()
		for i := range come {
			peer := raftwire.ServerAddress(fmt.Sprintf("10.%d.%d.%d:8300", i>>16, i>>8&255, i&255))
			talk(raftwire.ServerID(fmt.Sprint("n", i)), peer) // a new server
			talk("", peer)                                    // a core without IDs
			talk("member", peer)                              // the same server at a new address
			stats.Peers = append(stats.Peers[:1], raftwire.PeerStats{Peer: peer, Idle: 1, BytesIn: uint64(i)})
			if i%1000 == 0 {
				require.LessOrEqual(t, series(t, reg), alone+256*(3+10))
			}
		}
		require.Less(t, heap()-before, 4<<20)

		stats.Peers = stats.Peers[:1]
		for range 3 {
			<-time.NewTimer(time.Hour).C
			talk("member", "member:1")
			series(t, reg)
		}
		require.Equal(t, alone, series(t, reg))
	})
}

type statsFunc func() raftwire.Stats

func (f statsFunc) Stats() raftwire.Stats { return f() }

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The address that an inbound connection comes from has a new port each time.
func TestStrangersAddNoSeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	hooks, err := New(reg, Options{})
	require.NoError(t, err)
	visit := func(peer raftwire.ServerAddress, host string) {
		conn := raftwire.ConnEvent{Peer: peer, Host: host, Inbound: true, Err: io.EOF}
		hooks.ConnOpened(conn)
		hooks.ServeDone(&raftwire.ServeEvent{Kind: "InstallSnapshot", Peer: peer, Host: host})
		hooks.SnapshotProgress(raftwire.SnapshotEvent{Peer: peer, Inbound: true})
		hooks.SnapshotProgress(raftwire.SnapshotEvent{Peer: peer, Inbound: true, Over: true})
		hooks.Refused(raftwire.RefusalEvent{Reason: "Foreign", Peer: peer, Host: host})
		hooks.ConnClosed(conn)
	}
	visit("10.0.0.1:1", "10.0.0.1")
	before := series(t, reg)
	visit("10.0.0.2:2", "10.0.0.2")
	require.Equal(t, before, series(t, reg))
}

func TestTheBusyHooksAllocateNothing(t *testing.T) {
	hooks, err := New(prometheus.NewRegistry(), Options{})
	require.NoError(t, err)
	call := raftwire.CallEvent{Kind: "AppendEntries", Pipelined: true, Peer: "peer:1", RequestBytes: 300, Entries: 1}
	require.Zero(t, testing.AllocsPerRun(100, func() { hooks.CallDone(&call) }))
	serve := raftwire.ServeEvent{Kind: "AppendEntries", Peer: "peer:1", RequestBytes: 300}
	require.Zero(t, testing.AllocsPerRun(100, func() { hooks.ServeDone(&serve) }))
}

func BenchmarkHooks(b *testing.B) {
	hooks, err := New(prometheus.NewRegistry(), Options{})
	require.NoError(b, err)
	call := raftwire.CallEvent{Kind: "AppendEntries", Pipelined: true, Peer: "10.0.0.1:8300", RequestBytes: 300, Entries: 1, Took: time.Millisecond}
	serve := raftwire.ServeEvent{Kind: "AppendEntries", Peer: "10.0.0.1:8300", RequestBytes: 300, Handle: time.Millisecond}
	b.Run("CallDone", func(b *testing.B) {
		for b.Loop() {
			hooks.CallDone(&call)
		}
	})
	b.Run("ServeDone", func(b *testing.B) {
		for b.Loop() {
			hooks.ServeDone(&serve)
		}
	})
}

// watched is a pair of nodes, and a server with the metrics of both.
type watched struct {
	*metricstest.Pair
	registry *prometheus.Registry
	get      func() string
}

func newWatched(t *testing.T) *watched {
	w := &watched{registry: prometheus.NewRegistry()}
	w.Pair = metricstest.NewPair(t, func(node string) raftwire.Hooks {
		hooks, err := New(w.labelled(node), Options{})
		require.NoError(t, err)
		return hooks
	})
	require.NoError(t, w.labelled("leader").Register(NewCollector(w.Leader, Options{})))
	require.NoError(t, w.labelled("follower").Register(NewCollector(w.Follower, Options{})))
	w.get = w.ServeMetrics(t, promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	return w
}

func (w *watched) labelled(node string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"node": node}, w.registry)
}

// families is a scrape, by the names of metrics.
type families map[string]*dto.MetricFamily

// story lets everything happen that a metric is about, and returns what was
// seen before, in the middle, and after.
func (w *watched) story(t *testing.T) (scrapes []families) {
	w.Story(t, func() { scrapes = append(scrapes, w.scrape(t)) })
	return scrapes
}

func (w *watched) scrape(t *testing.T) families {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	found, err := parser.TextToMetricFamilies(strings.NewReader(w.get()))
	require.NoError(t, err)
	return found
}

// one returns the only series that has the labels, given as names and values.
func one(t *testing.T, f *dto.MetricFamily, labels ...string) *dto.Metric {
	t.Helper()
	var found []*dto.Metric
	for _, m := range f.GetMetric() {
		if hasLabels(m, labels) {
			found = append(found, m)
		}
	}
	require.Len(t, found, 1, "%s %v: %v", f.GetName(), labels, found)
	return found[0]
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == pair[0] && l.GetValue() == pair[1] }) {
			return false
		}
	}
	return true
}

// series counts what a registry would show.
func series(t *testing.T, reg *prometheus.Registry) (n int) {
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		n += len(f.GetMetric())
	}
	return n
}

var metricName = regexp.MustCompile(`\braftwire_[a-z_]+\b`)

// namesIn returns the metrics that a file names.
func namesIn(t *testing.T, file string) []string {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	names := metricName.FindAllString(string(text), -1)
	slices.Sort(names)
	return slices.Compact(names)
}
