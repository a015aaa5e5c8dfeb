package prometheus

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// dashboard is the part of Grafana's model that can be wrong unseen.
type dashboard struct {
	SchemaVersion int    `json:"schemaVersion"`
	Title         string `json:"title"`
	UID           string `json:"uid"`
	Templating    struct {
		List []struct {
			Name string `json:"name"`
			Type string `json:"type"`
		} `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int     `json:"id"`
	Type        string  `json:"type"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	GridPos     grid    `json:"gridPos"`
	Targets     []query `json:"targets"`
}

type query struct {
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

type grid struct{ X, Y, W, H int }

func (g grid) overlaps(o grid) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

// The dashboard asks for every metric that a scrape can have, by labels that it
// has, and for nothing else.
func TestTheDashboardShowsEveryMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := seen(newWatched(t).story(t))
		asked := make(map[string]bool)
		for _, q := range readDashboard(t).queries() {
			for _, name := range metricName.FindAllString(q.Expr, -1) {
				family, suffix := familyOf(known, name)
				require.NotNil(t, family, "%s in %s is in no scrape", name, q.Expr)
				require.Equal(t, family.GetType() == dto.MetricType_HISTOGRAM, suffix != "", "%s is a %s: %s", name, family.GetType(), q.Expr)
				require.Subset(t, append(labelsOf(family), "cluster", "job", "instance", "le"), q.labels(), "labels of %s: %v", name, q)
				asked[family.GetName()] = true
			}
		}
		require.Equal(t, slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(asked)))
	})
}

func TestTheDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	require.Equal(t, "raftwire", d.UID)
	require.NotEmpty(t, d.Title)
	require.GreaterOrEqual(t, d.SchemaVersion, 36)
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	require.Equal(t, []string{"datasource", "cluster", "job", "instance"}, variables)

	for i, p := range d.Panels {
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for _, other := range d.Panels[:i] {
			require.NotEqual(t, other.ID, p.ID, p.Title)
			require.False(t, p.GridPos.overlaps(other.GridPos), "%q lies over %q", p.Title, other.Title)
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.Contains(t, target.Expr, `{cluster=~"$cluster", job=~"$job", instance=~"$instance"`, p.Title)
			require.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"), target.Expr)
			require.NotEmpty(t, target.LegendFormat, p.Title)
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

func (d dashboard) queries() (all []query) {
	for _, p := range d.Panels {
		all = append(all, p.Targets...)
	}
	return all
}

var (
	matched = regexp.MustCompile(`\b([a-z]+)(?:=~|!~|!=|=)"`)
	grouped = regexp.MustCompile(`\bby \(([a-z, ]+)\)`)
	shown   = regexp.MustCompile(`\{\{([a-z]+)\}\}`)
)

// labels returns what the query selects by, groups by and shows.
func (q query) labels() (names []string) {
	for _, found := range slices.Concat(matched.FindAllStringSubmatch(q.Expr, -1), shown.FindAllStringSubmatch(q.LegendFormat, -1)) {
		names = append(names, found[1])
	}
	for _, found := range grouped.FindAllStringSubmatch(q.Expr, -1) {
		names = append(names, strings.Split(found[1], ", ")...)
	}
	return names
}

// seen returns every metric of the scrapes.
func seen(scrapes []families) families {
	all := make(families)
	for _, s := range scrapes {
		maps.Copy(all, s)
	}
	return all
}

// familyOf returns the metric that a series belongs to, and what the series of
// a histogram have at the end of their names.
func familyOf(known families, series string) (family *dto.MetricFamily, suffix string) {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if name, cut := strings.CutSuffix(series, suffix); cut && known[name] != nil {
			return known[name], suffix
		}
	}
	return known[series], ""
}

func labelsOf(family *dto.MetricFamily) (names []string) {
	for _, l := range family.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	return names
}
