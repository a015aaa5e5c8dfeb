package raftwire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The code logs with the keys that internal/logs lists, and the package doc explains
// each of them.
func TestLogKeys_AreListedAndExplained(t *testing.T) {
	declared := logKeys(t)
	require.NotEmpty(t, declared)
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for name, key := range declared {
		require.Contains(t, string(doc), "//\t"+strings.Trim(key, `"`)+" ", name)
	}
	lines := 0
	eachCall(t, func(call *ast.CallExpr, at token.Position) {
		arguments, logs := logArguments(call)
		if !logs {
			return
		}
		lines++
		for pair := range slices.Chunk(arguments, 2) {
			require.NotEmpty(t, declared[lastName(pair[0])], "%v: a key is not one of internal/logs", at)
		}
	})
	require.Greater(t, lines, 5)
}

// logKeys returns the constants of internal/logs.
func logKeys(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "internal/logs/logs.go", nil, 0)
	require.NoError(t, err)
	keys := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Key") {
			keys[spec.Names[0].Name] = spec.Values[0].(*ast.BasicLit).Value
		}
		return true
	})
	return keys
}

// eachCall calls look for every call in the code of this package, of layers, and of
// the packages that admit their connections.
func eachCall(t *testing.T, look func(*ast.CallExpr, token.Position)) {
	var files []string
	for _, pattern := range []string{"*.go", "layers/*.go", "internal/door/*.go"} {
		matching, err := fs.Glob(os.DirFS("."), pattern)
		require.NoError(t, err)
		files = append(files, matching...)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				look(call, set.Position(call.Pos()))
			}
			return true
		})
	}
}

// logArguments returns the keys and values of a call that logs: a method of a logger,
// log of a limit, or a function that adds to their arguments.
func logArguments(call *ast.CallExpr) (arguments []ast.Expr, logs bool) {
	if call.Ellipsis.IsValid() {
		return nil, false
	}
	if lastName(call.Fun) == "WithSimilar" {
		return call.Args[1:], true
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil, false
	}
	skip := map[string]int{"Error": 1, "Warn": 1, "Info": 1, "Debug": 1, "Trace": 1, "Log": 2}[method.Sel.Name]
	switch receiver := lastName(method.X); {
	case strings.EqualFold(receiver, "logger") && skip > 0:
		return call.Args[skip:], true
	case strings.EqualFold(receiver, "limit") && method.Sel.Name == "Log":
		return call.Args[4:], true
	}
	return nil, false
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
