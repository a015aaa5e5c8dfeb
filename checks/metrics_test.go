package checks

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

var promql = parser.NewParser(parser.Options{})

func TestDashboard_IsWhatGrafanaReads(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("../metrics/prometheus/dashboard.json")
	require.NoError(t, err)
	require.Empty(t, strictly(text))
	broken := bytes.Replace(text, []byte(`"calcs": []`), []byte(`"calcsX": []`), 1)
	require.Contains(t, strictly(broken), "calcs", "the check looks into panels")
}

// strictly returns what the SDK says against a dashboard. It returns an empty list of
// errors for one that it has nothing against, which is not a nil error.
func strictly(text []byte) string {
	var d dashboard.Dashboard //lint:ignore SA1019 what Grafana's provisioning reads from files is of this version
	var errs cog.BuildErrors
	err := d.UnmarshalJSONStrict(text)
	if err == nil || errors.As(err, &errs) && len(errs) == 0 {
		return ""
	}
	return "not read: " + err.Error()
}

// Each query is one that Prometheus understands, once Grafana has filled in its
// variables.
func TestDashboard_AsksWhatPrometheusUnderstands(t *testing.T) {
	text, err := os.ReadFile("../metrics/prometheus/dashboard.json")
	require.NoError(t, err)
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(text, &d))
	queries := 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			_, err := promql.ParseExpr(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			require.NoError(t, err, target.Expr)
			queries++
		}
	}
	require.GreaterOrEqual(t, queries, 22)
}

const rulesFile = "../metrics/prometheus/rules.yml"

func TestRules_AreWhatPrometheusReads(t *testing.T) {
	rules := readRules(t)
	var alerts []string
	for _, rule := range rules {
		alerts = append(alerts, rule.Alert)
		require.NotEmpty(t, rule.Annotations["summary"])
	}
	require.Equal(t, []string{"RaftwirePeerUnreachable", "RaftwireConnectionsRefused", "RaftwireSnapshotStalled", "RaftwireCertificateExpires", "RaftwireCAExpires"}, alerts)
}

func readRules(t *testing.T) []rulefmt.Rule {
	groups, errs := rulefmt.ParseFile(rulesFile, false, model.LegacyValidation, promql, slog.Default())
	require.Empty(t, errs)
	return groups.Groups[0].Rules
}
