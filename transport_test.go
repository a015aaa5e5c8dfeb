package raftwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

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

func TestNetworkTransport_RefusesNil(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		requireNilRefused(t, a)
	})
}

func TestInmemTransport_RefusesNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := inmemPair(t)
		serve(t, b, accept)
		requireNilRefused(t, a)
	})
}

func requireNilRefused(t *testing.T, a caller) {
	p := openPipeline(t, a, "b")
	stale := func() *raftwire.AppendEntriesResponse { return &raftwire.AppendEntriesResponse{Term: 7} }
	var nilReader *bytes.Buffer
	snapshot := &raftwire.InstallSnapshotRequest{Size: 1}
	resp := stale()
	for text, err := range map[string]error{
		"AppendEntries to b: nil args":     a.AppendEntries("b", "b", nil, resp),
		"AppendEntries to b: nil resp":     a.AppendEntries("b", "b", appendRequest(1), nil),
		"RequestVote to b: nil args":       a.RequestVote("b", "b", nil, new(raftwire.RequestVoteResponse)),
		"RequestVote to b: nil resp":       a.RequestVote("b", "b", new(raftwire.RequestVoteRequest), nil),
		"RequestPreVote to b: nil resp":    a.RequestPreVote("b", "b", new(raftwire.RequestPreVoteRequest), nil),
		"TimeoutNow to b: nil resp":        a.TimeoutNow("b", "b", new(raftwire.TimeoutNowRequest), nil),
		"InstallSnapshot to b: nil args":   a.InstallSnapshot("b", "b", nil, new(raftwire.InstallSnapshotResponse), nil),
		"InstallSnapshot to b: nil resp":   a.InstallSnapshot("b", "b", snapshot, nil, nil),
		"InstallSnapshot to b: nil reader": a.InstallSnapshot("b", "b", snapshot, new(raftwire.InstallSnapshotResponse), nilReader),
	} {
		require.ErrorContains(t, err, text)
		requireOpError(t, err)
	}
	require.Zero(t, *resp)

	resp = stale()
	_, err := p.AppendEntries(nil, resp)
	require.ErrorContains(t, err, "AppendEntries to b: nil args")
	require.Zero(t, *resp)
	_, err = p.AppendEntries(appendRequest(1), nil)
	require.ErrorContains(t, err, "AppendEntries to b: nil resp")
	require.NoError(t, appendAndConsume(p, appendRequest(1)), "the pipeline goes on")
}

// beCrowd is what a process of the crowd does instead of running tests.
func beCrowd(task string) error {
	var addr string
	var connections int
	if _, err := fmt.Sscan(task, &addr, &connections); err != nil {
		return err
	}
	beginnings := []string{"", "\x00", "\x00\x89\xa4Addr\xdb\xff\xff\xff\xff", "\x03\x80"}
	conns := make([]net.Conn, connections)
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, beginnings[i%len(beginnings)]); err != nil {
			return err
		}
		conns[i] = conn
	}
	fmt.Println("connected")
	deadline := time.Now().Add(time.Minute)
	for _, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("a connection is still open: %v", err)
		}
	}
	fmt.Println("closed")
	return nil
}
