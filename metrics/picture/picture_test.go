package main

import (
	"bytes"
	"fmt"
	"image/png"
	"testing"

	"github.com/raftwire/raftwire/internal/scrape"
	"github.com/stretchr/testify/require"
)

// recorded is a record of two nodes: what one shows grows by ten a second, and
// the other is away for a while and has begun anew then.
func recorded() *record {
	r := &record{nodes: []*node{{name: "a"}, {name: "b"}}, events: []event{{4, "b is killed"}, {7, "b is started again"}}}
	for second := range 12 {
		count := func(begun int) scrape.Series {
			n := float64(10 * (second - begun))
			bucket := func(le string) string { return fmt.Sprintf(`%s_bucket{%s,outcome="ok",le=%q}`, calls, appends, le) }
			return scrape.Series{
				callsCount + "{" + appends + "}":  n,
				bucket("0.001"):                   n / 2,
				bucket("0.01"):                    n,
				bucket("+Inf"):                    n,
				inboundOpen:                       3,
				refusals + `{reason="Foreign"}`:   n,
				refusals + `{reason="Malformed"}`: 1e6,
			}
		}
		l := look{at: float64(second), figures: []scrape.Series{count(0), count(0)}}
		switch {
		case second >= 7:
			l.figures[1] = count(7)
		case second >= 4:
			l.figures[1] = nil
		}
		r.looks = append(r.looks, l)
	}
	return r
}

func TestRatesAddUpTheNodesThatAnswered(t *testing.T) {
	points := recorded().rate(callsCount, appends)
	require.Len(t, points, 11)
	for _, p := range points {
		want := 20.0
		if p.at >= 4 && p.at <= 7 { // a rate needs two scrapes
			want = 10
		}
		require.Equal(t, point{p.at, want}, p)
	}
}

func TestP99IsOfAllNodes(t *testing.T) {
	points := recorded().p99(appends, `outcome="ok"`)
	require.Len(t, points, 7)
	for _, p := range points {
		require.InDelta(t, 1+9*0.98, p.value, 1e-9)
	}
	require.Empty(t, recorded().p99(heartbeats))
}

func TestAPictureIsDrawn(t *testing.T) {
	r := recorded()
	panels := panelsOf(r)
	require.Len(t, panels, 4)
	require.Len(t, panels[2].lines, 2, "a line for each node")
	require.Len(t, pieces(panels[2].lines[1].points, false), 2, "a gap where it did not answer")

	var out bytes.Buffer
	require.NoError(t, drawPicture(&out, panels, r.events))
	image, err := png.Decode(&out)
	require.NoError(t, err)
	require.Greater(t, image.Bounds().Dx(), 1000)
}
