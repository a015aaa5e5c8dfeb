package metricstest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ServeMetrics serves metrics over HTTP on the pair's network, so that time
// stays fake, and returns what fetches them.
func (p *Pair) ServeMetrics(t *testing.T, metrics http.Handler) (get func() string) {
	server := httptest.NewUnstartedServer(metrics)
	require.NoError(t, server.Listener.Close())
	server.Listener = p.Listen(t, "metrics")
	server.Start()
	t.Cleanup(server.Close)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.Network.Host("scraper").Dial(ctx, "metrics")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return func() string {
		response, err := client.Get("http://metrics/metrics")
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(text)
	}
}

// Series is what a scrape in Prometheus' text format says: the value of each
// series, by its name with its labels.
type Series map[string]float64

// ParseSeries reads a scrape.
func ParseSeries(t *testing.T, scrape string) Series {
	series := make(Series)
	lines := bufio.NewScanner(strings.NewReader(scrape))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		require.NoError(t, err, line)
		series[line[:at]] = value
	}
	require.NoError(t, lines.Err())
	return series
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
