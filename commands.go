package raftwire

import (
	"fmt"
	"time"
)

// The messages. Names and types of the exported fields are the wire format: a
// message travels as a msgpack map from field name to value, sorted by name,
// with the fields of RPCHeader among the message's own (see codec.go).

// ProtocolVersion is the version of the Raft protocol that a server speaks. A
// transport carries it and does not look at it.
type ProtocolVersion int

const (
	// ProtocolVersionMin is the lowest protocol version in use.
	ProtocolVersionMin ProtocolVersion = 0
	// ProtocolVersionMax is the highest protocol version in use.
	ProtocolVersionMax = 3
)

// SnapshotVersion is the version of a snapshot's format.
type SnapshotVersion int

const (
	// SnapshotVersionMin is the lowest snapshot version in use.
	SnapshotVersionMin SnapshotVersion = 0
	// SnapshotVersionMax is the highest snapshot version in use.
	SnapshotVersionMax = 1
)

// LogType says what a log entry is for.
type LogType uint8

const (
	// LogCommand is applied to the state machine.
	LogCommand LogType = iota
	// LogNoop establishes leadership.
	LogNoop
	// LogAddPeerDeprecated added a peer in protocol version 0.
	LogAddPeerDeprecated
	// LogRemovePeerDeprecated removed a peer in protocol version 0.
	LogRemovePeerDeprecated
	// LogBarrier waits until everything before it is applied.
	LogBarrier
	// LogConfiguration changes the cluster's membership.
	LogConfiguration
)

var logTypeNames = [...]string{
	LogCommand:              "LogCommand",
	LogNoop:                 "LogNoop",
	LogAddPeerDeprecated:    "LogAddPeerDeprecated",
	LogRemovePeerDeprecated: "LogRemovePeerDeprecated",
	LogBarrier:              "LogBarrier",
	LogConfiguration:        "LogConfiguration",
}

// String returns the constant's name, or the number of an unknown type.
func (lt LogType) String() string {
	if int(lt) < len(logTypeNames) {
		return logTypeNames[lt]
	}
	return fmt.Sprintf("%d", uint8(lt))
}

// Log is an entry of the replicated log.
type Log struct {
	// Index is the entry's place in the log, from 1.
	Index uint64
	// Term is the term in which a leader wrote the entry.
	Term uint64
	// Type says what the entry is for.
	Type LogType
	// Data is the payload of the entry's type.
	Data []byte
	// Extensions is for layers between the Raft core and the application.
	Extensions []byte
	// AppendedAt is when the leader appended the entry; zero if unknown. The
	// monotonic reading and the location's name do not travel.
	AppendedAt time.Time
}

// RPCHeader is part of every message. The core that sends a message fills it in: a
// transport does not. Nothing verifies what it says.
type RPCHeader struct {
	// ProtocolVersion is what the sender speaks.
	ProtocolVersion ProtocolVersion
	// ID is the sender's ServerID.
	ID []byte
	// Addr is the sender's address as encoded by EncodePeer.
	Addr []byte
}

// WithRPCHeader is implemented by every message.
type WithRPCHeader interface {
	GetRPCHeader() RPCHeader
}

// AppendEntriesRequest replicates log entries. It is a bare heartbeat, and goes to
// the heartbeat handler, if it has a Term and an Addr or Leader, and nothing else:
// no entries, PrevLogEntry, PrevLogTerm or LeaderCommitIndex. That is hashicorp/raft's
// rule. If your core sends bare heartbeats, it must send the commit index in other
// requests.
type AppendEntriesRequest struct {
	RPCHeader

	// Term is the leader's term.
	Term uint64
	// Leader is the leader's address. Deprecated in favour of RPCHeader.Addr,
	// and still sent for old peers.
	Leader []byte
	// PrevLogEntry and PrevLogTerm name the entry before Entries.
	PrevLogEntry uint64
	PrevLogTerm  uint64
	// Entries are to be stored. None of them is nil.
	Entries []*Log
	// LeaderCommitIndex is the leader's commit index.
	LeaderCommitIndex uint64
}

// GetRPCHeader returns the request's header.
func (r *AppendEntriesRequest) GetRPCHeader() RPCHeader { return r.RPCHeader }

// AppendEntriesResponse answers an AppendEntriesRequest.
type AppendEntriesResponse struct {
	RPCHeader

	// Term is the follower's term; a higher one deposes the leader.
	Term uint64
	// LastLog is a hint that speeds up finding the common prefix.
	LastLog uint64
	// Success is false if the entry before Entries did not match.
	Success bool
	// NoRetryBackoff asks the leader not to wait before it tries again.
	NoRetryBackoff bool
}

// GetRPCHeader returns the response's header.
func (r *AppendEntriesResponse) GetRPCHeader() RPCHeader { return r.RPCHeader }

// RequestVoteRequest asks for a vote.
type RequestVoteRequest struct {
	RPCHeader

	// Term is the candidate's term.
	Term uint64
	// Candidate is the candidate's address. Deprecated in favour of
	// RPCHeader.Addr, and still sent for old peers.
	Candidate []byte
	// LastLogIndex and LastLogTerm name the candidate's last entry.
	LastLogIndex uint64
	LastLogTerm  uint64
	// LeadershipTransfer says that the leader itself asked for the election.
	LeadershipTransfer bool
}

// GetRPCHeader returns the request's header.
func (r *RequestVoteRequest) GetRPCHeader() RPCHeader { return r.RPCHeader }

// RequestVoteResponse answers a RequestVoteRequest.
type RequestVoteResponse struct {
	RPCHeader

	// Term is the voter's term.
	Term uint64
	// Peers is deprecated: protocol versions 0 and 1 shut a removed server
	// down with it.
	Peers []byte
	// Granted is true if the vote was given.
	Granted bool
}

// GetRPCHeader returns the response's header.
func (r *RequestVoteResponse) GetRPCHeader() RPCHeader { return r.RPCHeader }

// RequestPreVoteRequest asks whether a vote would be given.
type RequestPreVoteRequest struct {
	RPCHeader

	// Term is the term that the sender would stand for.
	Term uint64
	// LastLogIndex and LastLogTerm name the sender's last entry.
	LastLogIndex uint64
	LastLogTerm  uint64
}

// GetRPCHeader returns the request's header.
func (r *RequestPreVoteRequest) GetRPCHeader() RPCHeader { return r.RPCHeader }

// RequestPreVoteResponse answers a RequestPreVoteRequest.
type RequestPreVoteResponse struct {
	RPCHeader

	// Term is the voter's term.
	Term uint64
	// Granted is true if the vote would be given.
	Granted bool
}

// GetRPCHeader returns the response's header.
func (r *RequestPreVoteResponse) GetRPCHeader() RPCHeader { return r.RPCHeader }

// InstallSnapshotRequest announces a snapshot, whose body follows the request on
// the same connection.
type InstallSnapshotRequest struct {
	RPCHeader
	SnapshotVersion SnapshotVersion

	// Term is the leader's term.
	Term uint64
	// Leader is the leader's address. Deprecated in favour of RPCHeader.Addr,
	// and still sent for old peers.
	Leader []byte
	// LastLogIndex and LastLogTerm name the last entry in the snapshot.
	LastLogIndex uint64
	LastLogTerm  uint64
	// Peers is the membership of protocol versions 0 and 1.
	Peers []byte
	// Configuration is the encoded membership.
	Configuration []byte
	// ConfigurationIndex is the entry that wrote Configuration.
	ConfigurationIndex uint64
	// Size is the number of bytes in the body, at most: programs that compress it
	// under way send fewer. It is never negative.
	Size int64
}

// GetRPCHeader returns the request's header.
func (r *InstallSnapshotRequest) GetRPCHeader() RPCHeader { return r.RPCHeader }

// InstallSnapshotResponse answers an InstallSnapshotRequest.
type InstallSnapshotResponse struct {
	RPCHeader

	// Term is the follower's term.
	Term uint64
	// Success is true if the snapshot was installed.
	Success bool
}

// GetRPCHeader returns the response's header.
func (r *InstallSnapshotResponse) GetRPCHeader() RPCHeader { return r.RPCHeader }

// TimeoutNowRequest tells a server to start an election at once. It has no term: one
// that arrives late comes from a former leader.
type TimeoutNowRequest struct {
	RPCHeader
}

// GetRPCHeader returns the request's header.
func (r *TimeoutNowRequest) GetRPCHeader() RPCHeader { return r.RPCHeader }

// TimeoutNowResponse answers a TimeoutNowRequest.
type TimeoutNowResponse struct {
	RPCHeader
}

// GetRPCHeader returns the response's header.
func (r *TimeoutNowResponse) GetRPCHeader() RPCHeader { return r.RPCHeader }
