package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRehearse_AcceptsWhatUsersCanUse(t *testing.T) {
	require.NoError(t, rehearsed(t))
}

func TestRehearse_FailsAsUsersWould(t *testing.T) {
	tests := map[string]struct {
		changed changed
		want    string
	}{
		"a replace in a program": {
			changed{"prog/go.mod", "// indirect\n", "// indirect\n\nreplace github.com/raftwire/raftwire => ../\n"},
			"replace directives",
		},
		"an import of an internal package": {
			changed{"lib/lib.go", "import \"github.com/raftwire/raftwire\"", "import (\n\t\"github.com/raftwire/raftwire\"\n\t_ \"github.com/raftwire/raftwire/internal/secret\"\n)"},
			"with a newer root",
		},
		"an example that does not build outside": {
			changed{"lib/more_test.go", "", exampleOfOnly},
			"github.com/raftwire/raftwire/only",
		},
		"an example that prints something else": {
			changed{"lib/example_test.go", "Output: 14", "Output: 15"},
			"prints\n14\n\nand not\n15",
		},
		"a library without an example": {
			changed{"lib/example_test.go", "", "package lib_test\n"},
			"no example of it can be run",
		},
		"a README that is out of date": {
			changed{"README.md", "raftwire.Number()", "raftwire.OldNumber()"},
			"the first example of the README",
		},
		"a program that does not build": {
			changed{"prog/main.go", "main()", "Main()"},
			"go install github.com/raftwire/raftwire/prog",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, rehearsed(t, test.changed), test.want)
		})
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
