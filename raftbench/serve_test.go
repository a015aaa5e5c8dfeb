package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// serveFor starts a server and returns its address and what stops it.
func serveFor(t *testing.T, rival string) (address string, stop func()) {
	ctx, interrupt := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := dispatch(ctx, []string{"serve", "-listen", loopback, "-rival", rival, "-heap", "1"}, out)
		out.CloseWithError(err)
		ended <- err
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err)
	go io.Copy(io.Discard, said)
	_, rest, _ := strings.Cut(line, " receives at ")
	address, _, _ = strings.Cut(rest, ",")
	return address, func() {
		interrupt()
		require.NoError(t, <-ended)
	}
}

func TestRunMeasuresAServer(t *testing.T) {
	for _, receiver := range []string{nameRaftwire, nameHashicorp} {
		address, stop := serveFor(t, receiver)
		args := strings.Fields("run -workloads heartbeat,1x0,2x128 -windows sync,2,stream -rounds 2 -slice 2ms -heap 1 -target " + address)
		for range 2 { // the second finds a server that has answered
			var out bytes.Buffer
			require.NoError(t, dispatch(t.Context(), args, &out), receiver)
			require.Contains(t, out.String(), "AppendEntries to "+address)
			require.Len(t, regexp.MustCompile(`(?m)^\w+ +\w+ +raftwire `).FindAllString(out.String(), -1), 5)
			require.NotContains(t, out.String(), "raw-")
		}
		stop()
	}
}

func TestServeAndTargetErrorsSayWhatToDo(t *testing.T) {
	for want, args := range map[string]string{
		"write HOST:PORT":         "serve",
		`-listen "7000": write`:   "serve -listen 7000",
		"choose from raftwire, h": "serve -listen :0 -rival raw",
		"0 or more":               "serve -listen :0 -heap -1",
		"-listen 192.0.2.1:0":     "serve -listen 192.0.2.1:0 -heap 1",
		`-target "there": write`:  "run -target there",
		"there is one":            "-target there:1 -followers 2",
		"-bars: they compare":     "-target there:1 -bars",
		"takes no plain TCP":      "-target there:1 -rivals raw-stream",
		"serve -listen HOST:PORT": "run -target 127.0.0.1:1",
	} {
		require.ErrorContains(t, dispatch(t.Context(), strings.Fields(args), io.Discard), want)
	}
}

func TestServeListensAtEveryAddress(t *testing.T) {
	for name, stack := range stacks {
		r, err := stack.listen(":0", setup{timeout: 1})
		require.NoError(t, err, name)
		require.NoError(t, r.Close())
	}
}
