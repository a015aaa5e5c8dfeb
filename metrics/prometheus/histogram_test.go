package prometheus

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/raftwire/raftwire/metrics/labels"
	"github.com/stretchr/testify/require"
)

// What is shown is what client_golang's own histograms show.
func TestHistogramsAreThoseOfTheLibrary(t *testing.T) {
	for name, c := range map[string]struct {
		bounds  []float64
		unit    float64
		highest int64
	}{
		"seconds": {labels.LatencyBuckets, 1e-9, int64(20 * time.Second)},
		"bytes":   {labels.SizeBuckets, 1, 100 << 20},
		"entries": {labels.EntryBuckets, 1, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			opts := prometheus.HistogramOpts{Name: name, Help: "About it.", Buckets: c.bounds}
			theirs := prometheus.NewHistogramVec(opts, []string{"kind"})
			ours := newHistograms(prometheus.NewDesc(name, "About it.", []string{"kind"}, nil), c.bounds, c.unit)
			observe := func(kind string, v int64) {
				theirs.WithLabelValues(kind).Observe(float64(v) * c.unit)
				ours.with(kind).observe(v)
			}
			observe("a", 0)
			for _, bound := range ours.bounds {
				observe("a", bound-1)
				observe("b", bound+1)
				// What is just on a bound, in ns, a floating-point number may miss.
				theirs.WithLabelValues("b").Observe(c.bounds[0])
				ours.with("b").observe(ours.bounds[0])
			}
			for range 1000 {
				observe("a", random.Int64N(c.highest))
			}
			want, got := gather(t, theirs), gather(t, ours)
			require.Len(t, got, 2)
			for i := range want {
				require.InDelta(t, want[i].GetHistogram().GetSampleSum(), got[i].GetHistogram().GetSampleSum(), 1e-6)
				want[i].Histogram.SampleSum, want[i].Histogram.CreatedTimestamp = got[i].Histogram.SampleSum, nil
				require.Equal(t, want[i].String(), got[i].String())
			}
		})
	}
}

func TestHistogramsMissNothing(t *testing.T) {
	h := newHistograms(prometheus.NewDesc("h", "", []string{"kind"}, nil), labels.SizeBuckets, 1)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 1000 {
				h.with("a").observe(int64(i))
			}
		})
	}
	all.Wait()
	require.Len(t, h.known, 1)
	require.EqualValues(t, 4*499500, h.known[0].cells[0].Load())
}

// gather returns what a collector shows, in order.
func gather(t *testing.T, c prometheus.Collector) []*dto.Metric {
	reg := prometheus.NewRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	return families[0].GetMetric()
}
