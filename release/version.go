package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// setVersion makes all modules of the tree require each other at a version, with
// the hashes of what they require in their go.sum. It packs the published ones
// into proxy on the way, from where the hashes are.
func (t *tree) setVersion(version, proxy string) error {
	if err := t.setWork(version); err != nil { // go.work is in the zip of the root
		return err
	}
	sums := make(map[string][]sum) // by the path of a module
	for _, m := range t.modules {
		for _, f := range m.modfiles {
			if err := t.setRequirements(f, version, sums); err != nil {
				return err
			}
		}
		if m.kind == unpublished {
			continue
		}
		packed, err := t.pack(m, version, proxy)
		if err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
		sums[m.path] = packed
	}
	return nil
}

// setRequirements changes a go.mod and its go.sum.
func (t *tree) setRequirements(f modfileOf, version string, sums map[string][]sum) error {
	var added []sum
	for _, r := range f.parsed.Require {
		if t.own(r.Mod.Path) != nil {
			added = append(added, sums[r.Mod.Path]...)
			if err := f.parsed.AddRequire(r.Mod.Path, version); err != nil {
				return err
			}
		}
	}
	if len(added) == 0 {
		return nil
	}
	text, err := f.parsed.Format()
	if err != nil {
		return err
	}
	if err := t.write(f.name, text); err != nil {
		return err
	}
	name := sumName(f.name)
	old, err := t.read(name)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return t.write(name, t.withSums(old, added))
}

// setWork changes the replace lines of go.work.
func (t *tree) setWork(version string) error {
	for _, r := range t.work.Replace {
		for i, token := range r.Syntax.Token {
			if token == r.Old.Version && t.own(r.Old.Path) != nil {
				r.Syntax.Token[i] = version
			}
		}
		r.Old.Version = version
	}
	return t.write("go.work", modfile.Format(t.work.Syntax))
}

// sum is a line of a go.sum.
type sum struct {
	of   module.Version
	hash string
}

// withSums returns the text of a go.sum with these hashes for the modules of the
// tree, and no others for them.
func (t *tree) withSums(text []byte, own []sum) []byte {
	hashes := make(map[module.Version]string)
	for _, s := range append(parseSums(text), own...) {
		if t.own(s.of.Path) == nil || slices.Contains(own, s) {
			hashes[s.of] = s.hash
		}
	}
	sorted := slices.Collect(maps.Keys(hashes))
	module.Sort(sorted)
	var b bytes.Buffer
	for _, of := range sorted {
		fmt.Fprintln(&b, of.Path, of.Version, hashes[of])
	}
	return b.Bytes()
}

func parseSums(text []byte) (sums []sum) {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			sums = append(sums, sum{module.Version{Path: fields[0], Version: fields[1]}, fields[2]})
		}
	}
	return sums
}

// copyTo copies the tree to an empty folder, without its history.
func (t *tree) copyTo(dir string) error {
	for _, name := range t.files {
		text, err := t.read(name)
		if err != nil {
			return err
		}
		info, err := os.Stat(t.at(name))
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
