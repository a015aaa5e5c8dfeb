package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapshotsAreMeasuredAndLeaveNothing(t *testing.T) {
	for _, flag := range []string{"-tls=false", "-tls", "-store"} {
		dir := t.TempDir()
		figures := filepath.Join(t.TempDir(), "snapshot.json")
		var out bytes.Buffer
		require.NoError(t, dispatch(t.Context(), []string{"snapshot", "-size", "1", "-rounds", "2", "-dir", dir, "-json", figures, flag}, &out))
		require.Contains(t, out.String(), "InstallSnapshot of 1 MiB over loopback T")
		require.Equal(t, flag == "-tls", strings.Contains(out.String(), "loopback TLS"))
		require.Equal(t, flag == "-store", strings.Contains(out.String(), "from a FileSnapshotStore to another"))
		for _, r := range snapshotRivals {
			require.Contains(t, out.String(), "\n"+r.name+" ")
		}
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)

		out.Reset()
		require.NoError(t, compare(t.Context(), []string{figures, figures}, &out))
		require.Regexp(t, `(?m)^raftwire +MB/s .* raw-copy$`, out.String())
	}
}

// What was measured before an interrupt is shown, and no file stays.
func TestAnInterruptedSnapshotShowsWhatThereIs(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	dir := t.TempDir()
	o := snapshotOptions{mib: 1, rounds: 3, timeout: 10 * time.Second, dir: dir}
	trials := &Trials{Figures: []string{figureRate, figureCPU}, To: nameRawCopy}
	carry := snapshotRivals[1].carry
	defer func() { snapshotRivals[1].carry = carry }()
	snapshotRivals[1].carry = func(ctx context.Context, ends snapshotEnds, o snapshotOptions) (time.Duration, error) {
		interrupt()
		return carry(ctx, ends, o)
	}
	require.EqualError(t, o.measureInto(ctx, trials, &progress{out: io.Discard}), "interrupted in round 1 of 3")
	var out bytes.Buffer
	require.NoError(t, trials.publish(&out, formatTable, ""))
	require.Contains(t, out.String(), nameRawCopy)
	require.NotContains(t, out.String(), nameHashicorp)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestSnapshotErrorsSayWhatToDo(t *testing.T) {
	for want, args := range map[string][]string{
		"at least 1 MiB":      {"-size", "0"},
		"from 1 to 1000":      {"-rounds", "0"},
		"for example 10s":     {"-timeout", "0s"},
		"-h lists the flags":  {"-speed"},
		"unexpected argument": {"file"},
		"-dir":                {"-size", "1", "-dir", filepath.Join(t.TempDir(), "missing")},
	} {
		require.ErrorContains(t, measureSnapshots(t.Context(), args, io.Discard), want)
	}
	require.ErrorIs(t, measureSnapshots(t.Context(), []string{"-h"}, io.Discard), flag.ErrHelp)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	require.ErrorContains(t, measureSnapshots(ctx, []string{"-size", "1"}, io.Discard), "interrupted in round 1")
}

// A rival that loses or alters bytes is found out.
func TestAlteredSnapshotsAreFound(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	text := bytes.Repeat([]byte("snapshot"), 200_000)
	write := func(file string, text []byte) { require.NoError(t, os.WriteFile(file, text, 0o600)) }
	write(from, text)
	write(to, text)
	size, err := compareFiles(from, to)
	require.NoError(t, err)
	require.EqualValues(t, len(text), size)
	for _, altered := range [][]byte{text[1:], text[:len(text)-1], append(text[:len(text):len(text)], 'x'), text[:1<<20], nil} {
		write(to, altered)
		_, err = compareFiles(from, to)
		require.ErrorContains(t, err, "altered")
	}
}

func TestUnknownCommandNamesTheOthers(t *testing.T) {
	require.ErrorContains(t, dispatch(t.Context(), []string{"quick"}, io.Discard), "choose from run, snapshot")
	for _, word := range []string{"-h", "help"} {
		require.ErrorIs(t, dispatch(t.Context(), []string{word}, io.Discard), flag.ErrHelp)
	}
}
