package raftwire_test

import (
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func TestMessages_HaveAHeader(t *testing.T) {
	header := raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("id"), Addr: []byte("addr")}
	for _, message := range []raftwire.WithRPCHeader{
		&raftwire.AppendEntriesRequest{RPCHeader: header}, &raftwire.AppendEntriesResponse{RPCHeader: header},
		&raftwire.RequestVoteRequest{RPCHeader: header}, &raftwire.RequestVoteResponse{RPCHeader: header},
		&raftwire.RequestPreVoteRequest{RPCHeader: header}, &raftwire.RequestPreVoteResponse{RPCHeader: header},
		&raftwire.InstallSnapshotRequest{RPCHeader: header}, &raftwire.InstallSnapshotResponse{RPCHeader: header},
		&raftwire.TimeoutNowRequest{RPCHeader: header}, &raftwire.TimeoutNowResponse{RPCHeader: header},
	} {
		require.Equal(t, header, message.GetRPCHeader(), "%T", message)
	}
}

func TestLogType_HasAName(t *testing.T) {
	for logType, name := range map[raftwire.LogType]string{
		raftwire.LogCommand:              "LogCommand",
		raftwire.LogNoop:                 "LogNoop",
		raftwire.LogAddPeerDeprecated:    "LogAddPeerDeprecated",
		raftwire.LogRemovePeerDeprecated: "LogRemovePeerDeprecated",
		raftwire.LogBarrier:              "LogBarrier",
		raftwire.LogConfiguration:        "LogConfiguration",
		6:                                "6",
		255:                              "255",
	} {
		require.Equal(t, name, logType.String())
	}
}
