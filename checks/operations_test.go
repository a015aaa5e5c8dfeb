package checks

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	raftwireprom "github.com/raftwire/raftwire/metrics/prometheus"
	"github.com/stretchr/testify/require"
)

// docs/operations.md explains every metric, alert and log line, and no other.

const operations = "../docs/operations.md"

func TestOperations_ExplainsEachMetric(t *testing.T) {
	var all described
	_, err := raftwireprom.New(&all, raftwireprom.Options{})
	require.NoError(t, err)
	all.MustRegister(raftwireprom.NewCollector(nil, raftwireprom.Options{}))
	require.Greater(t, len(all), 20)

	explained := make(map[string]string)
	for _, row := range table(t, "## Metrics") {
		explained[code(row[0])] = row[1]
	}
	require.Equal(t, all.labels(), explained)
}

// described are the descriptions of collectors. It is a registerer.
type described []*prometheus.Desc

func (d *described) Register(c prometheus.Collector) error {
	descriptions := make(chan *prometheus.Desc, 100)
	c.Describe(descriptions)
	close(descriptions)
	for description := range descriptions {
		*d = append(*d, description)
	}
	return nil
}

func (d *described) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = d.Register(c)
	}
}

func (d *described) Unregister(prometheus.Collector) bool { return false }

var description = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)

// labels returns the labels of each metric, as the table has them.
func (d described) labels() map[string]string {
	labels := make(map[string]string)
	for _, one := range d {
		found := description.FindStringSubmatch(one.String())
		labels[found[1]] = strings.ReplaceAll(found[2], ",", ", ")
	}
	return labels
}

func TestOperations_SaysWhatToDoForEachAlert(t *testing.T) {
	var alerts []string
	for _, rule := range readRules(t) {
		alerts = append(alerts, rule.Alert)
	}
	var headings []string
	for line := range strings.Lines(section(t, "## Alerts")) {
		if heading, ok := strings.CutPrefix(line, "### "); ok {
			headings = append(headings, strings.TrimSpace(heading))
		}
	}
	require.Equal(t, alerts, headings)
}

func TestOperations_ExplainsEachRefusal(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, err := raftwireprom.New(reg, raftwireprom.Options{})
	require.NoError(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	var reasons, explained []string
	for _, family := range families {
		for _, series := range family.Metric {
			if family.GetName() == "raftwire_connections_refused_total" {
				reasons = append(reasons, series.Label[0].GetValue())
			}
		}
	}
	for _, row := range table(t, "### RaftwireConnectionsRefused") {
		explained = append(explained, code(row[0]))
	}
	require.NotEmpty(t, reasons)
	require.ElementsMatch(t, reasons, explained)
}

func TestOperations_ExplainsEachLogLine(t *testing.T) {
	explained := make(map[string]string)
	for _, row := range table(t, "## Log lines") {
		explained[code(row[0])] = row[1]
	}
	require.Equal(t, logLines(t), explained)
}

// logLines returns the level of each warning and error in the code of the library.
func logLines(t *testing.T) map[string]string {
	lines := make(map[string]string)
	for _, files := range packages(t) {
		r := &logReader{t: t, constants: make(map[string]string), helpers: make(map[string]string), lines: lines}
		for _, file := range files {
			r.learn(file)
		}
		for _, file := range files {
			r.read(file)
		}
	}
	return lines
}

// packages parses the root, layers and internal, but for helpers of tests and the
// logger, which only passes lines on. It returns the files of each folder.
func packages(t *testing.T) map[string][]*ast.File {
	const notLogging = "internal/slogger internal/logs internal/metricstest internal/testca internal/scrape internal/layout"
	all := make(map[string][]*ast.File)
	require.NoError(t, fs.WalkDir(os.DirFS(".."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		folder := path.Dir(name)
		switch {
		case entry.IsDir():
			if name != "." && name != "layers" && name != "internal" && !strings.HasPrefix(name, "internal/") {
				return fs.SkipDir
			}
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !slices.Contains(strings.Fields(notLogging), folder):
			file, err := parser.ParseFile(token.NewFileSet(), "../"+name, nil, 0)
			if err != nil {
				return err
			}
			all[folder] = append(all[folder], file)
		}
		return nil
	}))
	require.Contains(t, all, "internal/door")
	return all
}

// logReader reads the log lines of a package.
type logReader struct {
	t         *testing.T
	constants map[string]string // their text, by name
	helpers   map[string]string // the level of methods that log the text they are given
	lines     map[string]string // the level of each text
}

// learn finds constants, and methods such as log(text) that call Logger.Error(text).
func (r *logReader) learn(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, value := range n.Values {
				if text, ok := literal(value); ok && i < len(n.Names) {
					r.constants[n.Names[i].Name] = text
				}
			}
		case *ast.FuncDecl:
			if n.Type.Params.NumFields() == 0 || len(n.Type.Params.List[0].Names) == 0 {
				return true
			}
			first := n.Type.Params.List[0].Names[0].Name
			ast.Inspect(n, func(inner ast.Node) bool {
				if call, ok := inner.(*ast.CallExpr); ok {
					if level := levelOf(call); level != "" && lastName(call.Args[0]) == first {
						r.helpers[n.Name.Name] = level
					}
				}
				return true
			})
		}
		return true
	})
}

func (r *logReader) read(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			r.readCall(n)
		case *ast.ReturnStmt: // of what chooses text and level for a line
			for _, result := range n.Results {
				if level := ofHclog(result); level != "" {
					r.add(n.Results[0], level)
				}
			}
		}
		return true
	})
}

func (r *logReader) readCall(call *ast.CallExpr) {
	if level := levelOf(call); level != "" {
		r.add(call.Args[0], level)
		return
	}
	if level := r.helpers[lastName(call.Fun)]; level != "" && len(call.Args) > 0 {
		r.add(call.Args[0], level)
		return
	}
	for i, argument := range call.Args { // Limit.Log(logger, level, topic, text, ...)
		if level := ofHclog(argument); level != "" {
			require.Equal(r.t, "Log", lastName(call.Fun))
			r.add(call.Args[i+2], level)
		}
	}
}

// add adds a text, unless it is that of a helper, which is found where that is called.
func (r *logReader) add(text ast.Expr, level string) {
	if call, ok := text.(*ast.CallExpr); ok && lastName(call.Fun) == "Sprintf" {
		text = call.Args[0]
	}
	line, known := literal(text)
	if !known {
		line, known = r.constants[lastName(text)]
	}
	if !known {
		require.Equal(r.t, "text", lastName(text), "a log line has a text that this test cannot read")
		return
	}
	line = strings.ReplaceAll(line, "%q", `"..."`)
	require.Contains(r.t, []string{"", level}, r.lines[line], "two levels: %s", line)
	r.lines[line] = level
}

// levelOf returns the level of a call of a logger's Warn or Error.
func levelOf(call *ast.CallExpr) string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !strings.EqualFold(lastName(method.X), "logger") || len(call.Args) == 0 {
		return ""
	}
	return levels[method.Sel.Name]
}

var levels = map[string]string{"Warn": "WARN", "Error": "ERROR"}

// ofHclog returns the level of the expressions hclog.Warn and hclog.Error.
func ofHclog(e ast.Expr) string {
	if selector, ok := e.(*ast.SelectorExpr); ok && lastName(selector.X) == "hclog" {
		return levels[selector.Sel.Name]
	}
	return ""
}

func literal(e ast.Expr) (string, bool) {
	basic, ok := e.(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(basic.Value)
	return text, err == nil
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// section returns what follows a heading, up to the next of its rank or above.
func section(t *testing.T, heading string) string {
	_, after, found := strings.Cut(read(t, operations), "\n"+heading+"\n")
	require.True(t, found, heading)
	rank := strings.Count(heading, "#")
	for depth := range rank {
		after, _, _ = strings.Cut(after, "\n"+strings.Repeat("#", depth+1)+" ")
	}
	return after
}

// table returns the rows of the first table in a section.
func table(t *testing.T, heading string) (rows [][]string) {
	for line := range strings.Lines(section(t, heading)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "| \n"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	require.NotEmpty(t, rows)
	return rows
}

// code returns a cell without its backquotes.
func code(cell string) string { return strings.Trim(cell, "`") }
