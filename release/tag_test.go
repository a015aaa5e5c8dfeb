package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var releaseDay = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// repositoryOf makes a repository of a tree, with one commit.
func repositoryOf(t *testing.T, dir string) {
	t.Helper()
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+who+"_NAME", "test")
		t.Setenv("GIT_"+who+"_EMAIL", "test@example.com")
	}
	gitIn(t, dir, "init", "--quiet")
	gitIn(t, dir, "add", ".")
	gitIn(t, dir, "commit", "--quiet", "-m", "All")
}

func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	output, err := git(dir, args...)
	require.NoError(t, err)
	return strings.TrimSpace(output)
}

func readFile(t *testing.T, names ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(names...))
	require.NoError(t, err)
	return string(text)
}

// Users get what go itself reads from the repository at its tags. The second
// release has a library that needs what is new in the root.
func TestTag_GivesUsersEachModuleAtOneVersion(t *testing.T) {
	dir := writeTree(t)
	repositoryOf(t, dir)
	require.NoError(t, open(t, dir).tag("v0.1.0", releaseDay, fakeKinds))
	require.Equal(t, "lib/v0.1.0\nprog/v0.1.0\nv0.1.0", gitIn(t, dir, "tag"))
	require.Equal(t, "Release v0.1.0", gitIn(t, dir, "log", "-1", "--format=%s"))
	require.Empty(t, gitIn(t, dir, "status", "--porcelain"))
	require.Contains(t, readFile(t, dir, "CHANGELOG.md"), "## [Unreleased]\n\n## [0.1.0] - 2030-01-02\n\n- all\n")
	require.NoError(t, open(t, dir).check(fakeKinds))

	newRoot := strings.Replace(fakeTree["root.go"], "Number()", "NewNumber()", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "root.go"), []byte(newRoot+"\nfunc Number() int { return NewNumber() }\n"), 0o644))
	newLib := strings.Replace(fakeTree["lib/lib.go"], "Number()", "NewNumber()", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lib", "lib.go"), []byte(newLib), 0o644))
	log := strings.Replace(readFile(t, dir, "CHANGELOG.md"), "[Unreleased]\n", "[Unreleased]\n\n- more\n", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(log), 0o644))
	gitIn(t, dir, "commit", "--quiet", "-am", "More")
	require.NoError(t, open(t, dir).tag("v0.1.1", releaseDay, fakeKinds))

	fromRepository(t, dir)
	for _, version := range []string{"v0.1.0", "v0.1.1"} {
		user := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(user, "go.mod"), []byte("module example.com/user\n\ngo 1.25.0\n"), 0o644))
		goIn(t, user, "get", repository+"/lib@"+version)
		required := readFile(t, user, "go.mod")
		require.Contains(t, required, repository+"/lib "+version)
		require.Contains(t, required, repository+" "+version)
		goIn(t, user, "build", repository+"/lib")
		t.Setenv("GOBIN", filepath.Join(user, "bin"))
		goIn(t, user, "install", repository+"/prog@"+version)
		output, err := exec.Command(filepath.Join(user, "bin", "prog")).Output()
		require.NoError(t, err)
		require.Equal(t, "14\n", string(output))
	}
	// In a clone, go.sum has the hashes of what go has read from the tags.
	for _, name := range []string{"go.mod", "go.new.mod"} {
		goIn(t, filepath.Join(dir, "lib"), "build", "-mod=readonly", "-modfile="+name, "./...")
	}
	require.Contains(t, readFile(t, dir, "lib", "go.mod"), "v0.1.1 // why")
	require.Contains(t, readFile(t, dir, "lib", "go.new.mod"), "// Another one.")
	require.Contains(t, readFile(t, dir, "go.work"), "// why\nreplace (\n\tgithub.com/raftwire/raftwire v0.1.1 => .\n")
	require.NotContains(t, readFile(t, dir, "prog", "go.sum"), "v0.1.0")
}

// fromRepository makes go read the modules from a repository on disk, as it reads
// them from the real one, and no others.
func fromRepository(t *testing.T, dir string) {
	alone(t)
	t.Setenv("GOPROXY", "direct")
	t.Setenv("GONOSUMDB", repository)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "url.file://"+filepath.ToSlash(dir)+".insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", "https://"+repository)
	t.Setenv("GIT_ALLOW_PROTOCOL", "file")
}

func goIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	command := exec.Command("go", args...)
	command.Dir = dir
	output, err := command.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), output)
}

func TestTag_RefusesBeforeItChangesAnything(t *testing.T) {
	tests := map[string]struct {
		version string
		before  func(dir string)
		want    string
	}{
		"no version":       {"0.1.0", nil, "not a version"},
		"version 2":        {"v2.0.0", nil, "not a version"},
		"an old version":   {"v0.0.0", nil, "not newer"},
		"a dirty tree":     {"v0.1.0", func(dir string) { _ = os.WriteFile(filepath.Join(dir, "new.txt"), nil, 0o644) }, "new.txt"},
		"a tag of a part":  {"v0.1.0", func(dir string) { _, _ = git(dir, "tag", "prog/v0.1.0") }, "there is a tag prog/v0.1.0"},
		"a forgotten part": {"v0.1.0", func(dir string) { _ = os.Remove(filepath.Join(dir, "lib", "LICENSE")) }, "lib"},
		"no changes": {"v0.1.0", func(dir string) {
			log := strings.Replace(fakeTree["CHANGELOG.md"], "- all", "## [0.0.1] - 2020-01-01\n\n- all", 1)
			_ = os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(log), 0o644)
			_, _ = git(dir, "commit", "--quiet", "-am", "No changes")
		}, "says nothing"},
		"no changes at all": {"v0.1.0", func(dir string) {
			log := strings.Replace(fakeTree["CHANGELOG.md"], "- all\n\n", "", 1)
			_ = os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(log), 0o644)
			_, _ = git(dir, "commit", "--quiet", "-am", "No changes")
		}, "says nothing"},
		"no link": {"v0.1.0", func(dir string) {
			log, _, _ := strings.Cut(fakeTree["CHANGELOG.md"], "\n[Unreleased]: ")
			_ = os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte(log), 0o644)
			_, _ = git(dir, "commit", "--quiet", "-am", "No link")
		}, "no link"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := writeTree(t)
			repositoryOf(t, dir)
			if test.before != nil {
				test.before(dir)
			}
			head, status, tags := gitIn(t, dir, "rev-parse", "HEAD"), gitIn(t, dir, "status", "--porcelain"), gitIn(t, dir, "tag")
			require.ErrorContains(t, open(t, dir).tag(test.version, releaseDay, fakeKinds), test.want)
			require.Equal(t, head, gitIn(t, dir, "rev-parse", "HEAD"))
			require.Equal(t, status, gitIn(t, dir, "status", "--porcelain"))
			require.Equal(t, tags, gitIn(t, dir, "tag"))
		})
	}
}

// Markdown takes [0.1.0] in a heading for a link if the foot says where it leads.
func TestTag_LinksEveryRelease(t *testing.T) {
	first, err := withRelease([]byte(fakeTree["CHANGELOG.md"]), "v0.1.0", releaseDay)
	require.NoError(t, err)
	more := strings.Replace(string(first), "[Unreleased]\n", "[Unreleased]\n\n- more\n", 1)
	second, err := withRelease([]byte(more), "v0.2.0", releaseDay.AddDate(0, 1, 0))
	require.NoError(t, err)
	require.Equal(t, `# Changelog

## [Unreleased]

## [0.2.0] - 2030-02-02

- more

## [0.1.0] - 2030-01-02

- all

[Unreleased]: https://github.com/raftwire/raftwire/compare/v0.2.0...main
[0.2.0]: https://github.com/raftwire/raftwire/releases/tag/v0.2.0
[0.1.0]: https://github.com/raftwire/raftwire/releases/tag/v0.1.0
`, string(second))
}

func TestTag_TakesAChangelogThatHasTheVersion(t *testing.T) {
	written := "# Changelog\n\n## [0.1.0] - 2029-12-31\n\n- all\n"
	text, err := withRelease([]byte(written), "v0.1.0", releaseDay)
	require.NoError(t, err)
	require.Equal(t, written, string(text))
	_, err = withRelease([]byte(written), "v0.2.0", releaseDay)
	require.ErrorContains(t, err, "neither [0.2.0] nor [Unreleased]")
}
