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
the same file to a file does in the same rounds; or, with -store, from one of hashicorp/raft's
snapshot stores to another, as a cluster does. Flags:
`

// snapshotOptions are what the command line asks for.
type snapshotOptions struct {
	mib         int
	rounds      int
	timeout     time.Duration
	dir         string
	store       bool
	format      format
	json        string
	credentials *credentials // nil for plain TCP
}

func parseSnapshotOptions(args []string, help io.Writer) (snapshotOptions, error) {
	var o snapshotOptions
	flags := newFlagSet("snapshot")
	flags.IntVar(&o.mib, "size", 256, "`MiB` of the snapshot; twice as much is needed on disk")
	flags.IntVar(&o.rounds, "rounds", 5, "`rounds` in which each rival is measured once")
	flags.BoolVar(&o.store, "store", false, "from and to a FileSnapshotStore of hashicorp/raft, which computes checksums and syncs, instead of plain files")
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

// A snapshotRival carries a snapshot, and tells how long it took once both ends
// were there. It ends early when ctx is done.
type snapshotRival struct {
	name  string
	carry func(ctx context.Context, ends snapshotEnds, o snapshotOptions) (time.Duration, error)
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
		About: fmt.Sprintf("InstallSnapshot of %d MiB over loopback %s, from %s, both ends in one process",
			o.mib, wire(o.credentials != nil), o.fromAndTo()),
		Machine: thisMachine(),
		Figures: []string{figureRate, figureCPU},
		To:      nameRawCopy,
	}
	err = o.measureInto(ctx, trials, newProgress(os.Stderr))
	return errors.Join(err, trials.publish(out, o.format, o.json))
}

func (o snapshotOptions) fromAndTo() string {
	if o.store {
		return "a FileSnapshotStore to another"
	}
	return "a file to a file"
}

// measureInto leaves nothing behind in the directory.
func (o snapshotOptions) measureInto(ctx context.Context, trials *Trials, status *progress) (err error) {
	dir, err := os.MkdirTemp(o.dir, "raftbench-")
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	from := filepath.Join(dir, "snapshot")
	if err := writeRandom(ctx, from, o.mib); err != nil {
		return err
	}
	ends := fileEnds(from, filepath.Join(dir, "installed"))
	if o.store {
		if ends, err = storeEnds(from, filepath.Join(dir, "from"), filepath.Join(dir, "to")); err != nil {
			return err
		}
	}
	status.begin(o.rounds * len(snapshotRivals))
	defer status.end()
	for round := range o.rounds {
		for _, r := range turn(snapshotRivals, round) {
			status.show(round, o.rounds, fmt.Sprintf("%-14s", r.name))
			s, err := measureSnapshot(ctx, r, from, ends, o)
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

// measureSnapshot compares what arrived with the file from, and leaves none of
// it behind.
func measureSnapshot(ctx context.Context, r snapshotRival, from string, ends snapshotEnds, o snapshotOptions) (sample, error) {
	runtime.GC()
	cpu := cpuTime()
	took, err := r.carry(ctx, ends, o)
	if err != nil {
		return nil, err
	}
	cpu = cpuTime() - cpu
	size, err := compareFiles(from, ends.arrived())
	if err != nil {
		return nil, err
	}
	return sample{
		figureRate: float64(size) / 1e6 / took.Seconds(),
		figureCPU:  cpu.Seconds() / float64(size) * 1e9,
	}, ends.remove()
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
func (t stack) carry(ctx context.Context, ends snapshotEnds, o snapshotOptions) (took time.Duration, err error) {
	s := setup{timeout: o.timeout, save: ends.save, credentials: o.credentials}
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
	return ends.time(l.snapshot)
}

// carryRaw copies with io.Copy on both ends, so that the system may move the
// bytes by itself where it can.
func carryRaw(ctx context.Context, ends snapshotEnds, o snapshotOptions) (time.Duration, error) {
	client, server, err := connect(o.credentials, o.timeout)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	return ends.time(func(body io.Reader, _ int64) error { return copyRaw(client, server, body, ends.save) })
}

func copyRaw(client, server net.Conn, body io.Reader, save func(io.Reader) error) error {
	saved := make(chan error, 1)
	go func() { saved <- save(server) }()
	_, err := io.Copy(client, body)
	return errors.Join(err, client.Close(), <-saved) // save ends with the connection
}
