package prometheus

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// histograms are shown as a HistogramVec of client_golang is. An observation
// costs two additions of integers, where that one keeps count, sum and buckets
// in step with each other while they are collected: here every request is
// observed several times, and a scrape may have half of one.
type histograms struct {
	desc   *prometheus.Desc
	shown  []float64 // upper bounds of buckets
	bounds []int64   // the same in the unit of observations
	unit   float64   // what 1 of that is when it is shown

	mu    sync.Mutex   // protects following
	known []*histogram // those of with: a few, which stay
}

// histogram is one of them.
type histogram struct {
	of     *histograms
	labels []string
	cells  []atomic.Int64 // the sum; then counts for each bucket, and for what is above all bounds
}

// cacheLine is how many cells share a line of the processor's cache. Histograms
// share none: different goroutines write them.
const cacheLine = 8

func newHistograms(desc *prometheus.Desc, bounds []float64, unit float64) *histograms {
	h := &histograms{desc: desc, shown: bounds, unit: unit}
	for _, bound := range bounds {
		h.bounds = append(h.bounds, int64(math.Round(bound/unit)))
	}
	return h
}

// with returns the histogram with these values of the labels, and shows it from now
// on.
func (h *histograms) with(labels ...string) *histogram {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, known := range h.known {
		if slices.Equal(known.labels, labels) {
			return known
		}
	}
	made := h.make(labels...)
	h.known = append(h.known, made)
	return made
}

// make makes a histogram that the caller keeps and shows.
func (h *histograms) make(labels ...string) *histogram {
	n := len(h.bounds) + 2
	return &histogram{of: h, labels: labels, cells: make([]atomic.Int64, n, (n+cacheLine-1)/cacheLine*cacheLine)}
}

func (h *histogram) observe(v int64) {
	bucket := 0
	for bucket < len(h.of.bounds) && v > h.of.bounds[bucket] {
		bucket++
	}
	h.cells[1+bucket].Add(1)
	if v != 0 { // as the decoding of small requests is
		h.cells[0].Add(v)
	}
}

// Describe implements [prometheus.Collector].
func (h *histograms) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- h.desc }

// Collect implements [prometheus.Collector].
func (h *histograms) Collect(metrics chan<- prometheus.Metric) {
	h.mu.Lock()
	known := slices.Clone(h.known)
	h.mu.Unlock()
	for _, one := range known {
		metrics <- one.metric()
	}
}

func (h *histogram) metric() prometheus.Metric {
	buckets, count := make(map[float64]uint64), uint64(0)
	for i, bound := range h.of.shown {
		count += uint64(h.cells[1+i].Load())
		buckets[bound] = count
	}
	count += uint64(h.cells[len(h.cells)-1].Load())
	return prometheus.MustNewConstHistogram(h.of.desc, count, float64(h.cells[0].Load())*h.of.unit, buckets, h.labels...)
}
