package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTidy_RequiresOtherModulesAtTheVersionOfTheTree(t *testing.T) {
	alone(t)
	dir := writeTree(t,
		changed{"only/only.go", "", "package only\n\nimport \"github.com/raftwire/raftwire/lib\"\n\nvar Number = lib.Twice()\n"},
		changed{"lib/go.sum", "", "github.com/raftwire/raftwire v0.0.0 h1:kept\nexample.com/unused v1.0.0/go.mod h1:dropped\n"},
	)
	require.NoError(t, open(t, dir).tidy())
	require.Equal(t, `module github.com/raftwire/raftwire/only

go 1.25.0

require github.com/raftwire/raftwire/lib v0.0.0

require github.com/raftwire/raftwire v0.0.0 // indirect
`, readFile(t, dir, "only", "go.mod"))
	require.Equal(t, fakeTree["lib/go.mod"], readFile(t, dir, "lib", "go.mod"))
	require.Equal(t, fakeTree["lib/go.new.mod"], readFile(t, dir, "lib", "go.new.mod"))
	require.Equal(t, "github.com/raftwire/raftwire v0.0.0 h1:kept\n", readFile(t, dir, "lib", "go.sum"))
}
