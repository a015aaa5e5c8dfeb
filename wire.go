package raftwire

import (
	"errors"
	"fmt"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/raftwire/raftwire/internal/sniff"
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

// gatherUpTo is the size up to which requests are small: gathering several for
// one write pays, and the next one comes when those before are answered. A
// larger one keeps the other end busy meanwhile. It was measured.
const gatherUpTo = 4 << 10

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

// sniff knows a Raft peer by its first byte.
var _ = [1]struct{}{}[rpcKinds-sniff.RaftKinds]

var rpcKindNames = [rpcKinds]string{
	rpcAppendEntries:   "AppendEntries",
	rpcRequestVote:     "RequestVote",
	rpcInstallSnapshot: "InstallSnapshot",
	rpcTimeoutNow:      "TimeoutNow",
	rpcRequestPreVote:  "RequestPreVote",
}

func (k rpcKind) String() string { return rpcKindNames[k] }

// appendRequest appends a request of the given kind; args has its type.
func appendRequest(b *conn.Batch, kind rpcKind, args any, newTime bool) {
	b.Bytes = append(b.Bytes, byte(kind))
	switch m := args.(type) {
	case *AppendEntriesRequest:
		b.Bytes, b.Cuts = appendAppendEntriesRequest(b.Bytes, m, newTime, b.Cuts)
	case *RequestVoteRequest:
		b.Bytes = appendRequestVoteRequest(b.Bytes, m)
	case *InstallSnapshotRequest:
		b.Bytes = appendInstallSnapshotRequest(b.Bytes, m)
	case *TimeoutNowRequest:
		b.Bytes = appendTimeoutNowRequest(b.Bytes, m)
	case *RequestPreVoteRequest:
		b.Bytes = appendRequestPreVoteRequest(b.Bytes, m)
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
func appendResponse(b *conn.Batch, answer RPCResponse) {
	b.Bytes = msgpack.AppendString(b.Bytes, answerText(answer))
	b.Bytes = appendResponseBody(b.Bytes, answer.Response)
}

// answerText returns the error text of an answer, or "" if it has no error.
func answerText(answer RPCResponse) string {
	if answer.Error == nil {
		return ""
	}
	return errorText(answer.Error, msgpack.MaxLength)
}

// errorText returns the text that travels for err. An empty one would arrive as
// no error, and one that is too long not at all.
func errorText(err error, most int64) string {
	text := err.Error()
	switch {
	case text == "":
		return fmt.Sprintf("an error without a text, a %T", err)
	case int64(len(text)) > most:
		return fmt.Sprintf("an error, a %T, whose text is left out: %v", err, tooLong("it", len(text), most))
	}
	return text
}

// answerTo returns what a consumer's answer to a request of the given kind is to
// its peer. A response that does not answer it, or that cannot travel, is left
// out; if it is not the response to an error, the answer is wrong, and its error
// says so.
func answerTo(kind rpcKind, answer RPCResponse) (_ RPCResponse, wrong bool) {
	return answerWithin(kind, answer, msgpack.MaxLength)
}

// answerWithin is answerTo with the greatest length that can travel.
func answerWithin(kind rpcKind, answer RPCResponse, most int64) (_ RPCResponse, wrong bool) {
	var err error
	if !answers(kind, answer.Response) {
		err = fmt.Errorf("the consumer answered %v with a %T: it takes a *%vResponse, or nil", kind, answer.Response, kind)
	} else if tooLong := checkResponse(answer.Response, most); tooLong != nil {
		err = fmt.Errorf("the consumer answered %v with a response that cannot travel: %w", kind, tooLong)
	} else {
		return answer, false
	}
	answer.Response = nil
	wrong = answer.Error == nil
	if wrong {
		answer.Error = err
	}
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
	if guess := sniff.Answer(message.Found); guess != "" {
		return fmt.Errorf("this is no Raft peer's answer: it looks like %s", guess)
	}
	return fmt.Errorf("this is no Raft peer's answer: %w", err)
}

// newResponse returns the response that answers a request of this kind.
func newResponse(kind rpcKind) any {
	switch kind {
	case rpcAppendEntries:
		return new(AppendEntriesResponse)
	case rpcRequestVote:
		return new(RequestVoteResponse)
	case rpcInstallSnapshot:
		return new(InstallSnapshotResponse)
	case rpcTimeoutNow:
		return new(TimeoutNowResponse)
	}
	return new(RequestPreVoteResponse)
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
func checkRequest(args any) error { return checkRequestWithin(args, msgpack.MaxLength) }

// checkRequestWithin is checkRequest with the greatest length that can travel.
func checkRequestWithin(args any, most int64) error {
	switch m := args.(type) {
	case *AppendEntriesRequest:
		return firstError(checkEntries(m.Entries, most), checkHeader(&m.RPCHeader, most), checkLength("Leader", len(m.Leader), most))
	case *RequestVoteRequest:
		return firstError(checkHeader(&m.RPCHeader, most), checkLength("Candidate", len(m.Candidate), most))
	case *InstallSnapshotRequest:
		if m.Size < 0 {
			return fmt.Errorf("negative size: Size is %d, and must be the number of bytes in data", m.Size)
		}
		return firstError(checkHeader(&m.RPCHeader, most), checkLength("Leader", len(m.Leader), most),
			checkLength("Peers", len(m.Peers), most), checkLength("Configuration", len(m.Configuration), most))
	case *TimeoutNowRequest:
		return checkHeader(&m.RPCHeader, most)
	case *RequestPreVoteRequest:
		return checkHeader(&m.RPCHeader, most)
	}
	return nil
}

func checkEntries(entries []*Log, most int64) error {
	if err := checkLength("Entries", len(entries), most); err != nil {
		return err
	}
	for i, entry := range entries {
		switch {
		case entry == nil:
			return fmt.Errorf("nil entry: Entries[%d] must be set", i)
		case int64(len(entry.Data)) > most:
			return tooLong(fmt.Sprintf("Entries[%d].Data", i), len(entry.Data), most)
		case int64(len(entry.Extensions)) > most:
			return tooLong(fmt.Sprintf("Entries[%d].Extensions", i), len(entry.Extensions), most)
		}
	}
	return nil
}

// checkResponse refuses a response that cannot travel. It may be nil, also of
// a type.
func checkResponse(response any, most int64) error {
	var header *RPCHeader
	switch m := response.(type) {
	case *AppendEntriesResponse:
		if m != nil {
			header = &m.RPCHeader
		}
	case *RequestVoteResponse:
		if m != nil {
			return firstError(checkHeader(&m.RPCHeader, most), checkLength("Peers", len(m.Peers), most))
		}
	case *InstallSnapshotResponse:
		if m != nil {
			header = &m.RPCHeader
		}
	case *TimeoutNowResponse:
		if m != nil {
			header = &m.RPCHeader
		}
	case *RequestPreVoteResponse:
		if m != nil {
			header = &m.RPCHeader
		}
	}
	if header == nil {
		return nil
	}
	return checkHeader(header, most)
}

func checkHeader(h *RPCHeader, most int64) error {
	return firstError(checkLength("ID", len(h.ID), most), checkLength("Addr", len(h.Addr), most))
}

func checkLength(field string, n int, most int64) error {
	if int64(n) > most {
		return tooLong(field, n, most)
	}
	return nil
}

func tooLong(field string, n int, most int64) error {
	return fmt.Errorf("%s is too long: its length is %d, and the format takes at most %d", field, n, most)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// unknownKind is what a connection ends with whose next request has an unknown
// kind: a newer version, or something that is no Raft peer.
func unknownKind(kind rpcKind) error {
	guess, looks := sniff.Request(byte(kind)), ""
	if guess != "" {
		looks = ": this looks like " + guess + ", not like a Raft peer"
	}
	return &door.Refusal{Reason: door.Foreign, Detail: guess, Err: fmt.Errorf("unknown rpc type %d%s", uint8(kind), looks)}
}
