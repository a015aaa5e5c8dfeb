package raftwire

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/raftwire/raftwire/internal/sniff"
	"github.com/raftwire/raftwire/internal/sock"
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

// appendRequest appends a request of the given kind; args has its type. It returns where
// its map begins.
func appendRequest(b *conn.Batch, kind rpcKind, args any, newTime bool) (at int) {
	b.Bytes = append(b.Bytes, byte(kind))
	at = len(b.Bytes)
	if m, ok := args.(*AppendEntriesRequest); ok {
		b.Bytes, b.Cuts = appendAppendEntriesRequest(b.Bytes, m, newTime, b.Cuts)
	} else {
		b.Bytes = appendMessage(b.Bytes, args)
	}
	return at
}

// readRequest reads the request that follows its kind byte. Errors stick to r.
func readRequest(r *msgpack.Reader, kind rpcKind) any {
	switch {
	case kind == rpcAppendEntries:
		return readAppendEntriesRequest(r)
	case kind >= rpcKinds:
		r.Fail(unknownKind(kind))
		return nil
	}
	m := kinds[kind].request.new()
	readMessage(r, m)
	return m
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
// travels as nil. It returns where the response begins.
func appendResponse(b *conn.Batch, answer RPCResponse) (at int) {
	b.Bytes = msgpack.AppendString(b.Bytes, answerText(answer))
	at = len(b.Bytes)
	b.Bytes = appendResponseBody(b.Bytes, answer.Response)
	return at
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
	return response == nil || reflect.TypeOf(response) == kinds[kind].response.pointer
}

// appendResponseBody appends a response; nil, also of a type, is nil.
func appendResponseBody(dst []byte, response any) []byte {
	if sock.IsNil(response) {
		return msgpack.AppendNil(dst)
	}
	if m, ok := response.(*AppendEntriesResponse); ok {
		return appendAppendEntriesResponse(dst, m)
	}
	return appendMessage(dst, response)
}

// readResponse reads an answer: its error text, and the response into resp. If
// it fails, resp is zero.
func readResponse(r *msgpack.Reader, resp any) (text string, err error) {
	r.Begin()
	text = r.String()
	if m, ok := resp.(*AppendEntriesResponse); ok {
		readAppendEntriesResponse(r, m)
	} else {
		readMessage(r, resp)
	}
	if err = r.Err(); err != nil {
		clearMessage(resp)
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

// beginCall clears the response of a call, and refuses nil.
func beginCall(args, resp any) error {
	if sock.IsNil(resp) {
		return errors.New("nil resp: pass a response, which the answer is copied to")
	}
	clearMessage(resp)
	if sock.IsNil(args) {
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
		return firstError(checkEntries(m.Entries, most), checkLength("ID", len(m.ID), most),
			checkLength("Addr", len(m.Addr), most), checkLength("Leader", len(m.Leader), most))
	case *InstallSnapshotRequest:
		if m.Size < 0 {
			return fmt.Errorf("negative size: Size is %d, and must be the number of bytes in data", m.Size)
		}
	}
	return checkLengths(args, most)
}

// checkLengths refuses a message with a field that cannot travel.
func checkLengths(message any, most int64) error {
	t := messageTypes[reflect.TypeOf(message)]
	for _, name := range t.names {
		if field, ok := t.field(message, name).(*[]byte); ok && int64(len(*field)) > most {
			return tooLong(name, len(*field), most)
		}
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
	if sock.IsNil(response) {
		return nil
	}
	if m, ok := response.(*AppendEntriesResponse); ok {
		return firstError(checkLength("ID", len(m.ID), most), checkLength("Addr", len(m.Addr), most))
	}
	return checkLengths(response, most)
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
