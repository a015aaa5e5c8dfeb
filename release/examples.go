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
	name      string
	program   []byte
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
		text, err := t.read(name)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(text, []byte("\nfunc Example")) {
			continue
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, name, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, found := range doc.Examples(parsed) {
			if found.Play == nil || found.Output == "" && !found.EmptyOutput || importsInternal(found.Play) {
				continue
			}
			var program bytes.Buffer
			if err := format.Node(&program, files, found.Play); err != nil {
				return nil, err
			}
			folder := strings.ReplaceAll(path.Dir(name), "/", "_") + "_" + found.Name
			playable = append(playable, &example{strings.Trim(folder, "._"), program.Bytes(), found.Output, found.Unordered})
		}
	}
	return playable, nil
}

func importsInternal(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return isInternal(strings.Trim(spec.Path.Value, `"`)) })
}
