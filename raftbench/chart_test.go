package main

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// chartReport has a pipeline with its floor besides the sample.
func chartReport() *Report {
	r := sampleReport()
	piped := cell{workload{64, 1 << 10}, 16, 1}
	r.add(piped, rival{name: nameHashicorp}, sampleFigures(7000))
	r.add(piped, rival{name: nameRaftwire}, sampleFigures(21000))
	r.add(cell{workload{1, 128}, oneByOne, 4}, rival{name: nameRaftwire}, sampleFigures(9000))
	r.summarize()
	return r
}

func TestChartHasAPanelForEachLane(t *testing.T) {
	panels := chartPanels(chartReport())
	require.Len(t, panels, 3)
	require.Equal(t, &panel{
		title:     "sync: one call at a time",
		workloads: []string{"1x128"},
		rates:     [seriesCount][]float64{{0}, {2000}, {4500}},
		ratios:    []string{"3.2x"},
	}, panels[0])
	require.Equal(t, &panel{
		title:     "pipeline, 16 in flight",
		workloads: []string{"64x1K"},
		rates:     [seriesCount][]float64{{1e6}, {7000}, {21000}},
		ratios:    []string{"3.0x"},
	}, panels[1])
	require.Equal(t, "sync: one call at a time, to each of 4 followers", panels[2].title)
	require.Equal(t, []string{""}, panels[2].ratios)
}

func TestChartLabelsAreIntervals(t *testing.T) {
	require.Equal(t, "1.3x", narrowLabel(Quotient{Median: 1.3}))
	require.Equal(t, "0.6-1.6", narrowLabel(Quotient{Median: 1.25, Interval: []float64{0.648, 1.61}}))
}

func TestChartIsDrawnFromSavedFigures(t *testing.T) {
	figures := writeSample(t, chartReport())
	svg, image := filepath.Join(t.TempDir(), "c.svg"), filepath.Join(t.TempDir(), "c.png")
	require.NoError(t, dispatch(t.Context(), []string{"chart", figures, "-o", svg, "-o", image}, io.Discard))
	require.NoError(t, dispatch(t.Context(), []string{"chart", "-o", svg, figures}, io.Discard))

	drawn, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(drawn, new(struct{})))
	for _, text := range []string{"Some CPU", "raftwire", "TCP alone", "64x1K", "3.0x", ">1M<", "sans-serif"} {
		require.Contains(t, string(drawn), text)
	}
	pixels, err := os.ReadFile(image)
	require.NoError(t, err)
	_, err = png.Decode(bytes.NewReader(pixels))
	require.NoError(t, err)
}

func TestChartShowsWhatThereIs(t *testing.T) {
	require.Equal(t, []int{floorSeries, peerSeries, ourSeries}, seriesIn(chartPanels(chartReport())))
	r := chartReport()
	r.Results = r.Results[:2] // without the stream
	require.Equal(t, []int{peerSeries, ourSeries}, seriesIn(chartPanels(r)))
}

func TestDecadesHoldAllRates(t *testing.T) {
	low, high := decades([]*panel{{rates: [seriesCount][]float64{{0}, {1700}, {70_000}}}})
	require.InEpsilon(t, 1000, low, 1e-9)
	require.InEpsilon(t, 1_000_000, high, 1e-9)
	require.Len(t, decadeTicks{}.Ticks(low, high), 4+3*8)
	require.Equal(t, []string{"100", "10k", "1M"}, []string{rateLabel(100), rateLabel(1e4), rateLabel(1e6)})
}

func TestChartErrorsSayWhatToDo(t *testing.T) {
	full, plain := writeSample(t, chartReport()), writeSample(t, plainReport())
	for want, args := range map[string][]string{
		"chart needs":          {},
		"and -o":               {full},
		"missing.json":         {"missing.json", "-o", "c.svg"},
		"not a report":         {"chart_test.go", "-o", "c.svg"},
		"end in .svg or .png":  {full, "-o", "c.gif"},
		"no figure of a trans": {plain, "-o", "c.svg"},
	} {
		require.ErrorContains(t, chart(t.Context(), args, io.Discard), want)
	}
	_, err := parseOptions([]string{"-chart", "c.pdf"}, io.Discard)
	require.ErrorContains(t, err, "end in .svg or .png")
}
