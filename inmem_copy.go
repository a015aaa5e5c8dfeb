package raftwire

import (
	"bytes"
	"fmt"
)

// What travels in memory is copied, as it would be by the wire: sender and
// receiver share nothing.

// cloneRequest returns a copy that shares nothing with args.
func cloneRequest(args any) any {
	switch m := args.(type) {
	case *AppendEntriesRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Leader = bytes.Clone(m.Leader)
		c.Entries = cloneLogs(m.Entries)
		return &c
	case *RequestVoteRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Candidate = bytes.Clone(m.Candidate)
		return &c
	case *InstallSnapshotRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		c.Leader = bytes.Clone(m.Leader)
		c.Peers = bytes.Clone(m.Peers)
		c.Configuration = bytes.Clone(m.Configuration)
		return &c
	case *TimeoutNowRequest:
		return &TimeoutNowRequest{RPCHeader: cloneHeader(m.RPCHeader)}
	case *RequestPreVoteRequest:
		c := *m
		c.RPCHeader = cloneHeader(m.RPCHeader)
		return &c
	}
	panic(fmt.Sprintf("raftwire: no request: %T", args)) // callers are typed
}

func cloneHeader(h RPCHeader) RPCHeader {
	h.ID, h.Addr = bytes.Clone(h.ID), bytes.Clone(h.Addr)
	return h
}

func cloneLogs(entries []*Log) []*Log {
	if entries == nil {
		return nil
	}
	clones := make([]*Log, len(entries))
	for i, entry := range entries {
		clone := *entry // of its own: whoever keeps one Log of an array keeps what all hold
		clone.Data = bytes.Clone(entry.Data)
		clone.Extensions = bytes.Clone(entry.Extensions)
		clone.AppendedAt = entry.AppendedAt.Round(0) // the monotonic reading does not travel
		clones[i] = &clone
	}
	return clones
}

// copyResponse copies a response that a consumer gave, which it may go on to
// change. A nil pointer leaves resp as it is.
func copyResponse(resp, answer any) {
	switch from := answer.(type) {
	case *AppendEntriesResponse:
		if from != nil {
			to := resp.(*AppendEntriesResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *RequestVoteResponse:
		if from != nil {
			to := resp.(*RequestVoteResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
			to.Peers = bytes.Clone(from.Peers)
		}
	case *InstallSnapshotResponse:
		if from != nil {
			to := resp.(*InstallSnapshotResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *TimeoutNowResponse:
		if from != nil {
			resp.(*TimeoutNowResponse).RPCHeader = cloneHeader(from.RPCHeader)
		}
	case *RequestPreVoteResponse:
		if from != nil {
			to := resp.(*RequestPreVoteResponse)
			*to = *from
			to.RPCHeader = cloneHeader(from.RPCHeader)
		}
	}
}
