package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRehearse_AcceptsWhatUsersCanUse(t *testing.T) {
	r := rehearsalOf(t)
	require.NoError(t, rehearse(filepath.Dir(r.proxy), fakeKinds, r.output))
}

func TestRehearse_FailsAsUsersWould(t *testing.T) {
	getLib := func(r *rehearsal) error { return r.examples(r.tree.own(repository + "/lib")) }
	installProg := func(r *rehearsal) error { return r.install(r.tree.own(repository + "/prog")) }
	tests := map[string]struct {
		changed changed
		step    func(*rehearsal) error
		want    string
	}{
		"a replace in a program": {
			changed{"prog/go.mod", "// indirect\n", "// indirect\n\nreplace github.com/raftwire/raftwire => ../\n"},
			installProg, "replace directives",
		},
		"a program that does not build": {
			changed{"prog/main.go", "main()", "Main()"},
			installProg, "main is undeclared",
		},
		"an import of an internal package": {
			changed{"lib/lib.go", "import \"github.com/raftwire/raftwire\"", "import (\n\t\"github.com/raftwire/raftwire\"\n\t_ \"github.com/raftwire/raftwire/internal/secret\"\n)"},
			(*rehearsal).newerRoot, "module providing package github.com/raftwire/raftwire/internal/secret",
		},
		"an example that does not build outside": {
			changed{"lib/more_test.go", "", exampleOfOnly},
			getLib, "github.com/raftwire/raftwire/only",
		},
		"an example that prints something else": {
			changed{"lib/example_test.go", "Output: 14", "Output: 15"},
			getLib, "prints\n14\n\nand not\n15",
		},
		"a library without an example": {
			changed{"lib/example_test.go", "", "package lib_test\n"},
			getLib, "no example of it can be run",
		},
		"a README that is out of date": {
			changed{"README.md", "raftwire.Number()", "raftwire.OldNumber()"},
			(*rehearsal).readme, "undefined: raftwire.OldNumber",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, test.step(rehearsalOf(t, test.changed)), test.want)
		})
	}
}

func TestTries_HaveEachProgram(t *testing.T) {
	for dir, kind := range kinds {
		require.Equal(t, kind == program, kind == program && tries[dir] != nil, dir)
	}
}

// exampleOfOnly builds in the tree, where go.work has the module that it needs.
const exampleOfOnly = `package lib_test

import (
	"fmt"

	"github.com/raftwire/raftwire/lib"
	"github.com/raftwire/raftwire/only"
)

func ExampleTwice_only() {
	fmt.Println(lib.Twice(), only.Number)
	// Output: 14 7
}
`
