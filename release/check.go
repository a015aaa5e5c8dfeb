package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// check returns what keeps a tree from being released, as joined errors.
func (t *tree) check(kinds map[string]kind) error {
	return errors.Join(
		t.checkKinds(kinds),
		t.checkLicences(),
		t.checkReplaces(),
		t.checkRequirements(),
		t.checkWork(),
		t.checkImports(),
	)
}

// checkKinds looks for modules that go.work or kinds forget.
func (t *tree) checkKinds(kinds map[string]kind) error {
	var errs []error
	for _, name := range t.files {
		if path.Base(name) == "go.mod" && !strings.Contains("/"+name, "/testdata/") && t.owner(name).dir != path.Dir(name) {
			errs = append(errs, fmt.Errorf("%s is of no module in go.work", name))
		}
	}
	for _, m := range t.modules {
		if m.kind == 0 {
			errs = append(errs, fmt.Errorf("%s: say in release/kinds.go whether it is published", m.dir))
		}
		if want := path.Join(repository, m.dir); m.path != want {
			errs = append(errs, fmt.Errorf("%s: its path is %s, and go get will look for %s", m.dir, m.path, want))
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(kinds)) {
		if !slices.ContainsFunc(t.modules, func(m *mod) bool { return m.dir == dir }) {
			errs = append(errs, fmt.Errorf("%s is in release/kinds.go, and there is no such module in go.work", dir))
		}
	}
	return errors.Join(errs...)
}

func (t *tree) checkLicences() error {
	want, err := t.read("LICENSE")
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range t.published() {
		if got, err := t.read(path.Join(m.dir, "LICENSE")); err != nil {
			errs = append(errs, err)
		} else if !bytes.Equal(got, want) {
			errs = append(errs, fmt.Errorf("%s/LICENSE is not that of the root", m.dir))
		}
	}
	return errors.Join(errs...)
}

// checkReplaces looks for replace lines. go install refuses a program with one,
// and users of a library do not see them.
func (t *tree) checkReplaces() error {
	var errs []error
	for _, f := range t.modfiles() {
		for _, r := range f.parsed.Replace {
			errs = append(errs, fmt.Errorf("%s replaces %s, which only go.work may do", f.name, r.Old.Path))
		}
	}
	return errors.Join(errs...)
}

// checkRequirements checks that the modules require each other at one version,
// and none that is not published.
func (t *tree) checkRequirements() error {
	var errs []error
	for _, f := range t.modfiles() {
		for _, r := range f.parsed.Require {
			own := t.own(r.Mod.Path)
			if own == nil {
				continue
			}
			if r.Mod.Version != t.version() {
				errs = append(errs, fmt.Errorf("%s requires %s, and others here are required at %s", f.name, r.Mod, t.version()))
			}
			if own.kind == unpublished {
				errs = append(errs, fmt.Errorf("%s requires %s, which is not published", f.name, r.Mod.Path))
			}
		}
	}
	return errors.Join(errs...)
}

// checkWork checks the replace lines of go.work.
func (t *tree) checkWork() error {
	var got, want []string
	for _, r := range t.work.Replace {
		got = append(got, r.Old.String()+" => "+r.New.Path)
	}
	for _, m := range t.replacedInWork() {
		want = append(want, m.path+"@"+t.version()+" => "+m.use())
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		return fmt.Errorf("go.work replaces\n\t%s\nand not\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return nil
}

// checkImports checks that no published package imports an internal one of
// another module: with another version of that, it may not compile. All files are
// read, not those of this platform alone.
func (t *tree) checkImports() error {
	var errs []error
	for _, name := range t.files {
		m := t.owner(name)
		if m == nil || m.kind == unpublished || !isCode(name) {
			continue
		}
		text, err := t.read(name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if inTree, ok := strings.CutPrefix(imported, repository+"/"); ok && isInternal(inTree) && t.owner(inTree+"/file.go") != m {
				errs = append(errs, fmt.Errorf("%s imports %s, which is internal to another module", name, imported))
			}
		}
	}
	return errors.Join(errs...)
}

func isCode(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.Contains("/"+name, "/testdata/")
}

func isInternal(importPath string) bool {
	return slices.Contains(strings.Split(importPath, "/"), "internal")
}
