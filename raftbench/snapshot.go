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
	"time"
)

const aboutSnapshot = `Measures InstallSnapshot from a file to a file over loopback TCP, and what a plain
copy of the same file to a file does in the same rounds. Flags:
`

// snapshotOptions are what the command line asks for.
type snapshotOptions struct {
	mib     int
	rounds  int
	timeout time.Duration
	dir     string
}

func parseSnapshotOptions(args []string, help io.Writer) (snapshotOptions, error) {
	var o snapshotOptions
	flags := newFlagSet("snapshot")
	flags.IntVar(&o.mib, "size", 256, "`MiB` of the snapshot; twice as much is needed on disk")
	flags.IntVar(&o.rounds, "rounds", 5, "`rounds` in which each rival is measured once")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit of the transports")
	flags.StringVar(&o.dir, "dir", "", "`directory` for both files, for example on another disk or in memory (default the system's for temporary files)")
	if err := parseFlags(flags, args, aboutSnapshot, help); err != nil {
		return o, err
	}
	switch {
	case o.mib < 1:
		return o, fmt.Errorf("-size %d: at least 1 MiB is needed", o.mib)
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: at least 1 is needed", o.rounds)
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	}
	return o, nil
}

// A snapshotRival carries the file from to the file to, and tells how long it
// took once both ends were there.
type snapshotRival struct {
	name  string
	carry func(from, to string, timeout time.Duration) (time.Duration, error)
}

const nameRawCopy = "raw-copy"

var snapshotRivals = []snapshotRival{
	{nameRawCopy, carryRaw},
	{nameHashicorp, hashicorpStack.carry},
	{nameRaftwire, raftwireStack.carry},
}

// A transfer is what one snapshot took.
type transfer struct {
	mbPerSecond float64
	cpuPerGB    float64 // seconds, both ends
}

// measureSnapshots is the command snapshot.
func measureSnapshots(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parseSnapshotOptions(args, out)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "raftbench-")
	if err != nil {
		return fmt.Errorf("-dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	from, to := filepath.Join(dir, "snapshot"), filepath.Join(dir, "installed")
	if err := writeRandom(from, o.mib); err != nil {
		return err
	}
	transfers := make(map[string][]transfer)
	for round := range o.rounds {
		for i := range snapshotRivals {
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in round %d of %d", round+1, o.rounds)
			}
			r := snapshotRivals[(i+round)%len(snapshotRivals)]
			t, err := measureSnapshot(r, from, to, o.timeout)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			transfers[r.name] = append(transfers[r.name], t)
		}
	}
	writeSnapshots(out, o, transfers)
	return nil
}

// writeRandom writes a file that cannot be compressed on its way to the disk.
func writeRandom(file string, mib int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), int64(mib)<<20)
	return errors.Join(err, f.Close())
}

// measureSnapshot leaves no file behind at to.
func measureSnapshot(r snapshotRival, from, to string, timeout time.Duration) (transfer, error) {
	runtime.GC()
	cpu := cpuTime()
	took, err := r.carry(from, to, timeout)
	if err != nil {
		return transfer{}, err
	}
	cpu = cpuTime() - cpu
	size, err := compareFiles(from, to)
	if err != nil {
		return transfer{}, err
	}
	return transfer{
		mbPerSecond: float64(size) / 1e6 / took.Seconds(),
		cpuPerGB:    cpu.Seconds() / float64(size) * 1e9,
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
func (t stack) carry(from, to string, timeout time.Duration) (took time.Duration, err error) {
	s := setup{timeout: timeout, saveTo: to}
	r, err := t.listen(loopback, s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	x, err := t.dial(s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
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
func carryRaw(from, to string, timeout time.Duration) (time.Duration, error) {
	client, server, err := connect()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	defer server.Close()
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

func writeSnapshots(out io.Writer, o snapshotOptions, transfers map[string][]transfer) {
	fmt.Fprintf(out, "InstallSnapshot of %d MiB over loopback TCP, from a file to a file, both ends in one process\n", o.mib)
	fmt.Fprintf(out, "%s\nmedians over %d rounds\n\n", thisMachine(), o.rounds)
	rows := [][]string{{"rival", "MB/s", "of rounds", "CPU s/GB", "ratio to raw"}}
	for _, r := range snapshotRivals {
		rows = append(rows, snapshotRow(r.name, transfers[r.name], transfers[nameRawCopy]))
	}
	writeAligned(out, 1, rows)
	fmt.Fprint(out, "\nratio to raw: of MB/s, the median of the rounds' ratios. CPU: both ends, user and system.\n")
}

func snapshotRow(name string, transfers, raw []transfer) []string {
	var rates, cpu, ratios []float64
	for i, t := range transfers {
		rates = append(rates, t.mbPerSecond)
		cpu = append(cpu, t.cpuPerGB)
		ratios = append(ratios, t.mbPerSecond/raw[i].mbPerSecond)
	}
	return []string{name, short(median(rates)), rangeText(rates), short(median(cpu)), fmt.Sprintf("%.2f", median(ratios))}
}
