package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// A node in the test's own process: what the API answers, and what the program
// says when it cannot start.

// running is a node that runs.
type running struct {
	t     *testing.T
	url   string
	stop  func()
	ended chan error
}

// start returns when the node says that it listens.
func start(t *testing.T, args ...string) *running {
	http := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, url: "http://" + http, stop: cancel, ended: make(chan error, 1)}
	said, out := io.Pipe()
	go func() {
		err := run(ctx, append([]string{"-id", "a", "-http", http}, args...), out, io.Discard)
		_ = out.CloseWithError(err)
		r.ended <- err
	}()
	_, err := said.Read(make([]byte, 1000))
	require.NoError(t, err)
	return r
}

// alone are the flags of a cluster of one.
func alone(t *testing.T) []string {
	return []string{"-peers", "a=" + freeAddress(t) + "/127.0.0.1:0", "-data", t.TempDir(), "-bootstrap"}
}

func (r *running) shutdown() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, <-r.ended)
}

// do sends a request and returns status and body.
func (r *running) do(method, path, body string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	require.NoError(r.t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(r.t, err)
	return answer.StatusCode, string(text)
}

// lead waits until the node is the leader.
func (r *running) lead() {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		_, status := r.do("GET", "/status", "")
		return strings.Contains(status, `"Leader"`)
	}, testPatience, 20*time.Millisecond)
}

func TestTheAPI(t *testing.T) {
	t.Parallel()
	r := start(t, alone(t)...)
	defer r.shutdown()
	r.lead()
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"GET", "/live", "", http.StatusOK, ""},
		{"GET", "/ready", "", http.StatusOK, ""},
		{"GET", "/kv/x", "", http.StatusNotFound, "no such key\n"},
		{"PUT", "/kv/x", "1", http.StatusNoContent, ""},
		{"GET", "/kv/x", "", http.StatusOK, "1"},
		{"GET", "/local/x", "", http.StatusOK, "1"},
		{"PUT", "/kv/x", "", http.StatusNoContent, ""},
		{"GET", "/kv/x", "", http.StatusOK, ""},
		{"PUT", "/kv/a/b%2Fc", "\x00\xff", http.StatusNoContent, ""},
		{"GET", "/kv/a/b/c", "", http.StatusOK, "\x00\xff"},
		{"GET", "/local", "", http.StatusOK, `{"a/b/c":"AP8=","x":""}` + "\n"},
		{"DELETE", "/kv/x", "", http.StatusNoContent, ""},
		{"DELETE", "/kv/x", "", http.StatusNoContent, ""},
		{"GET", "/kv/x", "", http.StatusNotFound, "no such key\n"},
		{"PUT", "/kv/x", strings.Repeat("x", maxValue), http.StatusNoContent, ""},
		{"PUT", "/kv/x", strings.Repeat("x", maxValue+1), http.StatusRequestEntityTooLarge, "a value may have 1 MiB\n"},
	} {
		status, answer := r.do(c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s", c.method, c.path)
		require.Equal(t, c.answer, answer, "%s %s", c.method, c.path)
	}
}

func TestANodeKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	flags := alone(t)
	for i, key := range []string{"/kv/1", "/kv/2"} {
		r := start(t, flags...)
		r.lead()
		status, _ := r.do("PUT", key, key)
		require.Equal(t, http.StatusNoContent, status)
		_, all := r.do("GET", "/local", "")
		require.Equal(t, i+1, strings.Count(all, ":"), all)
		r.shutdown()
	}
}

func TestWithoutALeaderRequestsAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t, "-peers", "a="+freeAddress(t)+"/127.0.0.1:0", "-data", t.TempDir()) // and no -bootstrap
	defer r.shutdown()
	for _, method := range []string{"PUT", "DELETE", "GET"} {
		status, answer := r.do(method, "/kv/x", "")
		require.Equal(t, http.StatusServiceUnavailable, status)
		require.Contains(t, answer, "no leader is known")
	}
	status, answer := r.do("GET", "/ready", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, answer, "no leader is known")
	status, _ = r.do("GET", "/live", "")
	require.Equal(t, http.StatusOK, status, "a new process would know no more")
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	taken := start(t, alone(t)...)
	defer taken.shutdown()
	busy := strings.TrimPrefix(taken.url, "http://")
	for name, c := range map[string]struct{ flags, says string }{
		"nothing":        {"", "-peers is missing"},
		"no id":          {"-peers a=127.0.0.1:1/127.0.0.1:2", "-id is missing"},
		"wrong id":       {"-id b -peers a=127.0.0.1:1/127.0.0.1:2", "-id b is not one of -peers"},
		"no HTTP port":   {"-id a -peers a=127.0.0.1:1", `"a=127.0.0.1:1" is not of the form name=host:port/host:port`},
		"no ports":       {"-id a -peers a=x/y", `"a=x/y" is not of the form`},
		"twice":          {"-id a -peers a=x:1/x:2,a=x:3/x:4", `two nodes "a"`},
		"transport":      {"-id a -peers a=x:1/x:2 -transport tcp", "-transport tcp: it is raftwire or hashicorp"},
		"no certificate": {"-id a -peers a=" + freeAddress(t) + "/127.0.0.1:0 -tls nowhere", "transport: raftwire: TLS: TLSConfig.CAFile: open " + filepath.Join("nowhere", "ca.pem")},
		"nor for theirs": {"-id a -peers a=" + freeAddress(t) + "/127.0.0.1:0 -tls nowhere -transport hashicorp", "transport: raftwire: TLS: TLSConfig.CAFile: open " + filepath.Join("nowhere", "ca.pem")},
		"no cluster":     {"-id a -peers a=x:1/x:2 -require-identity", "-require-identity needs -cluster"},
		"not theirs":     {"-id a -peers a=x:1/x:2 -cluster c -transport hashicorp", "-cluster is for -transport raftwire"},
		"surplus":        {"-id a -peers a=x:1/x:2 b", `"b" is not a flag`},
		"HTTP port":      {"-id a -peers a=127.0.0.1:0/" + busy, "HTTP: listen tcp " + busy},
		"Raft port":      {"-id a -peers a=" + busy + "/127.0.0.1:0", "transport: raftwire: cannot bind to "},
		"not the folder": {"-id a -peers a=" + freeAddress(t) + "/127.0.0.1:0 -data node_test.go", "snapshots: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), strings.Fields(c.flags), io.Discard, io.Discard)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// Whoever knocks at the Raft port, and is no peer, is seen at /metrics.
func TestMetrics(t *testing.T) {
	t.Parallel()
	flags := alone(t)
	r := start(t, flags...)
	defer r.shutdown()
	r.lead()
	raftPort, _, _ := strings.Cut(strings.TrimPrefix(flags[1], "a="), "/")
	_, err := http.Get("http://" + raftPort + "/")
	require.Error(t, err)
	var text string
	require.Eventually(t, func() bool { // it is counted just after the connection has ended
		var status int
		status, text = r.do("GET", "/metrics", "")
		return status == http.StatusOK && strings.Contains(text, `refused_total{reason="Foreign"} 1`)
	}, testPatience, 20*time.Millisecond)
	for _, line := range []string{
		`raftwire_connections_opened_total{direction="inbound"} 1`,
		`raftwire_inbound_received_bytes_total `,
		`raft_leader 1`,
		`raft_term 2`,
	} {
		require.Contains(t, text, "\n"+line)
	}
}

// The name need not resolve when the node starts: a pod's name does not.
func TestTransport_IsKnownByTheNameInPeers(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-id", "a", "-peers", "a=node-a.invalid:7000/node-a.invalid:8000", "-raft", "127.0.0.1:0"}, io.Discard)
	require.NoError(t, err)
	transport, err := newTransport(o, hclog.NewNullLogger(), prometheus.NewRegistry())
	require.NoError(t, err)
	require.EqualValues(t, "node-a.invalid:7000", transport.LocalAddr())
	require.NoError(t, transport.Close())
}

// Two nodes of three are enough for a leader. They refuse the third, which is of another
// cluster, and say so.
func TestCluster_RefusesANodeOfAnother(t *testing.T) {
	t.Parallel()
	flags := []string{"-peers", fmt.Sprintf("a=%s/x:1,b=%s/x:1,c=%s/x:1", freeAddress(t), freeAddress(t), freeAddress(t)), "-data", t.TempDir(), "-bootstrap"}
	a := start(t, append(flags, "-id", "a", "-cluster", "shop", "-require-identity")...)
	b := start(t, append(flags, "-id", "b", "-cluster", "shop", "-require-identity")...)
	c := start(t, append(flags, "-id", "c", "-cluster", "other")...)
	require.Eventually(t, func() bool {
		ready, _ := a.do("GET", "/ready", "")
		_, metrics := c.do("GET", "/metrics", "")
		return ready == http.StatusOK && strings.Contains(metrics, `refused_total{reason="WrongCluster"}`)
	}, testPatience, 20*time.Millisecond)
	status, _ := c.do("GET", "/ready", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	for _, n := range []*running{a, b, c} {
		n.shutdown()
	}
}

// Nodes that are all started with -bootstrap make one cluster.
func TestBootstrap_MayBeSaidToAllNodes(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	peers := fmt.Sprintf("a=%s/x:1,b=%s/x:1,c=%s/x:1", freeAddress(t), freeAddress(t), freeAddress(t))
	var nodes []*running
	for _, id := range []string{"a", "b", "c"} {
		nodes = append(nodes, start(t, "-peers", peers, "-data", data, "-bootstrap", "-id", id))
	}
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			status, _ := n.do("GET", "/ready", "")
			return status == http.StatusOK
		}, testPatience, 20*time.Millisecond)
	}
	for _, n := range nodes {
		n.stop()
	}
	for _, n := range nodes {
		require.NoError(t, <-n.ended)
	}
}
