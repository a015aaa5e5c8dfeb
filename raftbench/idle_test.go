package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startHere is startReceiver without another process.
func startHere(_ context.Context, _ idleOptions, rival string) (*process, error) {
	questionsOut, questions := io.Pipe()
	answersOut, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serveIdle(idleOptions{conns: 1, serve: rival, timeout: 10 * time.Second}, questionsOut, answers)
		answers.CloseWithError(err)
		ended <- err
	}()
	return newProcess(questions, answersOut, func() error { return <-ended }, func() {}), nil
}

func TestIdleConnectionsAreMeasured(t *testing.T) {
	var out bytes.Buffer
	o := idleOptions{conns: 30, rounds: 2, timeout: 10 * time.Second, json: filepath.Join(t.TempDir(), "idle.json")}
	require.NoError(t, idleWith(t.Context(), o, startHere, &progress{out: io.Discard}, &out))
	require.Contains(t, out.String(), "with 30 of them")
	for _, r := range idleRivals {
		require.Regexp(t, `(?m)^`+r.name+` +[0-9,]+ .* (1\.0|0\.9)\d `, out.String(), "one goroutine each, give or take one that ends")
	}

	out.Reset()
	require.NoError(t, compare(t.Context(), []string{o.json, o.json}, &out))
	require.Regexp(t, `(?m)^raftwire +goroutines .*\+0\.0%\)?$`, out.String())
	require.Regexp(t, `(?m)^raftwire +heap B .* hashicorp/raft$`, out.String())
}

func TestIdleErrorsSayWhatToDo(t *testing.T) {
	for want, args := range map[string][]string{
		"at least 1 is needed":      {"-conns", "0"},
		"from 1 to 1000":            {"-rounds", "0"},
		"no such file":              {"-json", filepath.Join(t.TempDir(), "missing", "idle.json")},
		"for example 10s":           {"-timeout", "0s"},
		"choose from raw, hashicor": {"-serve", "etcd"},
		"-h lists the flags":        {"-connections", "1"},
	} {
		require.ErrorContains(t, measureIdle(t.Context(), args, io.Discard), want)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	err := idleWith(ctx, idleOptions{conns: 1, rounds: 1, timeout: time.Second}, startHere, &progress{out: io.Discard}, io.Discard)
	require.EqualError(t, err, "interrupted in round 1 of 1")
}

func TestFewerConnectionsWhereFilesAreLimited(t *testing.T) {
	require.Equal(t, 10, connsAllowed(10))
	require.LessOrEqual(t, connsAllowed(1<<30), 1<<30)
	require.Positive(t, connsAllowed(1<<30))
}

func TestConnectionsBeyondALimitSayWhichOne(t *testing.T) {
	require.Contains(t, advice(&net.OpError{Err: syscall.EADDRNOTAVAIL}), "local ports")
	require.Contains(t, advice(&net.OpError{Err: syscall.EMFILE}), "open files")
	require.Empty(t, advice(io.EOF))
}
