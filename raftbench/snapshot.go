package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

const aboutSnapshot = `Measures InstallSnapshot from a file to a file over loopback, and what a plain copy of
the same file to a file does in the same rounds. Flags:
`

// snapshotOptions are what the command line asks for.
type snapshotOptions struct {
	mib         int
	rounds      int
	timeout     time.Duration
	dir         string
	format      format
	json        string
	credentials *credentials // nil for plain TCP
}

func parseSnapshotOptions(args []string, help io.Writer) (snapshotOptions, error) {
	var o snapshotOptions
	flags := newFlagSet("snapshot")
	flags.IntVar(&o.mib, "size", 256, "`MiB` of the snapshot; twice as much is needed on disk")
	flags.IntVar(&o.rounds, "rounds", 5, "`rounds` in which each rival is measured once")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit of the transports")
	flags.StringVar(&o.dir, "dir", "", "`directory` for both files, for example on another disk or in memory (default the system's for temporary files)")
	formatFlag(flags, &o.format)
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to `file`")
	secure := flags.Bool("tls", false, "over TLS, with certificates that are made for the run")
	if err := parseFlags(flags, args, aboutSnapshot, help); err != nil {
		return o, err
	}
	switch {
	case o.mib < 1:
		return o, fmt.Errorf("-size %d: at least 1 MiB is needed", o.mib)
	case o.rounds < 1 || o.rounds > maxRounds:
		return o, fmt.Errorf("-rounds %d: choose from 1 to %d", o.rounds, maxRounds)
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	}
	if *secure {
		var err error
		if o.credentials, err = newCredentials(newSecret()); err != nil {
			return o, err
		}
	}
	return o, ensureWritable(o.json)
}

// A snapshotRival carries the file from to the file to, and tells how long it
// took once both ends were there. It ends early when ctx is done.
type snapshotRival struct {
	name  string
	carry func(ctx context.Context, from, to string, o snapshotOptions) (time.Duration, error)
}

const nameRawCopy = "raw-copy"

var snapshotRivals = []snapshotRival{
	{nameRawCopy, carryRaw},
	{nameHashicorp, hashicorpStack.carry},
	{nameRaftwire, raftwireStack.carry},
}

// The figures of a snapshot, which cost both ends CPU time.
const (
	figureRate = "MB/s"
	figureCPU  = "CPU s/GB"
)

// measureSnapshots is the command snapshot.
func measureSnapshots(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseSnapshotOptions(args, out)
	if err != nil {
		return err
	}
	trials := &Trials{
		Command: "snapshot",
		About: fmt.Sprintf("InstallSnapshot of %d MiB over loopback %s, from a file to a file, both ends in one process",
			o.mib, wire(o.credentials != nil)),
		Machine: thisMachine(),
		Figures: []string{figureRate, figureCPU},
		To:      nameRawCopy,
	}
	err = o.measureInto(ctx, trials, newProgress(os.Stderr))
	return errors.Join(err, trials.publish(out, o.format, o.json))
}

// measureInto leaves nothing behind in the directory.
func (o snapshotOptions) measureInto(ctx context.Context, trials *Trials, status *progress) (err error) {
	dir, err := os.MkdirTemp(o.dir, "raftbench-")
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	from, to := filepath.Join(dir, "snapshot"), filepath.Join(dir, "installed")
	if err := writeRandom(ctx, from, o.mib); err != nil {
		return err
	}
	status.begin(o.rounds * len(snapshotRivals))
	defer status.end()
	for round := range o.rounds {
		for _, r := range turn(snapshotRivals, round) {
			status.show(round, o.rounds, fmt.Sprintf("%-14s", r.name))
			s, err := measureSnapshot(ctx, r, from, to, o)
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in round %d of %d", round+1, o.rounds)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			trials.add(noCell, r.name, s)
			status.measured(s[figureRate], figureRate)
		}
	}
	return nil
}

// writeRandom writes a file that cannot be compressed on its way to the disk.
func writeRandom(ctx context.Context, file string, mib int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	for range mib {
		if err == nil && ctx.Err() == nil {
			_, err = io.CopyN(f, random, 1<<20)
		}
	}
	return errors.Join(err, f.Close())
}

// measureSnapshot leaves no file behind at to.
func measureSnapshot(ctx context.Context, r snapshotRival, from, to string, o snapshotOptions) (sample, error) {
	runtime.GC()
	cpu := cpuTime()
	took, err := r.carry(ctx, from, to, o)
	if err != nil {
		return nil, err
	}
	cpu = cpuTime() - cpu
	size, err := compareFiles(from, to)
	if err != nil {
		return nil, err
	}
	return sample{
		figureRate: float64(size) / 1e6 / took.Seconds(),
		figureCPU:  cpu.Seconds() / float64(size) * 1e9,
	}, os.Remove(to)
}

// compareFiles returns the size of both files, or an error if they differ.
func compareFiles(from, to string) (size int64, err error) {
	a, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	bufferA, bufferB := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(a, bufferA)
		m, errB := io.ReadFull(b, bufferB)
		if !bytes.Equal(bufferA[:n], bufferB[:m]) {
			return 0, fmt.Errorf("the snapshot arrived altered within %d bytes after byte %d", len(bufferA), size)
		}
		size += int64(n)
		if errA != nil || errB != nil {
			return size, nil // a whole MiB for a whole MiB, so at the end of both
		}
	}
}

// carry is a snapshotRival's carry.
func (t stack) carry(ctx context.Context, from, to string, o snapshotOptions) (took time.Duration, err error) {
	s := setup{timeout: o.timeout, saveTo: to, credentials: o.credentials}
	r, err := t.listen(loopback, s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	x, err := t.dial(s)
	if err != nil {
		return 0, err
	}
	end := sync.OnceValue(x.Close)
	defer func() { err = errors.Join(err, end()) }()
	defer context.AfterFunc(ctx, func() { _ = end() })()
	l := x.link(r.address(), s)
	return carryFile(from, l.snapshot)
}

// carryFile times send, which gets the open file.
func carryFile(from string, send func(body io.Reader, size int64) error) (time.Duration, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = send(f, info.Size())
	return time.Since(start), err
}

// carryRaw copies with io.Copy on both ends, so that the system may move the
// bytes by itself where it can.
func carryRaw(ctx context.Context, from, to string, o snapshotOptions) (time.Duration, error) {
	client, server, err := connect(o.credentials, o.timeout)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	return carryFile(from, func(body io.Reader, _ int64) error { return copyRaw(client, server, body, to) })
}

func copyRaw(client, server net.Conn, body io.Reader, to string) error {
	saved := make(chan error, 1)
	go func() { saved <- save(to, server) }()
	_, err := io.Copy(client, body)
	return errors.Join(err, client.Close(), <-saved) // save ends with the connection
}

// save copies a snapshot into a new file, as a snapshot store does.
func save(file string, body io.Reader) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}
