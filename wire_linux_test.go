//go:build amd64 || arm64

package raftwire_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

// The format says lengths in 32 bits. What is longer is refused before it
// travels.
func TestRequest_RefusesWhatIsTooLong(t *testing.T) {
	huge := untouchable(t)
	header := raftwire.RPCHeader{ID: huge}
	entries := []*raftwire.Log{{Data: huge}}
	onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
		serve(t, b, accept)
		refused := func(field string, err error) {
			t.Helper()
			require.ErrorContains(t, err, field+" is too long: its length is 4294967296, and the format takes at most 4294967295")
		}
		refused("Entries[0].Data", a.AppendEntries("b", "b", &raftwire.AppendEntriesRequest{Entries: entries}, new(raftwire.AppendEntriesResponse)))
		refused("ID", a.RequestVote("b", "b", &raftwire.RequestVoteRequest{RPCHeader: header}, new(raftwire.RequestVoteResponse)))
		refused("ID", a.TimeoutNow("b", "b", &raftwire.TimeoutNowRequest{RPCHeader: header}, new(raftwire.TimeoutNowResponse)))
		refused("Configuration", a.InstallSnapshot("b", "b", &raftwire.InstallSnapshotRequest{Configuration: huge}, new(raftwire.InstallSnapshotResponse), new(bytes.Buffer)))
		refused("ID", a.(raftwire.WithPreVote).RequestPreVote("b", "b", &raftwire.RequestPreVoteRequest{RPCHeader: header}, new(raftwire.RequestPreVoteResponse)))
		_, err := openPipeline(t, a, "b").AppendEntries(&raftwire.AppendEntriesRequest{Entries: entries}, new(raftwire.AppendEntriesResponse))
		refused("Entries[0].Data", err)
	})
}

func TestAnswer_RefusesWhatIsTooLong(t *testing.T) {
	huge := untouchable(t)
	onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(&raftwire.RequestVoteResponse{Peers: huge}, nil) })
		var resp raftwire.RequestVoteResponse
		err := a.RequestVote("b", "b", &raftwire.RequestVoteRequest{Term: 1}, &resp)
		var remote *raftwire.RemoteError
		require.ErrorAs(t, err, &remote)
		require.ErrorContains(t, err, "Peers is too long: its length is 4294967296")
		require.Zero(t, resp)
	})
}

// untouchable returns 4 GiB that cost no memory. Reading a byte of them ends the
// process.
func untouchable(t *testing.T) []byte {
	b, err := syscall.Mmap(-1, 0, 4<<30, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(b)) })
	return b
}
