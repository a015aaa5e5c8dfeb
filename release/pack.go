package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// packTree makes a GOPROXY of files in dir/proxy, which has the published modules
// of the tree at a made-up version. It leaves in dir/tree a copy of the tree whose
// modules require each other at that version, and in dir/env the settings with
// which to work in that copy.
func (t *tree) packTree(dir string, kinds map[string]kind) (string, error) {
	version, err := t.madeUpVersion()
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty", dir)
	}
	if err := t.copyTo(filepath.Join(dir, "tree")); err != nil {
		return "", err
	}
	copied, err := openTree(filepath.Join(dir, "tree"), kinds)
	if err != nil {
		return "", err
	}
	if err := copied.setVersion(version, filepath.Join(dir, "proxy")); err != nil {
		return "", err
	}
	env, err := outside(dir)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, setting := range env {
		name, value, _ := strings.Cut(setting, "=")
		fmt.Fprintf(&lines, "export %s='%s'\n", name, value)
	}
	return version, os.WriteFile(filepath.Join(dir, "env"), []byte(lines.String()), 0o644)
}

// madeUpVersion returns a version that is newer than the last release, and older
// than any to come. It holds a hash of the tree, so that the module cache has
// nothing else under it.
func (t *tree) madeUpVersion() (string, error) {
	hash := sha256.New()
	for _, name := range t.files {
		text, err := t.read(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%q %d\n", name, len(text))
		hash.Write(text)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(semver.Canonical(t.version()), "v%d.%d.%d", &major, &minor, &patch); err != nil {
		return "", fmt.Errorf("version %q: %w", t.version(), err)
	}
	return fmt.Sprintf("v%d.%d.%d-0.tree.h%x", major, minor, patch+1, hash.Sum(nil)[:6]), nil
}

// pack writes what a GOPROXY has of a module at a version, and returns its
// hashes.
func (t *tree) pack(m *mod, version, proxy string) ([]sum, error) {
	of := module.Version{Path: m.path, Version: version}
	escaped, err := module.EscapePath(m.path)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	gomod, err := t.read(path.Join(m.dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return nil, err
	}
	archive := filepath.Join(dir, version+".zip")
	err = errors.Join(
		appendLine(filepath.Join(dir, "list"), version),
		os.WriteFile(filepath.Join(dir, version+".info"), info, 0o644),
		os.WriteFile(filepath.Join(dir, version+".mod"), gomod, 0o644),
		t.zip(m, of, archive),
	)
	if err != nil {
		return nil, err
	}
	zipHash, err := dirhash.HashZip(archive, dirhash.Hash1)
	if err != nil {
		return nil, err
	}
	modHash, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(gomod)), nil
	})
	return []sum{{of, zipHash}, {module.Version{Path: m.path, Version: version + "/go.mod"}, modHash}}, err
}

// zip writes the archive of a module. [zip.Create] leaves out the modules inside
// it.
func (t *tree) zip(m *mod, of module.Version, name string) (err error) {
	var files []zip.File
	for _, file := range t.filesOf(m.dir) {
		files = append(files, zipped{file, t.at(path.Join(m.dir, file))})
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return zip.Create(f, of, files)
}

// zipped is a [zip.File] on disk.
type zipped struct{ inside, onDisk string }

func (f zipped) Path() string                 { return f.inside }
func (f zipped) Lstat() (os.FileInfo, error)  { return os.Lstat(f.onDisk) }
func (f zipped) Open() (io.ReadCloser, error) { return os.Open(f.onDisk) }

func appendLine(name, line string) (err error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = fmt.Fprintln(f, line)
	return err
}
