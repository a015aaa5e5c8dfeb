package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck_AcceptsThisTree(t *testing.T) {
	this, err := openTree("..", kinds)
	require.NoError(t, err)
	require.NoError(t, this.check(kinds))
}

func TestCheck_FindsWhatUsersWouldMeet(t *testing.T) {
	require.NoError(t, open(t, writeTree(t)).check(fakeKinds))
	tests := map[string]struct {
		changed changed
		want    string
	}{
		"a replace in a program": {
			changed{"prog/go.mod", "// indirect\n", "// indirect\n\nreplace github.com/raftwire/raftwire => ../\n"},
			"prog/go.mod replaces github.com/raftwire/raftwire",
		},
		"a requirement at an old version": {
			changed{"lib/go.mod", "v0.0.0", "v0.0.1"},
			"requires github.com/raftwire/raftwire",
		},
		"an old version in another modfile": {
			changed{"lib/go.new.mod", "v0.0.0", "v0.0.1"},
			"lib/go.new.mod requires github.com/raftwire/raftwire@v0.0.1",
		},
		"an old version in go.work": {
			changed{"go.work", "raftwire v0.0.0", "raftwire v0.0.1"},
			"go.work replaces",
		},
		"an import of an internal package, on one platform": {
			changed{"lib/lib_plan9.go", "", "package lib\n\nimport _ \"github.com/raftwire/raftwire/internal/secret\"\n"},
			"lib/lib_plan9.go imports github.com/raftwire/raftwire/internal/secret",
		},
		"a requirement of an unpublished module": {
			changed{"lib/go.mod", "require ", "require github.com/raftwire/raftwire/only v0.0.0\n\nrequire "},
			"only, which is not published",
		},
		"a module that go.work forgets": {
			changed{"new/go.mod", "", "module github.com/raftwire/raftwire/new\n"},
			"new/go.mod is of no module in go.work",
		},
		"a module that kinds.go forgets": {
			changed{"go.work", "./only", "./internal\n\t./only"},
			"internal: say in release/kinds.go",
		},
		"a module that is gone": {
			changed{"go.work", "\t./only\n", ""},
			"only is in release/kinds.go",
		},
		"a path that go get does not find": {
			changed{"only/go.mod", "raftwire/only", "raftwire/lonely"},
			"its path is github.com/raftwire/raftwire/lonely",
		},
		"another licence": {
			changed{"lib/LICENSE", "", "keep out\n"},
			"lib/LICENSE is not that of the root",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			changes := []changed{test.changed, {"internal/go.mod", "", "module github.com/raftwire/raftwire/internal\n"}}
			if name != "a module that kinds.go forgets" {
				changes = changes[:1]
			}
			require.ErrorContains(t, open(t, writeTree(t, changes...)).check(fakeKinds), test.want)
		})
	}
}

func TestCheck_WantsALicenceInEachModule(t *testing.T) {
	dir := writeTree(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "prog", "LICENSE")))
	require.ErrorContains(t, open(t, dir).check(fakeKinds), "prog")
}

func TestCheck_LetsTestsImportInternalPackages(t *testing.T) {
	dir := writeTree(t, changed{"lib/lib_test.go", "", "package lib\n\nimport _ \"github.com/raftwire/raftwire/internal/secret\"\n"})
	require.NoError(t, open(t, dir).check(fakeKinds))
}

func TestTree_PutsAModuleAfterThoseThatItRequires(t *testing.T) {
	var dirs []string
	for _, m := range open(t, writeTree(t, changed{"go.work", "\t.\n\t./lib\n\t./only\n\t./prog\n", "\t./prog\n\t./lib\n\t.\n\t./only\n"})).modules {
		dirs = append(dirs, m.dir)
	}
	require.Equal(t, []string{".", "only", "lib", "prog"}, dirs)
}

func TestTree_RefusesACircle(t *testing.T) {
	dir := writeTree(t, changed{"go.mod", "go 1.25.0\n", "go 1.25.0\n\nrequire github.com/raftwire/raftwire/lib v0.0.0\n"})
	_, err := openTree(dir, fakeKinds)
	require.ErrorContains(t, err, "circle")
}
