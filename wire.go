package raftwire

import (
	"errors"
	"fmt"

	"github.com/raftwire/raftwire/internal/msgpack"
)

// Framing. A request is one byte that says its kind, then the request; after
// an InstallSnapshotRequest follow exactly Size raw bytes. An answer is a
// string, empty or the text of an error, then the response or nil. There is no
// length and no identifier: answers come in the order of the requests.
//
//	request:  kind byte | msgpack map [ | Size raw bytes ]
//	answer:   msgpack string | msgpack map or nil
//
// These are the bytes of hashicorp/raft's NetworkTransport (net_transport.go
// of v1.7.3 and v1.8.0).

// rpcKind is the first byte of a request.
type rpcKind uint8

const (
	rpcAppendEntries rpcKind = iota
	rpcRequestVote
	rpcInstallSnapshot
	rpcTimeoutNow
	rpcRequestPreVote
	rpcKinds // how many there are
)

var rpcKindNames = [rpcKinds]string{
	rpcAppendEntries:   "AppendEntries",
	rpcRequestVote:     "RequestVote",
	rpcInstallSnapshot: "InstallSnapshot",
	rpcTimeoutNow:      "TimeoutNow",
	rpcRequestPreVote:  "RequestPreVote",
}

func (k rpcKind) String() string { return rpcKindNames[k] }

// appendRequest appends a request of the given kind; args has its type.
func (b *batch) appendRequest(kind rpcKind, args any, newTime bool) {
	b.bytes = append(b.bytes, byte(kind))
	switch m := args.(type) {
	case *AppendEntriesRequest:
		b.bytes, b.cuts = appendAppendEntriesRequest(b.bytes, m, newTime, b.cuts)
	case *RequestVoteRequest:
		b.bytes = appendRequestVoteRequest(b.bytes, m)
	case *InstallSnapshotRequest:
		b.bytes = appendInstallSnapshotRequest(b.bytes, m)
	case *TimeoutNowRequest:
		b.bytes = appendTimeoutNowRequest(b.bytes, m)
	case *RequestPreVoteRequest:
		b.bytes = appendRequestPreVoteRequest(b.bytes, m)
	}
}

// readRequest reads the request that follows its kind byte. Errors stick to r.
func readRequest(r *msgpack.Reader, kind rpcKind) any {
	switch kind {
	case rpcAppendEntries:
		m := new(AppendEntriesRequest)
		readAppendEntriesRequest(r, m)
		return m
	case rpcRequestVote:
		m := new(RequestVoteRequest)
		readRequestVoteRequest(r, m)
		return m
	case rpcInstallSnapshot:
		m := new(InstallSnapshotRequest)
		readInstallSnapshotRequest(r, m)
		return m
	case rpcTimeoutNow:
		m := new(TimeoutNowRequest)
		readTimeoutNowRequest(r, m)
		return m
	case rpcRequestPreVote:
		m := new(RequestPreVoteRequest)
		readRequestPreVoteRequest(r, m)
		return m
	}
	r.Fail(unknownKind(kind))
	return nil
}

// isHeartbeat reports whether command is a bare heartbeat: an AppendEntries
// that names a leader and carries nothing. The rule is hashicorp/raft's.
func isHeartbeat(command any) bool {
	m, ok := command.(*AppendEntriesRequest)
	if !ok {
		return false
	}
	leader := m.Addr
	if len(leader) == 0 {
		leader = m.Leader
	}
	return m.Term != 0 && leader != nil &&
		m.PrevLogEntry == 0 && m.PrevLogTerm == 0 &&
		len(m.Entries) == 0 && m.LeaderCommitIndex == 0
}

// entriesIn returns how many log entries command carries.
func entriesIn(command any) int {
	if m, ok := command.(*AppendEntriesRequest); ok {
		return len(m.Entries)
	}
	return 0
}

// appendResponse appends an answer. A response that is nil, or a nil pointer,
// travels as nil.
func (b *batch) appendResponse(answer RPCResponse) {
	b.bytes = msgpack.AppendString(b.bytes, answerText(answer))
	b.bytes = appendResponseBody(b.bytes, answer.Response)
}

// answerText returns the error text of an answer, or "" if it has no error. An
// error without a text would arrive as none.
func answerText(answer RPCResponse) string {
	if answer.Error == nil {
		return ""
	}
	if text := answer.Error.Error(); text != "" {
		return text
	}
	return fmt.Sprintf("an error without a text, a %T", answer.Error)
}

// answerTo returns what a consumer's answer to a request of the given kind is to
// its peer. A response of a type that does not answer it is left out; if it is
// not the response to an error, the answer is wrong, and its error says so.
func answerTo(kind rpcKind, answer RPCResponse) (_ RPCResponse, wrong bool) {
	if answers(kind, answer.Response) {
		return answer, false
	}
	wrong = answer.Error == nil
	if wrong {
		answer.Error = fmt.Errorf("the consumer answered %v with a %T: it takes a *%vResponse, or nil", kind, answer.Response, kind)
	}
	answer.Response = nil
	return answer, wrong
}

func answers(kind rpcKind, response any) bool {
	switch response.(type) {
	case nil:
		return true
	case *AppendEntriesResponse:
		return kind == rpcAppendEntries
	case *RequestVoteResponse:
		return kind == rpcRequestVote
	case *InstallSnapshotResponse:
		return kind == rpcInstallSnapshot
	case *TimeoutNowResponse:
		return kind == rpcTimeoutNow
	case *RequestPreVoteResponse:
		return kind == rpcRequestPreVote
	}
	return false
}

// appendResponseBody appends a response; nil, also of a type, is nil.
func appendResponseBody(dst []byte, response any) []byte {
	switch m := response.(type) {
	case *AppendEntriesResponse:
		if m != nil {
			return appendAppendEntriesResponse(dst, m)
		}
	case *RequestVoteResponse:
		if m != nil {
			return appendRequestVoteResponse(dst, m)
		}
	case *InstallSnapshotResponse:
		if m != nil {
			return appendInstallSnapshotResponse(dst, m)
		}
	case *TimeoutNowResponse:
		if m != nil {
			return appendTimeoutNowResponse(dst, m)
		}
	case *RequestPreVoteResponse:
		if m != nil {
			return appendRequestPreVoteResponse(dst, m)
		}
	}
	return msgpack.AppendNil(dst)
}

// readResponse reads an answer: its error text, and the response into resp. If
// it fails, resp is zero.
func readResponse(r *msgpack.Reader, resp any) (text string, err error) {
	r.Begin()
	text = r.String()
	switch m := resp.(type) {
	case *AppendEntriesResponse:
		readAppendEntriesResponse(r, m)
	case *RequestVoteResponse:
		readRequestVoteResponse(r, m)
	case *InstallSnapshotResponse:
		readInstallSnapshotResponse(r, m)
	case *TimeoutNowResponse:
		readTimeoutNowResponse(r, m)
	case *RequestPreVoteResponse:
		readRequestPreVoteResponse(r, m)
	}
	if err = r.Err(); err != nil {
		clearResponse(resp)
		err = explainAnswer(err, r.Consumed())
	}
	return text, err
}

// explainAnswer tells what an error in an answer means of which so many bytes
// were read.
func explainAnswer(err error, consumed int64) error {
	var message *msgpack.Error
	if consumed != 1 || !errors.As(err, &message) {
		return err
	}
	if guess := foreignAnswer(message.Found); guess != "" {
		return fmt.Errorf("this is no Raft peer's answer: it looks like %s", guess)
	}
	return fmt.Errorf("this is no Raft peer's answer: %w", err)
}

// clearResponse zeroes resp, so that a failed call leaves nothing stale: a
// Raft core reuses responses.
func clearResponse(resp any) {
	switch m := resp.(type) {
	case *AppendEntriesResponse:
		*m = AppendEntriesResponse{}
	case *RequestVoteResponse:
		*m = RequestVoteResponse{}
	case *InstallSnapshotResponse:
		*m = InstallSnapshotResponse{}
	case *TimeoutNowResponse:
		*m = TimeoutNowResponse{}
	case *RequestPreVoteResponse:
		*m = RequestPreVoteResponse{}
	}
}

// beginCall clears the response of a call, and refuses nil.
func beginCall(args, resp any) error {
	if isNil(resp) {
		return errors.New("nil resp: pass a response, which the answer is copied to")
	}
	clearResponse(resp)
	if isNil(args) {
		return errors.New("nil args: pass a request")
	}
	return nil
}

// checkRequest refuses what must not travel, because it would trip the peer up.
func checkRequest(args any) error {
	switch m := args.(type) {
	case *AppendEntriesRequest:
		for i, entry := range m.Entries {
			if entry == nil {
				return fmt.Errorf("nil entry: Entries[%d] must be set", i)
			}
		}
	case *InstallSnapshotRequest:
		if m.Size < 0 {
			return fmt.Errorf("negative size: Size is %d, and must be the number of bytes in data", m.Size)
		}
	}
	return nil
}

// unknownKindError is what a connection ends with whose next request has an
// unknown kind: a newer version, or something that is no Raft peer.
type unknownKindError struct{ kind rpcKind }

func unknownKind(kind rpcKind) error { return &unknownKindError{kind} }

func (e *unknownKindError) Error() string {
	text := fmt.Sprintf("unknown rpc type %d", uint8(e.kind))
	if guess := foreignProtocol(byte(e.kind)); guess != "" {
		text += ": this looks like " + guess + ", not like a Raft peer"
	}
	return text
}

// How TLS begins, and how it says no: ContentTypes of RFC 8446 §5.1.
const (
	tlsHandshake = 0x16
	tlsAlert     = 0x15
)

// foreignAnswer names what the first byte looks like that comes back on a
// connection that was dialled, or "".
func foreignAnswer(first byte) string {
	switch first {
	case 'H':
		return "an HTTP response"
	case 'S':
		return "an SSH server" // RFC 4253 §4.2
	case tlsAlert:
		return "a TLS alert"
	}
	return ""
}

// foreignProtocol names what the first byte looks like of a connection that was
// accepted, or "".
func foreignProtocol(first byte) string {
	switch first {
	case 'G', 'H', 'D', 'O', 'C', 'T':
		return "an HTTP request" // GET, HEAD, DELETE, OPTIONS, CONNECT, TRACE
	case 'P':
		return "a PROXY header of a load balancer, or an HTTP request" // or POST, PUT, PATCH, PRI
	case '\r':
		return "a PROXY header of a load balancer" // version 2 begins with \r\n\r\n
	case tlsHandshake:
		return "a TLS handshake"
	case 'S':
		return "an SSH client" // RFC 4253 §4.2
	}
	return ""
}
