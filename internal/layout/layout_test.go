package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxKnot is how many files of a package may reach each other. A reader who
// opens one of them may have to read all.
const maxKnot = 5

// knotted are packages that have larger knots still, with the size that they
// must not exceed. A package leaves this list when it is untied.
var knotted = map[string]int{}

// maxLines is how many lines with code a file may have.
const maxLines = 450

// long are files that may have more: codec.go and reader.go are tables for the
// most part, the others are to be divided.
var long = []string{"codec.go", "reader.go"}

// maxRootLines is how many lines with code the root package may have.
const maxRootLines = 5_660

const root = "github.com/raftwire/raftwire"

func TestLayout_NoMoreThanFiveFilesReachEachOther(t *testing.T) {
	for _, p := range checked(t) {
		limit := max(maxKnot, knotted[p.ImportPath])
		for _, knot := range knots(uses(t, p)) {
			if len(knot) > limit {
				t.Errorf("%s: %d files reach each other, more than %d: %s", p.ImportPath, len(knot), limit, strings.Join(knot, " "))
			}
		}
	}
}

func TestLayout_FilesAndTheRootStayShort(t *testing.T) {
	for _, p := range checked(t) {
		total := 0
		for _, name := range p.GoFiles {
			lines := codeLines(t, filepath.Join(p.Dir, name))
			total += lines
			if lines > maxLines && !slices.Contains(long, name) {
				t.Errorf("%s of %s has %d lines with code, more than %d", name, p.ImportPath, lines, maxLines)
			}
		}
		t.Logf("%s: %d lines with code in %d files", p.ImportPath, total, len(p.GoFiles))
		if p.ImportPath == root && total > maxRootLines {
			t.Errorf("the root has %d lines with code, more than %d", total, maxRootLines)
		}
	}
}

// checked returns the packages that are checked: those that a running transport
// consists of. faultnet and transporttest are for tests.
func checked(t *testing.T) (packages []*listed) {
	for _, p := range list(t, root+"/...") {
		testing := p.ImportPath == root+"/faultnet" || p.ImportPath == root+"/transporttest"
		if !p.DepOnly && len(p.GoFiles) > 0 && !testing {
			packages = append(packages, p)
		}
	}
	return packages
}

// codeLines counts the lines of a file that hold a token; comments are none.
func codeLines(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	files := token.NewFileSet()
	added := files.AddFile(file, -1, len(text))
	var s scanner.Scanner
	s.Init(added, text, nil, 0)
	lines := make(map[int]bool)
	for {
		pos, kind, literal := s.Scan()
		if kind == token.EOF {
			return len(lines)
		}
		if kind == token.SEMICOLON && literal == "\n" {
			continue // the scanner's own
		}
		first := added.Line(pos)
		for i := range strings.Count(literal, "\n") + 1 { // a raw string
			lines[first+i] = true
		}
	}
}

func TestKnots_AreFilesThatReachEachOther(t *testing.T) {
	graph := map[string][]string{
		"a.go": {"b.go"}, "b.go": {"c.go"}, "c.go": {"a.go", "d.go"}, "d.go": {"e.go"}, "e.go": nil,
	}
	require.Equal(t, [][]string{{"a.go", "b.go", "c.go"}, {"d.go"}, {"e.go"}}, knots(graph))
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
	ImportMap               map[string]string

	exports map[string]string // of all packages listed
}

// list returns the packages that match a pattern, and those that they import.
func list(t *testing.T, pattern string) (packages []*listed) {
	t.Helper()
	command := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly,ImportMap", pattern)
	command.Env = append(os.Environ(), "GOWORK=off")
	command.Stderr = os.Stderr
	output, err := command.Output()
	require.NoError(t, err)
	exports := make(map[string]string)
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		p := &listed{exports: exports}
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		packages = append(packages, p)
	}
}

// uses returns, for each file of a package, the files of it that declare a name,
// field or method which the file uses.
func uses(t *testing.T, p *listed) map[string][]string {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, 0)
		require.NoError(t, err)
		parsed = append(parsed, file)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	config := types.Config{Importer: importer.ForCompiler(files, "gc", p.open)}
	checked, err := config.Check(p.ImportPath, files, parsed, info)
	require.NoError(t, err)

	fileOf := func(pos token.Pos) string { return filepath.Base(files.Position(pos).Filename) }
	graph := make(map[string][]string)
	for _, name := range p.GoFiles {
		graph[name] = nil
	}
	for name, object := range info.Uses {
		if object.Pkg() != checked || !object.Pos().IsValid() {
			continue
		}
		if from, to := fileOf(name.Pos()), fileOf(object.Pos()); from != to && !slices.Contains(graph[from], to) {
			graph[from] = append(graph[from], to)
		}
	}
	return graph
}

// open returns the export data of an imported package.
func (p *listed) open(path string) (io.ReadCloser, error) {
	if mapped, ok := p.ImportMap[path]; ok {
		path = mapped
	}
	export := p.exports[path]
	if export == "" {
		return nil, fmt.Errorf("no export data for %s", path)
	}
	return os.Open(export)
}

// knots returns the sets of files that reach each other, the largest first
// (Tarjan's algorithm).
func knots(graph map[string][]string) (found [][]string) {
	index, low, onStack := make(map[string]int), make(map[string]int), make(map[string]bool)
	var stack []string
	var visit func(string)
	visit = func(file string) {
		index[file] = len(index) + 1
		low[file] = index[file]
		stack, onStack[file] = append(stack, file), true
		for _, next := range graph[file] {
			if index[next] == 0 {
				visit(next)
				low[file] = min(low[file], low[next])
			} else if onStack[next] {
				low[file] = min(low[file], index[next])
			}
		}
		if low[file] != index[file] {
			return
		}
		at := slices.Index(stack, file)
		knot := slices.Clone(stack[at:])
		for _, member := range knot {
			onStack[member] = false
		}
		stack = stack[:at]
		slices.Sort(knot)
		found = append(found, knot)
	}
	for file := range graph {
		if index[file] == 0 {
			visit(file)
		}
	}
	slices.SortFunc(found, func(a, b []string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a[0], b[0])
	})
	return found
}

const (
	// maxWalkFiles and maxWalkTypes are what a reader has to know of the way of a
	// heartbeat.
	maxWalkFiles = 10
	maxWalkTypes = 14
)

// The table in docs/architecture.md names each file and type that a heartbeat passes.
func TestWalk_IsShortAndNamesWhatThereIs(t *testing.T) {
	top := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(top, "docs", "architecture.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "## A heartbeat over plain TCP\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	files, named := 0, 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], ".go`") {
			continue
		}
		files++
		name := strings.Trim(cells[1], " `")
		declared := declaredTypes(t, filepath.Join(top, filepath.FromSlash(name)))
		for _, typeName := range strings.Split(cells[2], ",") {
			named++
			require.Contains(t, declared, strings.Trim(typeName, " `"), name)
		}
	}
	t.Logf("a heartbeat passes %d files and %d types", files, named)
	require.NotZero(t, files)
	require.LessOrEqual(t, files, maxWalkFiles)
	require.LessOrEqual(t, named, maxWalkTypes)
}

func declaredTypes(t *testing.T, file string) (names []string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	for _, decl := range parsed.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			if declared, ok := spec.(*ast.TypeSpec); ok {
				names = append(names, declared.Name.Name)
			}
		}
	}
	return names
}
