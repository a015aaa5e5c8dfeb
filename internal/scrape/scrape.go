// Package scrape reads what a program shows to Prometheus: as much of the text
// format as this module's metrics need.
package scrape

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Series is a scrape: the value of each series, by its name with its labels, as
// in `name{kind="Heartbeat"}`.
type Series map[string]float64

// Parse reads a scrape.
func Parse(text string) (Series, error) {
	series := make(Series)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if at < 0 || err != nil {
			return nil, fmt.Errorf("%q is no series with its value", line)
		}
		series[line[:at]] = value
	}
	return series, nil
}

// Moved returns the metrics of which some series has not the same value in all
// scrapes; one that is not there is 0.
func Moved(scrapes ...Series) (names []string) {
	for _, s := range scrapes {
		for series, value := range s {
			if slices.ContainsFunc(scrapes, func(other Series) bool { return other[series] != value }) {
				names = append(names, metricOf(series))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// metricOf returns the metric that a series belongs to: a histogram has
// several, and so has a summary.
func metricOf(series string) string {
	name, _, _ := strings.Cut(series, "{")
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if metric, cut := strings.CutSuffix(name, suffix); cut {
			return metric
		}
	}
	return name
}

// Sum adds up the series called name that have all of the labels, each given as
// `name="value"`.
func (s Series) Sum(name string, labels ...string) (sum float64) {
	for series, value := range s {
		if matches(series, name, labels) {
			sum += value
		}
	}
	return sum
}

func matches(series, name string, labels []string) bool {
	rest, ok := strings.CutPrefix(series, name)
	if !ok || rest != "" && rest[0] != '{' {
		return false
	}
	return !slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(rest, label) })
}

// Since returns by how much the series have grown since an earlier scrape of
// the same program. One that has shrunk was begun anew meanwhile.
func (s Series) Since(earlier Series) Series {
	grown := make(Series)
	for series, value := range s {
		if before := earlier[series]; before <= value {
			value -= before
		}
		grown[series] = value
	}
	return grown
}

// Quantile returns a quantile of the observations in the histograms called name
// that have all of the labels, as Prometheus estimates it; NaN if there are none.
func (s Series) Quantile(q float64, name string, labels ...string) float64 {
	cumulated := make(map[float64]float64)
	for series, count := range s {
		if matches(series, name+"_bucket", labels) {
			cumulated[boundOf(series)] += count
		}
	}
	return quantile(q, cumulated)
}

// boundOf returns the upper bound of a bucket.
func boundOf(series string) float64 {
	_, rest, _ := strings.Cut(series, `le="`)
	text, _, _ := strings.Cut(rest, `"`)
	bound, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.Inf(1)
	}
	return bound
}

// quantile takes counts up to each bound, +Inf among them.
func quantile(q float64, cumulated map[float64]float64) float64 {
	rank := q * cumulated[math.Inf(1)]
	if rank == 0 {
		return math.NaN()
	}
	low, below := 0.0, 0.0
	for _, bucket := range ordered(cumulated) {
		switch {
		case bucket.count < rank:
			low, below = bucket.bound, bucket.count
		case math.IsInf(bucket.bound, 1):
			return low
		default:
			return low + (bucket.bound-low)*(rank-below)/(bucket.count-below)
		}
	}
	return low
}

type bucket struct{ bound, count float64 }

func ordered(cumulated map[float64]float64) (buckets []bucket) {
	for bound, count := range cumulated {
		buckets = append(buckets, bucket{bound, count})
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.bound, b.bound) })
	return buckets
}
