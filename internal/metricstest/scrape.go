package metricstest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/raftwire/raftwire/internal/scrape"
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

// ParseSeries reads what was fetched.
func ParseSeries(t *testing.T, text string) scrape.Series {
	series, err := scrape.Parse(text)
	require.NoError(t, err)
	return series
}
