package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// tree is a copy of the repository on disk.
type tree struct {
	dir     string
	files   []string // with slashes, relative to dir
	work    *modfile.WorkFile
	modules []*mod // each after those that it requires
}

// mod is one module of a tree.
type mod struct {
	dir      string // relative to the tree, "." is the root
	path     string
	kind     kind // 0 if kinds does not have it
	modfiles []modfileOf
}

// modfileOf is a module's go.mod, or a go.*.mod beside it.
type modfileOf struct {
	name   string // relative to the tree
	parsed *modfile.File
}

// openTree reads the modules of a tree, those of go.work.
func openTree(dir string, kinds map[string]kind) (*tree, error) {
	files, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{dir: dir, files: files}
	text, err := t.read("go.work")
	if err != nil {
		return nil, err
	}
	if t.work, err = modfile.ParseWork("go.work", text, nil); err != nil {
		return nil, err
	}
	for _, use := range t.work.Use {
		m, err := t.openModule(path.Clean(use.Path))
		if err != nil {
			return nil, err
		}
		m.kind = kinds[m.dir]
		t.modules = append(t.modules, m)
	}
	return t, t.sort()
}

func (t *tree) openModule(dir string) (*mod, error) {
	m := &mod{dir: dir}
	names := []string{path.Join(dir, "go.mod")}
	for _, name := range t.files {
		if match, _ := path.Match("go.*.mod", path.Base(name)); match && path.Dir(name) == dir {
			names = append(names, name)
		}
	}
	for _, name := range names {
		text, err := t.read(name)
		if err != nil {
			return nil, err
		}
		parsed, err := modfile.Parse(name, text, nil)
		if err != nil {
			return nil, err
		}
		m.modfiles = append(m.modfiles, modfileOf{name, parsed})
	}
	m.path = m.modfiles[0].parsed.Module.Mod.Path
	return m, nil
}

// sort puts each module after those that it requires. The zip of a module holds
// the hashes of those.
func (t *tree) sort() error {
	var sorted []*mod
	for len(sorted) < len(t.modules) {
		before := len(sorted)
		for _, m := range t.modules {
			ready := !slices.ContainsFunc(t.required(m), func(r *mod) bool { return !slices.Contains(sorted, r) })
			if ready && !slices.Contains(sorted, m) {
				sorted = append(sorted, m)
			}
		}
		if len(sorted) == before {
			return errors.New("modules require each other in a circle")
		}
	}
	t.modules = sorted
	return nil
}

// required returns the modules of the tree that a module requires.
func (t *tree) required(m *mod) (required []*mod) {
	for _, f := range m.modfiles {
		for _, r := range f.parsed.Require {
			if own := t.own(r.Mod.Path); own != nil && !slices.Contains(required, own) {
				required = append(required, own)
			}
		}
	}
	return required
}

// own returns the module of a path, nil if it is of another repository.
func (t *tree) own(path string) *mod {
	for _, m := range t.modules {
		if m.path == path {
			return m
		}
	}
	return nil
}

// modfiles returns those of all modules.
func (t *tree) modfiles() (all []modfileOf) {
	for _, m := range t.modules {
		all = append(all, m.modfiles...)
	}
	return all
}

func (t *tree) root() *mod {
	return t.modules[slices.IndexFunc(t.modules, func(m *mod) bool { return m.dir == "." })]
}

// published returns the modules that get a tag.
func (t *tree) published() (published []*mod) {
	for _, m := range t.modules {
		if m.kind == library || m.kind == program {
			published = append(published, m)
		}
	}
	return published
}

// replacedInWork returns the modules that others require. go.work replaces each
// by its folder; without that, go would look for the version in the proxy, which
// does not have it before it is published.
func (t *tree) replacedInWork() (replaced []*mod) {
	for _, m := range t.modules {
		if slices.ContainsFunc(t.modules, func(user *mod) bool { return slices.Contains(t.required(user), m) }) {
			replaced = append(replaced, m)
		}
	}
	return replaced
}

// use is how go.work writes the folder of a module.
func (m *mod) use() string {
	if m.dir == "." {
		return m.dir
	}
	return "./" + m.dir
}

// version returns the version at which the modules require each other.
func (t *tree) version() string {
	for _, m := range t.modules {
		for _, r := range m.modfiles[0].parsed.Require {
			if t.own(r.Mod.Path) != nil {
				return r.Mod.Version
			}
		}
	}
	return "v0.0.0"
}

// filesOf returns the files of a folder, relative to it. Files of modules inside
// it are among them.
func (t *tree) filesOf(dir string) (files []string) {
	for _, name := range t.files {
		if dir == "." {
			files = append(files, name)
		} else if inside, ok := strings.CutPrefix(name, dir+"/"); ok {
			files = append(files, inside)
		}
	}
	return files
}

// owner returns the module that a file is in.
func (t *tree) owner(name string) *mod {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		for _, m := range t.modules {
			if m.dir == dir {
				return m
			}
		}
		if dir == "." {
			return nil
		}
	}
}

func (t *tree) at(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

func (t *tree) read(name string) ([]byte, error) { return os.ReadFile(t.at(name)) }

func (t *tree) write(name string, text []byte) error {
	if !slices.Contains(t.files, name) {
		t.files = append(t.files, name)
	}
	return os.WriteFile(t.at(name), text, 0o644)
}

// listFiles returns what would be in a commit of all that is in a folder. Outside
// of git that is every file.
func listFiles(dir string) (files []string, err error) {
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		listed, err := git(dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
		if err != nil {
			return nil, err
		}
		for name := range strings.SplitSeq(strings.TrimSuffix(listed, "\x00"), "\x00") {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil { // it may be deleted, and not committed
				files = append(files, name)
			}
		}
		return files, nil
	}
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

// git runs git in a folder, and returns what it prints.
func git(dir string, args ...string) (string, error) {
	command := exec.Command("git", args...)
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(output), err
}
