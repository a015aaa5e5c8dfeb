package raftwire_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Tests run on fake time over faultnet wherever time or faults matter: a
// deadline is then exact, and what takes a minute takes no time.

// testTimeout is the transports' timeout in these tests.
const testTimeout = time.Second

// prompt is how soon something must happen that no deadline has to bring about.
const prompt = 100 * time.Millisecond

// longRun makes some tests larger than most machines like. It is switched on
// by RAFTWIRE_LONG=1 in the environment.
var longRun = os.Getenv("RAFTWIRE_LONG") != ""

func TestMain(m *testing.M) {
	if task := os.Getenv(crowdEnv); task != "" {
		if err := beCrowd(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	sockets := openSockets()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(sockets)
	}
	os.Exit(code)
}

// checkLeaks fails the run if a goroutine of this module is left over, or a
// socket beside those that there were before.
func checkLeaks(sockets int) int {
	deadline := time.NewTimer(5 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	for {
		leaked, open := leakedGoroutines(), openSockets()-sockets
		if leaked == "" && open <= 0 {
			return 0
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			fmt.Fprintf(os.Stderr, "leaked %d sockets, and goroutines:\n%s\n", open, leaked)
			return 1
		}
	}
}

// openSockets returns how many sockets the process has, where the system tells.
func openSockets() (count int) {
	descriptors, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range descriptors {
		if target, err := os.Readlink(path); err == nil && strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

func leakedGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var leaked []string
	for _, stack := range strings.Split(string(buf), "\n\n")[1:] { // the first is this one
		if strings.Contains(stack, "raftwire") {
			leaked = append(leaked, stack)
		}
	}
	return strings.Join(leaked, "\n\n")
}

// onFakeTime runs test in a bubble with a network, and fails if a connection
// is left open.
func onFakeTime(t *testing.T, test func(t *testing.T, net *faultnet.Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		net := faultnet.New(1)
		t.Cleanup(func() { require.Zero(t, net.OpenConns(), "connections left open") })
		test(t, net)
	})
}

type option func(*raftwire.NetworkTransportConfig)

func withWindow(n int) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxRPCsInFlight = n }
}

func withTimeout(d time.Duration) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Timeout = d }
}

func withPool(n int) option {
	return func(c *raftwire.NetworkTransportConfig) { c.MaxPool = n }
}

func withLog(w io.Writer) option {
	return func(c *raftwire.NetworkTransportConfig) {
		c.Logger = hclog.New(&hclog.LoggerOptions{Output: w, Level: hclog.Debug})
	}
}

func config(options ...option) *raftwire.NetworkTransportConfig {
	c := &raftwire.NetworkTransportConfig{MaxPool: 3, Timeout: testTimeout, Logger: hclog.NewNullLogger()}
	for _, o := range options {
		o(c)
	}
	return c
}

// listen starts a transport on a host of net; it is closed when the test ends.
func listen(t *testing.T, net *faultnet.Network, host string, options ...option) *raftwire.NetworkTransport {
	t.Helper()
	layer, err := net.Host(host).Listen()
	require.NoError(t, err)
	c := config(options...)
	c.Stream = layer
	trans := raftwire.NewNetworkTransportWithConfig(c)
	t.Cleanup(func() { require.NoError(t, trans.Close()) })
	return trans
}

// serve answers what arrives at trans until the test ends, one at a time.
func serve(t *testing.T, trans raftwire.Transport, answer func(raftwire.RPC)) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case rpc := <-trans.Consumer():
				answer(rpc)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}

// accept is an answer of a healthy follower.
func accept(rpc raftwire.RPC) {
	switch command := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		rpc.Respond(&raftwire.AppendEntriesResponse{Term: command.Term, LastLog: command.PrevLogEntry, Success: true}, nil)
	case *raftwire.RequestVoteRequest:
		rpc.Respond(&raftwire.RequestVoteResponse{Term: command.Term, Granted: true}, nil)
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(&raftwire.RequestPreVoteResponse{Term: command.Term, Granted: true}, nil)
	case *raftwire.TimeoutNowRequest:
		rpc.Respond(&raftwire.TimeoutNowResponse{}, nil)
	case *raftwire.InstallSnapshotRequest:
		_, err := io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{Term: command.Term, Success: err == nil}, err)
	}
}

// never leaves requests unanswered.
func never(raftwire.RPC) {}

// appendRequest returns a request that is no heartbeat. Its number comes back
// in LastLog.
func appendRequest(number uint64) *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{
		RPCHeader:    raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("leader"), Addr: []byte("a")},
		Term:         7,
		PrevLogEntry: number,
		PrevLogTerm:  7,
		Entries:      []*raftwire.Log{{Index: number + 1, Term: 7, Data: []byte("data")}},
	}
}

func appendOnce(trans raftwire.Transport, target raftwire.ServerAddress) error {
	var resp raftwire.AppendEntriesResponse
	return trans.AppendEntries("b", target, appendRequest(1), &resp)
}

func installSnapshot(trans raftwire.Transport, target raftwire.ServerAddress, body string) error {
	var resp raftwire.InstallSnapshotResponse
	args := &raftwire.InstallSnapshotRequest{Term: 7, Size: int64(len(body))}
	return trans.InstallSnapshot("b", target, args, &resp, bytes.NewReader([]byte(body)))
}

// caller is what both transports are.
type caller interface {
	raftwire.Transport
	raftwire.WithPreVote
}

// calls are the requests of a Transport, for promises that all of them keep.
var calls = map[string]func(trans caller, target raftwire.ServerAddress) error{
	"AppendEntries": func(trans caller, target raftwire.ServerAddress) error {
		return appendOnce(trans, target)
	},
	"RequestVote": func(trans caller, target raftwire.ServerAddress) error {
		return trans.RequestVote("b", target, &raftwire.RequestVoteRequest{Term: 7}, new(raftwire.RequestVoteResponse))
	},
	"RequestPreVote": func(trans caller, target raftwire.ServerAddress) error {
		return trans.RequestPreVote("b", target, &raftwire.RequestPreVoteRequest{Term: 7}, new(raftwire.RequestPreVoteResponse))
	},
	"TimeoutNow": func(trans caller, target raftwire.ServerAddress) error {
		return trans.TimeoutNow("b", target, &raftwire.TimeoutNowRequest{}, new(raftwire.TimeoutNowResponse))
	},
	"InstallSnapshot": func(trans caller, target raftwire.ServerAddress) error {
		return installSnapshot(trans, target, "body")
	},
}

// elapsed returns how long f takes.
func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// requireTimeout checks what P18 promises of a timeout.
func requireTimeout(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var netErr interface{ Timeout() bool }
	require.ErrorAs(t, err, &netErr)
	require.True(t, netErr.Timeout())
}
