package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startHere is startSelf without another process.
func startHere(_ context.Context, rival string) (*idleProcess, error) {
	questionsOut, questions := io.Pipe()
	answersOut, answers := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serveIdle(idleOptions{conns: 1, serve: rival, timeout: 10 * time.Second}, questionsOut, answers)
		answers.CloseWithError(err)
		ended <- err
	}()
	return &idleProcess{questions, bufio.NewReader(answersOut), func() error { return <-ended }}, nil
}

func TestIdleConnectionsAreMeasured(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, idleWith(t.Context(), idleOptions{conns: 30, timeout: 10 * time.Second}, startHere, &out))
	require.Contains(t, out.String(), "with 30 of them")
	for _, r := range idleRivals {
		require.Regexp(t, `(?m)^`+r.name+` +[0-9,]+ .* 1\.00$`, out.String(), "one goroutine each")
	}
}

func TestIdleErrorsSayWhatToDo(t *testing.T) {
	for want, args := range map[string][]string{
		"at least 1 is needed":      {"-conns", "0"},
		"for example 10s":           {"-timeout", "0s"},
		"choose from raw, hashicor": {"-serve", "etcd"},
		"-h lists the flags":        {"-connections", "1"},
	} {
		require.ErrorContains(t, measureIdle(t.Context(), args, io.Discard), want)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	err := idleWith(ctx, idleOptions{conns: 1, timeout: time.Second}, startHere, io.Discard)
	require.ErrorContains(t, err, "raw: interrupted")
}

func TestFewerConnectionsWhereFilesAreLimited(t *testing.T) {
	require.Equal(t, 10, connsAllowed(10))
	require.LessOrEqual(t, connsAllowed(1<<30), 1<<30)
	require.Positive(t, connsAllowed(1<<30))
}
