package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

var header = raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("node1"), Addr: []byte("10.0.0.1:8300")}

// heartbeat, appendOne and so on are requests of a leader in term 3.
func heartbeat() *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{RPCHeader: header, Term: 3}
}

func appendEntries(prev uint64, sizes ...int) *raftwire.AppendEntriesRequest {
	m := &raftwire.AppendEntriesRequest{RPCHeader: header, Term: 3, PrevLogEntry: prev, PrevLogTerm: 2, LeaderCommitIndex: prev}
	for i, size := range sizes {
		m.Entries = append(m.Entries, &raftwire.Log{Index: prev + uint64(i) + 1, Term: 3, Data: make([]byte, size), AppendedAt: time.Unix(1, 0)})
	}
	return m
}

// follow answers as a follower in term 3.
func follow(rpc raftwire.RPC) {
	switch m := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		last := m.PrevLogEntry + uint64(len(m.Entries))
		rpc.Respond(&raftwire.AppendEntriesResponse{RPCHeader: header, Term: 3, LastLog: last, Success: last < 100}, nil)
	case *raftwire.RequestVoteRequest:
		rpc.Respond(&raftwire.RequestVoteResponse{RPCHeader: header, Term: m.Term, Granted: true}, nil)
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(&raftwire.RequestPreVoteResponse{RPCHeader: header, Term: m.Term}, nil)
	case *raftwire.InstallSnapshotRequest:
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{RPCHeader: header, Term: 3, Success: true}, nil)
	default:
		rpc.Respond(nil, errors.New("I am not a voter"))
	}
}

// a talk is a few calls.
type talk func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress)

func sends(requests ...*raftwire.AppendEntriesRequest) talk {
	return func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
		for _, request := range requests {
			var answer raftwire.AppendEntriesResponse
			require.NoError(t, client.AppendEntries("", server, request, &answer))
		}
	}
}

func recordTalk(t *testing.T, talk talk) []turn {
	t.Helper()
	return record(t, follow, func(client *raftwire.NetworkTransport, server raftwire.ServerAddress) { talk(t, client, server) })
}

func sendAll(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
	mixed := appendEntries(17, 100, 200, 12)
	mixed.Entries[2].Type = raftwire.LogConfiguration
	sends(heartbeat(), mixed, appendEntries(20), appendEntries(100, 5))(t, client, server)
	vote := raftwire.RequestVoteRequest{RPCHeader: header, Term: 4, LastLogIndex: 20, LastLogTerm: 3, LeadershipTransfer: true}
	require.NoError(t, client.RequestVote("", server, &vote, new(raftwire.RequestVoteResponse)))
	preVote := raftwire.RequestPreVoteRequest{RPCHeader: header, Term: 5, LastLogIndex: 20, LastLogTerm: 3}
	require.NoError(t, client.RequestPreVote("", server, &preVote, new(raftwire.RequestPreVoteResponse)))
	err := client.TimeoutNow("", server, &raftwire.TimeoutNowRequest{RPCHeader: header}, new(raftwire.TimeoutNowResponse))
	require.ErrorContains(t, err, "not a voter")
}

const allDumped = `
2026-11-29 UTC
12:00:00.002000  10.0.0.1:41000        → 10.0.0.2:8300          heartbeat        term 3
12:00:00.003000  10.0.0.2:8300         → 10.0.0.1:41000         answer to heartbeat  success  term 3  last log 0  took 1.000 ms
`

func TestDump_PrintsEveryKindOfRequest(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sendAll)...)
	w.close()
	require.Equal(t, allDumped, dumped(t, w.pcap(), Options{}))
	require.Equal(t, allDumped, dumped(t, w.pcapng(), Options{}))
}

func snapshot(size int64) talk {
	return func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
		m := raftwire.InstallSnapshotRequest{RPCHeader: header, Term: 3, LastLogIndex: 17, LastLogTerm: 2, Size: size}
		require.NoError(t, client.InstallSnapshot("", server, &m, new(raftwire.InstallSnapshotResponse), bytes.NewReader(make([]byte, size))))
	}
}

func TestDump_PrintsASnapshotAsOneLine(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, snapshot(20_000))...)
	fmt.Println(dumped(t, w.pcap(), Options{}))
	w.lose(5)
	fmt.Println(dumped(t, w.pcap(), Options{}))
}
