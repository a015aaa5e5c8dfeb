package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	hashicorp "github.com/hashicorp/raft"
)

// snapshotEnds are where a snapshot comes from and where it goes to.
type snapshotEnds struct {
	open    func() (body io.ReadCloser, size int64, err error)
	save    func(body io.Reader) error
	arrived func() string // file that save has written
	remove  func() error  // removes what save has written
}

// time times send, which gets the open snapshot.
func (e snapshotEnds) time(send func(body io.Reader, size int64) error) (time.Duration, error) {
	body, size, err := e.open()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = send(body, size)
	took := time.Since(start)
	return took, errors.Join(err, body.Close())
}

// fileEnds are two files.
func fileEnds(from, to string) snapshotEnds {
	return snapshotEnds{
		open:    func() (io.ReadCloser, int64, error) { return openFile(from) },
		save:    func(body io.Reader) error { return saveFile(to, body) },
		arrived: func() string { return to },
		remove:  func() error { return os.Remove(to) },
	}
}

func openFile(name string) (io.ReadCloser, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func saveFile(name string, body io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

// storeEnds are two snapshot stores in directories, the first of which has the
// snapshot that is in a file.
func storeEnds(file, from, to string) (ends snapshotEnds, err error) {
	source, err := openStore(from)
	if err != nil {
		return ends, err
	}
	body, _, err := openFile(file)
	if err != nil {
		return ends, err
	}
	if err := errors.Join(saveInStore(source, body), body.Close()); err != nil {
		return ends, err
	}
	return snapshotEnds{
		open: func() (io.ReadCloser, int64, error) { return openInStore(source) },
		save: func(body io.Reader) error {
			store, err := openStore(to)
			if err != nil {
				return err
			}
			return saveInStore(store, body)
		},
		arrived: func() string { return stateIn(to) },
		remove:  func() error { return os.RemoveAll(to) },
	}, nil
}

func openStore(dir string) (*hashicorp.FileSnapshotStore, error) {
	return hashicorp.NewFileSnapshotStoreWithLogger(dir, 1, silence)
}

func openInStore(store *hashicorp.FileSnapshotStore) (io.ReadCloser, int64, error) {
	list, err := store.List()
	if err != nil {
		return nil, 0, err
	}
	if len(list) != 1 {
		return nil, 0, errors.New("the snapshot is not in its store")
	}
	meta, body, err := store.Open(list[0].ID)
	if err != nil {
		return nil, 0, err
	}
	return body, meta.Size, nil
}

// saveInStore copies as a Raft core does: through a buffer, with a reader that
// counts what it reads and can nothing else.
func saveInStore(store *hashicorp.FileSnapshotStore, body io.Reader) error {
	sink, err := store.Create(1, lastIndex, term, hashicorp.Configuration{}, 1, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sink, struct{ io.Reader }{body}); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// stateIn returns the file that has the only snapshot of a store, or where it
// would be.
func stateIn(dir string) string {
	pattern := filepath.Join(dir, "snapshots", "*", "state.bin")
	if files, _ := filepath.Glob(pattern); len(files) == 1 {
		return files[0]
	}
	return pattern
}
