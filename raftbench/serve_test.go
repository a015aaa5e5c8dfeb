package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveFor starts a server and returns what reaches it, as flags of run, and
// what stops it.
func serveFor(t *testing.T, flags ...string) (target []string, stop func()) {
	ctx, interrupt := context.WithCancel(t.Context())
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := dispatch(ctx, append([]string{"serve", "-listen", loopback, "-heap", "1"}, flags...), out)
		out.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(said)
	target = []string{"-target", findIn(t, lines, ` at (\S+), with`)}
	if slices.Contains(flags, "-tls") {
		target = append(target, "-tls-secret", findIn(t, lines, ` -tls-secret (\S+)$`))
	}
	go io.Copy(io.Discard, said)
	return target, func() {
		interrupt()
		require.NoError(t, <-ended)
	}
}

// findIn returns what the pattern's group matches in the first line that has it.
func findIn(t *testing.T, lines *bufio.Scanner, pattern string) string {
	for lines.Scan() {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text()); found != nil {
			return found[1]
		}
	}
	require.Fail(t, "not found", pattern)
	return ""
}

func TestRunMeasuresAServer(t *testing.T) {
	for _, flags := range [][]string{{"-rival", nameRaftwire}, {"-rival", nameHashicorp}, {"-tls"}, {"-rival", nameHashicorp, "-tls"}} {
		target, stop := serveFor(t, flags...)
		args := append(strings.Fields("run -workloads heartbeat,1x0,2x128 -windows sync,2,stream -rounds 1 -slice 2ms -heap 1"), target...)
		for range 2 { // the second finds a server that has answered
			var out bytes.Buffer
			require.NoError(t, dispatch(t.Context(), args, &out), flags)
			require.Contains(t, out.String(), " to "+target[1])
			require.Equal(t, slices.Contains(flags, "-tls"), strings.Contains(out.String(), "over TLS"))
			require.Len(t, regexp.MustCompile(`(?m)^\w+ +\w+ +raftwire `).FindAllString(out.String(), -1), 5)
			require.NotContains(t, out.String(), "raw-")
		}
		stop()
	}
}

// Whoever does not speak what the server does learns it before the run.
func TestATargetIsTriedFirst(t *testing.T) {
	plain, stopPlain := serveFor(t)
	defer stopPlain()
	secure, stopSecure := serveFor(t, "-tls")
	defer stopSecure()
	for _, test := range []struct {
		args []string
		hint string
	}{
		{secure[:2], "without -tls?"},
		{[]string{"-target", "127.0.0.1:1"}, "without -tls?"},
		{[]string{secure[0], secure[1], "-tls-secret", "another"}, "print this secret?"},
		{[]string{plain[0], plain[1], "-tls-secret", secure[3]}, "print this secret?"},
	} {
		require.ErrorContains(t, run(t.Context(), slices.Concat(test.args, []string{"-timeout", "2s"}), io.Discard), test.hint, test.args)
	}
}

func TestATargetMayBeSomethingElse(t *testing.T) {
	client, other := net.Pipe()
	defer client.Close()
	go func() {
		defer other.Close()
		other.Read(make([]byte, 1<<10))
		io.WriteString(other, "HTTP/1.1 400 Bad Request\r\n"+strings.Repeat("x", 1<<10))
	}()
	require.ErrorContains(t, beat(client, 10*time.Second), `"HTTP/1.1`)
}

func TestServeAndTargetErrorsSayWhatToDo(t *testing.T) {
	for want, args := range map[string]string{
		"write HOST:PORT":          "serve",
		`-listen "7000": write`:    "serve -listen 7000",
		"choose from hashicorp/ra": "serve -listen :0 -rival raw",
		"from 0 to":                "serve -listen :0 -heap -1",
		"-listen 192.0.2.1:0":      "serve -listen 192.0.2.1:0 -heap 1",
		`-target "there": write`:   "run -target there",
		"there is one":             "-target there:1 -followers 2",
		"takes no plain TCP":       "-target there:1 -rivals raw-stream",
		"for a -target":            "-tls-secret x",
		"needs -tls-secret":        "-target there:1 -tls",
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
