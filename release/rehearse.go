package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rehearse does what users do with the modules that [tree.packTree] has packed
// into a folder: each step in an empty module of its own, outside the tree.
func rehearse(packed string, kinds map[string]kind, output io.Writer) error {
	r, err := newRehearsal(packed, kinds, output)
	if err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	for _, m := range r.tree.published() {
		if m.kind == library {
			err = r.step("go get "+m.path+", and its examples", func() error { return r.examples(m) })
		} else {
			err = r.step("go install "+m.path+", and a run", func() error { return r.install(m) })
		}
		if err != nil {
			return err
		}
	}
	if err := r.step("the first example of the README", r.readme); err != nil {
		return err
	}
	return r.step("the older modules with a newer root", r.newerRoot)
}

// rehearsal is one run of rehearse.
type rehearsal struct {
	tree    *tree
	version string
	proxy   string
	env     []string // with which go finds the packed modules
	dir     string   // for the modules of users
	output  io.Writer
}

func newRehearsal(packed string, kinds map[string]kind, output io.Writer) (*rehearsal, error) {
	t, err := openTree(filepath.Join(packed, "tree"), kinds)
	if err != nil {
		return nil, err
	}
	env, err := outside(packed)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "raftwire-rehearsal-")
	return &rehearsal{t, t.version(), filepath.Join(packed, "proxy"), env, dir, output}, err
}

// outside returns the settings with which go finds packed modules, and all others
// as usual. GOPRIVATE would not do: it keeps go from asking the proxy.
func outside(packed string) ([]string, error) {
	set, err := exec.Command("go", "env", "GOPROXY", "GONOSUMDB").Output()
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(set), "\n")
	proxy := "file://" + filepath.ToSlash(filepath.Join(packed, "proxy"))
	return []string{"GOWORK=off", "GOPROXY=" + proxy + "," + lines[0], "GONOSUMDB=" + strings.TrimPrefix(lines[1]+","+repository, ",")}, nil
}

// step runs a step, and says how long it took.
func (r *rehearsal) step(name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(r.output, "%s: %.1f s\n", name, time.Since(began).Seconds())
	return nil
}

// newModule makes an empty module that requires others, as go get does.
func (r *rehearsal) newModule(required ...string) (string, error) {
	dir, err := os.MkdirTemp(r.dir, "module-")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/user\n\ngo 1.25.0\n"), 0o644); err != nil {
		return "", err
	}
	_, err = r.run(dir, "go", append([]string{"get"}, required...)...)
	return dir, err
}

// run runs a command outside the tree, and returns what it prints to its standard output.
func (r *rehearsal) run(dir, name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), r.env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// examples gets a library alone, and vets its examples as programs. One of each
// package is run.
func (r *rehearsal) examples(m *mod) error {
	examples, err := playable(r.tree, m)
	if err != nil {
		return err
	}
	dir, err := r.newModule(m.path + "@" + r.version)
	if err != nil {
		return err
	}
	for _, e := range examples {
		if err := os.Mkdir(filepath.Join(dir, e.name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.name, "main.go"), e.program, 0o644); err != nil {
			return err
		}
	}
	first := oneEach(examples)
	if len(first) == 0 {
		return errors.New("no example of it can be run outside this repository")
	}
	if _, err := r.run(dir, "go", "mod", "tidy"); err != nil {
		return err
	}
	if _, err := r.run(dir, "go", "vet", "./..."); err != nil {
		return err
	}
	for _, e := range first {
		got, err := r.run(dir, "go", "run", "./"+e.name)
		if err != nil {
			return err
		}
		if !e.printed(got) {
			return fmt.Errorf("%s prints\n%s\nand not\n%s", e.name, got, e.want)
		}
	}
	fmt.Fprintf(r.output, "%d examples build, %d of them run\n", len(examples), len(first))
	return nil
}

// install installs a program, and runs it.
func (r *rehearsal) install(m *mod) error {
	try, ok := tries[m.dir]
	if !ok {
		return errors.New("say in release/programs.go how to run it")
	}
	dir, err := os.MkdirTemp(r.dir, "program-")
	if err != nil {
		return err
	}
	command := exec.Command("go", "install", m.path+"@"+r.version)
	command.Dir = dir
	command.Env = append(append(os.Environ(), r.env...), "GOBIN="+dir)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go install: %w\n%s", err, output)
	}
	return try(r, dir, filepath.Join(dir, filepath.Base(m.dir)))
}

// readme types the first Go program of the README as it stands.
func (r *rehearsal) readme() error {
	text, err := r.tree.read("README.md")
	if err != nil {
		return err
	}
	_, after, found := strings.Cut(string(text), "```go\n")
	typed, _, closed := strings.Cut(after, "\n```")
	if !found || !closed {
		return errors.New("README.md has no Go program")
	}
	dir, err := r.newModule(r.tree.root().path + "@" + r.version)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "readme_test.go"), []byte(typed+"\n"), 0o644); err != nil {
		return err
	}
	got, err := r.run(dir, "go", "test", "-v", ".")
	if err == nil && !strings.Contains(got, "--- PASS: Example") {
		err = fmt.Errorf("it was not run:\n%s", got)
	}
	return err
}

// newerRoot builds the other libraries with a root whose internal packages are
// elsewhere: a user may have any newer root beside them.
func (r *rehearsal) newerRoot() error {
	newer, err := packMoved(r.tree, filepath.Join(r.dir, "newer"), r.proxy)
	if err != nil {
		return err
	}
	root := r.tree.root()
	required := []string{root.path + "@" + newer}
	var built []string
	for _, m := range r.tree.published() {
		if m.kind == library && slices.Contains(r.tree.required(m), root) {
			required = append(required, m.path+"@"+r.version)
			built = append(built, m.path+"/...")
		}
	}
	dir, err := r.newModule(required...)
	if err != nil {
		return err
	}
	_, err = r.run(dir, "go", append([]string{"build", "-mod=mod"}, built...)...)
	return err
}

// packMoved packs a root whose internal packages have other paths, as a newer
// version, and returns that.
func packMoved(t *tree, dir, proxy string) (string, error) {
	if err := t.copyTo(dir); err != nil {
		return "", err
	}
	moved := &tree{dir: dir, modules: t.modules}
	root := t.root()
	for _, name := range t.files {
		if t.owner(name) != root {
			continue
		}
		text, err := t.read(name)
		if err != nil {
			return "", err
		}
		text = bytes.ReplaceAll(text, []byte(root.path+"/internal/"), []byte(root.path+"/internal/moved/"))
		if inside, ok := strings.CutPrefix(name, "internal/"); ok {
			name = "internal/moved/" + inside
		}
		if err := os.MkdirAll(filepath.Dir(moved.at(name)), 0o755); err != nil {
			return "", err
		}
		if err := moved.write(name, text); err != nil {
			return "", err
		}
	}
	newer := t.version() + ".newer"
	_, err := moved.pack(root, newer, proxy)
	return newer, err
}
