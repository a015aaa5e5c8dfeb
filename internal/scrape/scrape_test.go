package scrape

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

const text = `# HELP calls How many.
# TYPE calls counter
calls{kind="a",peer="x"} 3
calls{kind="a",peer="y"} 4
calls{kind="b",peer="x"} 10
calls_lost 1
took_bucket{kind="a",le="0.1"} 50
took_bucket{kind="a",le="1"} 90
took_bucket{kind="a",le="+Inf"} 100
took_sum{kind="a"} 12.5
took_count{kind="a"} 100
`

func parse(t *testing.T, text string) Series {
	series, err := Parse(text)
	require.NoError(t, err)
	return series
}

func TestSum(t *testing.T) {
	s := parse(t, text)
	require.Len(t, s, 9)
	require.Equal(t, 17.0, s.Sum("calls"))
	require.Equal(t, 7.0, s.Sum("calls", `kind="a"`))
	require.Equal(t, 3.0, s.Sum("calls", `kind="a"`, `peer="x"`))
	require.Equal(t, 1.0, s.Sum("calls_lost"))
	require.Zero(t, s.Sum("call"))
}

func TestQuantileIsPrometheusEstimate(t *testing.T) {
	s := parse(t, text)
	require.InDelta(t, 0.05, s.Quantile(0.25, "took"), 1e-9)
	require.InDelta(t, 0.1, s.Quantile(0.5, "took"), 1e-9)
	require.InDelta(t, 0.55, s.Quantile(0.7, "took", `kind="a"`), 1e-9)
	require.InDelta(t, 1, s.Quantile(0.99, "took"), 1e-9, "the last bound that there is")
	require.True(t, math.IsNaN(s.Quantile(0.5, "took", `kind="b"`)))
}

func TestSinceKnowsARestart(t *testing.T) {
	later := Series{"grown": 5, "new": 2, "restarted": 1}
	require.Equal(t, Series{"grown": 2, "new": 2, "restarted": 1}, later.Since(Series{"grown": 3, "restarted": 7}))
}

func TestMoved(t *testing.T) {
	before, after := parse(t, text), parse(t, text)
	require.Empty(t, Moved(before, after))
	after[`calls{kind="b",peer="x"}`]++
	after[`took_count{kind="a"}`]++
	delete(after, "calls_lost")
	require.Equal(t, []string{"calls", "calls_lost", "took"}, Moved(before, after))
}

func TestWhatIsNoScrapeIsAnError(t *testing.T) {
	for _, text := range []string{"calls\n", "calls x\n", "<html>"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}
