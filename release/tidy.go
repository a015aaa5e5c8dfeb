package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

// tidy runs go mod tidy for all modfiles. go itself ignores go.work there, and
// would look for the other modules in the proxy.
func (t *tree) tidy() error {
	for _, m := range t.modules {
		for _, f := range m.modfiles {
			if err := t.tidyOne(m, f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	return nil
}

// tidyOne tidies a copy of a modfile that replaces all modules of the tree by
// their folders.
func (t *tree) tidyOne(m *mod, f modfileOf) error {
	temp, err := os.MkdirTemp("", "raftwire-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	gomod, gosum := filepath.Join(temp, "go.mod"), filepath.Join(temp, "go.sum")
	sums, err := t.read(sumName(f.name))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	replaced, err := t.withReplaces(f)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(gomod, replaced, 0o644), os.WriteFile(gosum, sums, 0o644)); err != nil {
		return err
	}
	command := exec.Command("go", "mod", "tidy", "-modfile="+gomod)
	command.Dir = t.at(m.dir)
	command.Env = append(os.Environ(), "GOWORK=off")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(gomod)
	if err != nil {
		return err
	}
	if text, err = t.withoutReplaces(f.name, text); err != nil {
		return err
	}
	tidied, err := os.ReadFile(gosum)
	if err != nil {
		return err
	}
	if err := t.write(f.name, text); err != nil {
		return err
	}
	if tidied = t.withSums(tidied, t.ownSums(sums)); len(tidied) == 0 {
		return nil
	}
	return t.write(sumName(f.name), tidied)
}

func (t *tree) withReplaces(f modfileOf) ([]byte, error) {
	copied, err := modfile.Parse(f.name, modfile.Format(f.parsed.Syntax), nil)
	if err != nil {
		return nil, err
	}
	for _, m := range t.modules {
		dir, err := filepath.Abs(t.at(m.dir))
		if err != nil {
			return nil, err
		}
		if err := copied.AddReplace(m.path, "", dir, ""); err != nil {
			return nil, err
		}
	}
	return copied.Format()
}

// withoutReplaces undoes withReplaces. A module that was not required before has
// a version that go made up.
func (t *tree) withoutReplaces(name string, text []byte) ([]byte, error) {
	f, err := modfile.Parse(name, text, nil)
	if err != nil {
		return nil, err
	}
	for _, m := range t.modules {
		if err := f.DropReplace(m.path, ""); err != nil {
			return nil, err
		}
	}
	for _, r := range f.Require {
		if t.own(r.Mod.Path) != nil {
			if err := f.AddRequire(r.Mod.Path, t.version()); err != nil {
				return nil, err
			}
		}
	}
	f.Cleanup()
	return f.Format()
}

// ownSums returns the hashes that a go.sum has for modules of the tree.
func (t *tree) ownSums(text []byte) (own []sum) {
	for _, s := range parseSums(text) {
		if t.own(s.of.Path) != nil {
			own = append(own, s)
		}
	}
	return own
}

func sumName(modfile string) string { return strings.TrimSuffix(modfile, ".mod") + ".sum" }
