package main

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
)

// example is an Example function as a program of its own.
type example struct {
	pkg, name string // pkg is the folder
	program   []byte
	runs      bool // and then prints want
	want      string
	unordered bool
}

// printed reports whether got is what the Output comment says.
func (e *example) printed(got string) bool {
	want, got := strings.TrimSpace(e.want), strings.TrimSpace(got)
	if e.unordered {
		return slices.Equal(sortedLines(want), sortedLines(got))
	}
	return want == got
}

func sortedLines(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
}

// playable returns the examples of a module that pkg.go.dev shows as programs to
// run. Those that use internal packages, such as certificates of tests, are none.
func playable(t *tree, m *mod) (playable []*example, err error) {
	for _, name := range t.files {
		if t.owner(name) != m || !strings.HasSuffix(name, "_test.go") {
			continue
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, t.at(name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, found := range doc.Examples(parsed) {
			if found.Play == nil || importsInternal(found.Play) {
				continue
			}
			var program bytes.Buffer
			if err := format.Node(&program, files, found.Play); err != nil {
				return nil, err
			}
			playable = append(playable, &example{
				pkg: path.Dir(name), name: strings.ReplaceAll(path.Join("example", path.Dir(name), found.Name), "/", "_"),
				program: program.Bytes(),
				runs:    found.Output != "" || found.EmptyOutput, want: found.Output, unordered: found.Unordered,
			})
		}
	}
	return playable, nil
}

// oneEach returns the first example of each package that runs. To link and run
// all of them would take minutes.
func oneEach(examples []*example) (first []*example) {
	for _, e := range examples {
		if e.runs && !slices.ContainsFunc(first, func(f *example) bool { return f.pkg == e.pkg }) {
			first = append(first, e)
		}
	}
	return first
}

func importsInternal(program *ast.File) (internal bool) {
	ast.Inspect(program, func(n ast.Node) bool { // its Imports are not set
		if spec, ok := n.(*ast.ImportSpec); ok {
			internal = internal || isInternal(strings.Trim(spec.Path.Value, `"`))
		}
		return true
	})
	return internal
}
