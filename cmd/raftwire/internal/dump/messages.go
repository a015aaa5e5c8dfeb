package dump

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
)

// kinds are the requests by their first byte. The numbers are hashicorp/raft's.
var kinds = []struct {
	name string
	make func() any
}{
	{"AppendEntries", func() any { return new(raftwire.AppendEntriesRequest) }},
	{"RequestVote", func() any { return new(raftwire.RequestVoteRequest) }},
	{"InstallSnapshot", func() any { return new(raftwire.InstallSnapshotRequest) }},
	{"TimeoutNow", func() any { return new(raftwire.TimeoutNowRequest) }},
	{"RequestPreVote", func() any { return new(raftwire.RequestPreVoteRequest) }},
}

// A request as it was captured.
type request struct {
	name    string
	command any
	began   time.Time
	// body, bodyEnd and bodyLost are those of a snapshot: bytes that came, when the last
	// one came, and how many of them are missing in the capture.
	body, bodyLost int64
	bodyEnd        time.Time
}

// An answer has the fields of all responses. Which it has tells its kind, if the
// request was not captured.
type answer struct {
	raftwire.RPCHeader
	Term           uint64
	LastLog        *uint64
	Success        *bool
	NoRetryBackoff bool
	Granted        *bool

	text string // of an error
}

// readRequest reads a request, without the body of a snapshot.
func (s *stream) readRequest() (*request, error) {
	kind, err := s.ReadByte()
	if err != nil {
		return nil, err
	}
	r := &request{began: s.now}
	if int(kind) >= len(kinds) {
		return nil, fmt.Errorf("%d is no kind of request", kind)
	}
	r.name, r.command = kinds[kind].name, kinds[kind].make()
	if err := s.decode(r.command); err != nil {
		return nil, err
	}
	if m, ok := r.command.(*raftwire.AppendEntriesRequest); ok && isHeartbeat(m) {
		r.name = "heartbeat"
	}
	return r, nil
}

// readBody reads the body of a snapshot. Missing bytes are no error in it.
func (s *stream) readBody(r *request) error {
	m, ok := r.command.(*raftwire.InstallSnapshotRequest)
	r.bodyEnd = s.now
	for ok && r.body < m.Size {
		n, err := s.Discard(int(min(m.Size-r.body, 1<<20)))
		r.body += int64(n)
		r.bodyEnd = s.now
		var lost gap
		switch err = s.failure(err); {
		case errors.As(err, &lost) && int64(lost) <= m.Size-r.body:
			r.body += int64(lost)
			r.bodyLost += int64(lost)
		case err != nil:
			return err
		}
	}
	return nil
}

// readAnswer reads an answer.
func (s *stream) readAnswer() (*answer, error) {
	if _, err := s.Peek(1); err != nil {
		return nil, err
	}
	var text string
	if err := s.decode(&text); err != nil {
		return nil, err
	}
	a := new(answer)
	err := s.decode(a) // nil, beside an error, zeroes it
	a.text = text
	return a, err
}

// decode decodes as hashicorp/raft does.
func (s *stream) decode(v any) error {
	return codec.NewDecoder(s.Reader, &codec.MsgpackHandle{}).Decode(v)
}

// isHeartbeat is hashicorp/raft's rule for what may go to the heartbeat handler.
func isHeartbeat(m *raftwire.AppendEntriesRequest) bool {
	return m.Term != 0 && (m.Addr != nil || m.Leader != nil) &&
		m.PrevLogEntry == 0 && m.PrevLogTerm == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0
}

// guessName tells of what the answer is by its fields.
func (a *answer) guessName() string {
	switch {
	case a.LastLog != nil:
		return "AppendEntries"
	case a.Granted != nil:
		return "a vote"
	case a.Success != nil:
		return "InstallSnapshot"
	}
	return "a request"
}
