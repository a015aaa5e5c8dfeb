package main

import (
	"bytes"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFlagsOverrideThePreset(t *testing.T) {
	opts, err := parseOptions([]string{"-rounds", "7", "-workloads", "1x1M, 2x3K", "-quick", "-windows=sync,9"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []workload{{1, 1 << 20}, {2, 3 << 10}}, opts.workloads)
	require.Equal(t, []window{oneByOne, 9}, opts.windows)
	require.Equal(t, 7, opts.rounds)
	require.Equal(t, quickOptions().slice, opts.slice)
	require.Equal(t, 10*time.Second, opts.timeout)
}

func TestQuickMeasuresLess(t *testing.T) {
	full, err := parseOptions([]string{"-quick=false"}, io.Discard)
	require.NoError(t, err)
	quick, err := parseOptions([]string{"-quick"}, io.Discard)
	require.NoError(t, err)
	require.Less(t, 3*runTime(quick), runTime(full))
	require.Less(t, runTime(quick), 40*time.Second)
	require.Less(t, runTime(full), 170*time.Second)
	for _, opts := range []options{full, quick} {
		require.NotNil(t, interval(make([]float64, opts.rounds)), "there are rounds enough")
	}
}

// runTime is the time spent measuring.
func runTime(opts options) (total time.Duration) {
	for _, t := range opts.tasks() {
		total += time.Duration(len(t.rivals)*opts.rounds) * opts.slice * 9 / 8
	}
	return total
}

func TestTLSIsAskedFor(t *testing.T) {
	for args, secured := range map[string]bool{"-quick": false, "-tls": true, "-target there:1 -tls-secret x": true, "-target there:1": false} {
		opts, err := parseOptions(strings.Fields(args), io.Discard)
		require.NoError(t, err)
		require.Equal(t, secured, opts.credentials != nil, args)
		require.Equal(t, secured, newReport(opts).Settings.TLS, args)
	}
	require.Equal(t, "TLS alone", seriesNames(true)[floorSeries])
}

func TestBadFlagsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-workloads", "64"}, "such as 1x128"},
		{[]string{"-workloads", "0x128"}, "such as 1x128"},
		{[]string{"-workloads", "65535x1M"}, "up to 256M"},
		{[]string{"-workloads", "1x128,1x128"}, "named twice"},
		{[]string{"-workloads", "heartbeat", "-windows", "2"}, "a heartbeat has sync"},
		{[]string{"-followers", "0"}, "from 1 to 255"},
		{[]string{"-windows", "1"}, "from 2 to 65535"},
		{[]string{"-windows", "many"}, "write sync"},
		{[]string{"-rivals", "etcd"}, "choose from raw-ping-pong"},
		{[]string{"-rivals", "raw-stream", "-windows", "sync"}, "plain TCP has sync and stream"},
		{[]string{"-rounds", "0"}, "from 1 to 1000"},
		{[]string{"-rounds", "1001"}, "from 1 to 1000"},
		{[]string{"-slice", "0s"}, "for example 200ms"},
		{[]string{"-slice", "fast"}, "-h lists the flags"},
		{[]string{"-timeout", "-1s"}, "for example 10s"},
		{[]string{"-heap", "-1"}, "from 0 to"},
		{[]string{"-fast"}, "-h lists the flags"},
		{[]string{"quick"}, "unexpected argument"},
	} {
		_, err := parseOptions(test.args, io.Discard)
		require.ErrorContains(t, err, test.want, "%q", test.args)
	}
}

func TestHelpNamesFlagsAndDefaults(t *testing.T) {
	var help bytes.Buffer
	_, err := parseOptions([]string{"-h"}, &help)
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help.String(), "-workloads")
	require.Contains(t, help.String(), `"heartbeat,1x128,1x1K,64x128,64x1K,64x16K,1x1M"`)
}
