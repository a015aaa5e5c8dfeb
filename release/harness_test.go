package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeKinds are those of fakeTree.
var fakeKinds = map[string]kind{".": library, "lib": library, "prog": program, "only": unpublished}

// fakeTree has all that release looks at, and requires nothing of others.
var fakeTree = map[string]string{
	"go.work": `go 1.25.0

use (
	.
	./lib
	./only
	./prog
)

// why
replace (
	github.com/raftwire/raftwire v0.0.0 => .
	github.com/raftwire/raftwire/lib v0.0.0 => ./lib
)
`,
	"LICENSE":      "do what you like\n",
	"CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n- all\n\n[Unreleased]: https://" + repository + "/commits/main\n",
	"README.md":    "Use it:\n\n```go\npackage raftwire_test\n" + rootExample + "```\n",

	"go.mod":                     "module github.com/raftwire/raftwire\n\ngo 1.25.0\n",
	"root.go":                    "package raftwire\n\nimport \"github.com/raftwire/raftwire/internal/secret\"\n\nfunc Number() int { return secret.Number }\n",
	"example_test.go":            "package raftwire_test\n" + rootExample,
	"internal/secret/secret.go":  "package secret\n\nconst Number = 7\n",
	"internal/secret/secrets.md": "not code\n",

	"lib/LICENSE":    "do what you like\n",
	"lib/go.mod":     "module github.com/raftwire/raftwire/lib\n\ngo 1.25.0\n\nrequire github.com/raftwire/raftwire v0.0.0 // why\n",
	"lib/go.new.mod": "// Another one.\nmodule github.com/raftwire/raftwire/lib\n\ngo 1.25.0\n\nrequire github.com/raftwire/raftwire v0.0.0\n",
	"lib/lib.go":     "package lib\n\nimport \"github.com/raftwire/raftwire\"\n\nfunc Twice() int { return 2 * raftwire.Number() }\n",
	"lib/example_test.go": `package lib_test

import (
	"fmt"

	"github.com/raftwire/raftwire/lib"
)

func ExampleTwice() {
	fmt.Println(lib.Twice())
	// Output: 14
}
`,

	"prog/LICENSE": "do what you like\n",
	"prog/go.mod":  "module github.com/raftwire/raftwire/prog\n\ngo 1.25.0\n\nrequire github.com/raftwire/raftwire/lib v0.0.0\n\nrequire github.com/raftwire/raftwire v0.0.0 // indirect\n",
	"prog/main.go": "package main\n\nimport (\n\t\"fmt\"\n\n\t\"github.com/raftwire/raftwire/lib\"\n)\n\nfunc main() { fmt.Println(lib.Twice()) }\n",

	"only/go.mod":  "module github.com/raftwire/raftwire/only\n\ngo 1.25.0\n\nrequire github.com/raftwire/raftwire v0.0.0\n",
	"only/only.go": "package only\n\nimport \"github.com/raftwire/raftwire/internal/secret\"\n\nconst Number = secret.Number\n",
}

const rootExample = `
import (
	"fmt"

	"github.com/raftwire/raftwire"
)

func Example() {
	fmt.Println(raftwire.Number())
	// Output: 7
}
`

// changed is a fakeTree with one file changed: all of old in it is new. Without
// old, new is the file.
type changed struct{ file, old, new string }

// writeTree writes fakeTree into a folder outside of git.
func writeTree(t *testing.T, changes ...changed) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for name, text := range fakeTree {
		write(name, text)
	}
	for _, c := range changes {
		text := c.new
		if c.old != "" {
			require.Contains(t, fakeTree[c.file], c.old)
			text = strings.ReplaceAll(fakeTree[c.file], c.old, c.new)
		}
		write(c.file, text)
	}
	return dir
}

func open(t *testing.T, dir string) *tree {
	t.Helper()
	opened, err := openTree(dir, fakeKinds)
	require.NoError(t, err)
	return opened
}

// alone keeps go from the network and from the module cache of the machine.
func alone(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOWORK", "off")
	t.Setenv("GONOSUMDB", "")
	t.Setenv("GOFLAGS", "-modcacherw")
	t.Setenv("GOMODCACHE", t.TempDir())
}

// rehearsalOf packs a tree, and begins a rehearsal with it.
func rehearsalOf(t *testing.T, changes ...changed) *rehearsal {
	t.Helper()
	alone(t)
	packed := t.TempDir()
	_, err := open(t, writeTree(t, changes...)).packTree(packed, fakeKinds)
	require.NoError(t, err)
	r, err := newRehearsal(packed, fakeKinds, io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(r.dir) })
	tries["prog"] = func(r *rehearsal, dir, bin string) error {
		_, err := r.run(dir, bin)
		return err
	}
	t.Cleanup(func() { delete(tries, "prog") })
	return r
}
