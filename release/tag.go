package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// tag makes a release: a commit in which all modules require each other at a
// version, and a tag for each published module. It pushes nothing. What it
// refuses, it refuses before it changes a file.
func (t *tree) tag(version string, now time.Time, kinds map[string]kind) error {
	if semver.Canonical(version) != version || semver.Major(version) != "v0" && semver.Major(version) != "v1" {
		return fmt.Errorf("%q is not a version like v0.1.0", version)
	}
	if semver.Compare(version, t.version()) <= 0 {
		return fmt.Errorf("%s is not newer than %s", version, t.version())
	}
	if err := t.check(kinds); err != nil {
		return err
	}
	if err := t.checkGit(version); err != nil {
		return err
	}
	changes, err := t.read("CHANGELOG.md")
	if err != nil {
		return err
	}
	changes, err = withRelease(changes, version, now)
	if err != nil {
		return err
	}
	if err := t.write("CHANGELOG.md", changes); err != nil {
		return err
	}
	proxy, err := os.MkdirTemp("", "raftwire-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(proxy)
	if err := t.setVersion(version, proxy); err != nil {
		return fmt.Errorf("%w (undo with: git checkout .)", err)
	}
	return t.commit(version)
}

func (t *tree) checkGit(version string) error {
	dirty, err := git(t.dir, "status", "--porcelain")
	if err != nil {
		return err
	}
	if dirty != "" {
		return fmt.Errorf("commit or remove this first:\n%s", dirty)
	}
	tags, err := git(t.dir, "tag", "--list")
	if err != nil {
		return err
	}
	for _, m := range t.published() {
		if name := path.Join(m.dir, version); slices.Contains(strings.Split(tags, "\n"), name) {
			return fmt.Errorf("there is a tag %s", name)
		}
	}
	return nil
}

func (t *tree) commit(version string) error {
	if _, err := git(t.dir, "add", "--all"); err != nil {
		return err
	}
	if _, err := git(t.dir, "commit", "--quiet", "--message", "Release "+version); err != nil {
		return err
	}
	for _, m := range t.published() {
		if _, err := git(t.dir, "tag", "--annotate", "--message", path.Join(m.dir, version), path.Join(m.dir, version)); err != nil {
			return err
		}
	}
	return nil
}

var (
	unreleased     = regexp.MustCompile(`(?m)^## \[Unreleased\]\n`)
	unreleasedLink = regexp.MustCompile(`(?m)^\[Unreleased\]: .*$`) // at the foot
)

// withRelease returns a changelog in which the unreleased changes are of a version,
// with a link to it at the foot. One that has the version already stays as it is.
func withRelease(text []byte, version string, now time.Time) ([]byte, error) {
	number := strings.TrimPrefix(version, "v")
	if strings.Contains(string(text), "\n## ["+number+"]") {
		return text, nil
	}
	at := unreleased.FindIndex(text)
	if at == nil {
		return nil, fmt.Errorf("CHANGELOG.md has neither [%s] nor [Unreleased]", number)
	}
	link := unreleasedLink.FindIndex(text)
	if link == nil || link[0] < at[1] {
		return nil, errors.New("CHANGELOG.md has no link at its foot for [Unreleased]: add a line like [Unreleased]: https://" + repository)
	}
	changes, _, _ := strings.Cut(string(text[at[1]:link[0]]), "\n## ")
	if strings.TrimSpace(changes) == "" {
		return nil, errors.New("CHANGELOG.md says nothing under [Unreleased]")
	}
	heading := fmt.Sprintf("## [Unreleased]\n\n## [%s] - %s\n", number, now.Format(time.DateOnly))
	links := fmt.Sprintf("[Unreleased]: https://%[1]s/compare/%[2]s...main\n[%[3]s]: https://%[1]s/releases/tag/%[2]s", repository, version, number)
	return slices.Concat(text[:at[0]], []byte(heading), text[at[1]:link[0]], []byte(links), text[link[1]:]), nil
}
