package raftwire

import (
	"math"
	"strconv"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/msgpack"
)

// The codec: messages to msgpack and back. A message is a map from the names
// of its fields, sorted, to their values; nil slices are nil. The bytes are the
// ones of hashicorp's codec, which is the oracle of the tests.
//
// Decoding accepts everything that the oracle accepts. Fields may come in any order,
// be missing, or be unknown. nil may stand for anything. A message may be an array of
// values in the order of declaration. Integers and byte strings may have any form, and
// times both formats. Decoding is stricter, on purpose, in that it rejects
//
//   - a nil entry in AppendEntriesRequest.Entries, and a negative
//     InstallSnapshotRequest.Size: a Raft core would trip over them;
//   - a field that occurs twice in a map;
//   - a byte slice, a field's name or an error text that is encoded as an array
//     or map of numbers, and Entries encoded as a map;
//   - a time in the form of MarshalBinary with 1e9 nanoseconds or more;
//   - unknown fields nested more than 100 deep;
//   - messages that need more than 3 times their bytes and 64 KiB of memory,
//     as thousands of entries of a few bytes would.

// cutThreshold is the size from which copying a payload into the connection's
// buffer costs more than writing it from where it lies.
const cutThreshold = 16 << 10

// appendAppendEntriesRequest appends the request. With cuts that are not nil,
// payloads of cutThreshold and more are left out of dst and appended to cuts
// instead; they alias the request, which must not change until they are written.
func appendAppendEntriesRequest(dst []byte, m *AppendEntriesRequest, newTime bool, cuts []conn.Cut) ([]byte, []conn.Cut) {
	dst = msgpack.AppendMapHeader(dst, 9)
	dst = appendBytesField(dst, "\xa4Addr", m.Addr)
	dst, cuts = appendEntries(append(dst, "\xa7Entries"...), m.Entries, newTime, cuts)
	dst = appendBytesField(dst, "\xa2ID", m.ID)
	dst = appendBytesField(dst, "\xa6Leader", m.Leader)
	dst = appendUintField(dst, "\xb1LeaderCommitIndex", m.LeaderCommitIndex)
	dst = appendUintField(dst, "\xacPrevLogEntry", m.PrevLogEntry)
	dst = appendUintField(dst, "\xabPrevLogTerm", m.PrevLogTerm)
	dst = appendIntField(dst, "\xafProtocolVersion", int64(m.ProtocolVersion))
	dst = appendUintField(dst, "\xa4Term", m.Term)
	return dst, cuts
}

func appendEntries(dst []byte, entries []*Log, newTime bool, cuts []conn.Cut) ([]byte, []conn.Cut) {
	if entries == nil {
		return msgpack.AppendNil(dst), cuts
	}
	dst = msgpack.AppendArrayHeader(dst, len(entries))
	for _, l := range entries {
		dst, cuts = appendLog(dst, l, newTime, cuts)
	}
	return dst, cuts
}

func appendLog(dst []byte, l *Log, newTime bool, cuts []conn.Cut) ([]byte, []conn.Cut) {
	if l == nil {
		return msgpack.AppendNil(dst), cuts
	}
	dst = msgpack.AppendMapHeader(dst, 6)
	dst = append(dst, "\xaaAppendedAt"...)
	if newTime {
		dst = msgpack.AppendTimestamp(dst, l.AppendedAt)
	} else {
		dst = msgpack.AppendTime(dst, l.AppendedAt)
	}
	dst = append(dst, "\xa4Data"...)
	dst, cuts = appendPayload(dst, l.Data, cuts)
	dst = append(dst, "\xaaExtensions"...)
	dst, cuts = appendPayload(dst, l.Extensions, cuts)
	dst = append(dst, "\xa5Index"...)
	dst = msgpack.AppendUint(dst, l.Index)
	dst = append(dst, "\xa4Term"...)
	dst = msgpack.AppendUint(dst, l.Term)
	dst = append(dst, "\xa4Type"...)
	dst = msgpack.AppendUint(dst, uint64(l.Type))
	return dst, cuts
}

func appendPayload(dst, payload []byte, cuts []conn.Cut) ([]byte, []conn.Cut) {
	if cuts == nil || len(payload) < cutThreshold {
		return msgpack.AppendBytes(dst, payload), cuts
	}
	dst = msgpack.AppendRawHeader(dst, len(payload))
	return dst, append(cuts, conn.Cut{At: len(dst), Data: payload})
}

func appendAppendEntriesResponse(dst []byte, m *AppendEntriesResponse) []byte {
	dst = msgpack.AppendMapHeader(dst, 7)
	dst = appendBytesField(dst, "\xa4Addr", m.Addr)
	dst = appendBytesField(dst, "\xa2ID", m.ID)
	dst = appendUintField(dst, "\xa7LastLog", m.LastLog)
	dst = appendBoolField(dst, "\xaeNoRetryBackoff", m.NoRetryBackoff)
	dst = appendIntField(dst, "\xafProtocolVersion", int64(m.ProtocolVersion))
	dst = appendBoolField(dst, "\xa7Success", m.Success)
	return appendUintField(dst, "\xa4Term", m.Term)
}

func appendBytesField(dst []byte, key string, v []byte) []byte {
	return msgpack.AppendBytes(append(dst, key...), v)
}

func appendUintField(dst []byte, key string, v uint64) []byte {
	return msgpack.AppendUint(append(dst, key...), v)
}

func appendIntField(dst []byte, key string, v int64) []byte {
	return msgpack.AppendInt(append(dst, key...), v)
}

func appendBoolField(dst []byte, key string, v bool) []byte {
	return msgpack.AppendBool(append(dst, key...), v)
}

// The fields of what is read and written by hand, in the order of declaration.
var (
	appendEntriesRequestFields = msgpack.NewFields("AppendEntriesRequest",
		"ProtocolVersion", "ID", "Addr", "Term", "Leader", "PrevLogEntry", "PrevLogTerm", "Entries", "LeaderCommitIndex")
	logFields = msgpack.NewFields("",
		"Index", "Term", "Type", "Data", "Extensions", "AppendedAt")
	appendEntriesResponseFields = msgpack.NewFields("AppendEntriesResponse",
		"ProtocolVersion", "ID", "Addr", "Term", "LastLog", "Success", "NoRetryBackoff")
)

// The read functions decode a message, into m whatever m was before. If they
// fail, which r.Err tells, the message holds a part of it.

// loneEntry is memory for the entries of a request with one, the most frequent number.
type loneEntry struct {
	log     [1]Log
	entries [1]*Log
}

// readAppendEntriesRequest decodes a request into new memory. If it has one entry, the
// two share an allocation, and what comes before the entry is parsed by a short cut.
func readAppendEntriesRequest(r *msgpack.Reader) *AppendEntriesRequest {
	b := r.Peek()
	b = msgpack.ParseLiteral(b, "\x89\xa4Addr")
	addr, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xa7Entries\x91")
	if !r.Shares(logSize) || !r.Consume(b) {
		m := new(AppendEntriesRequest)
		readAppendEntriesFields(r, m, r.Struct(appendEntriesRequestFields))
		return m
	}
	whole := new(struct {
		request AppendEntriesRequest
		entry   loneEntry
	})
	m := &whole.request
	m.Addr = r.KeepShort(addr)
	m.Entries = readLoneEntry(r, &whole.entry)
	if !readAfterEntriesInOrder(r, m) {
		readAppendEntriesFields(r, m, r.StructAfter(appendEntriesRequestFields, "Entries"))
	}
	return m
}

func readAppendEntriesFields(r *msgpack.Reader, m *AppendEntriesRequest, s msgpack.Struct) {
	for s.Next() {
		switch s.Name {
		case "Term":
			m.Term = r.Uint64()
		case "Leader":
			m.Leader = r.Bytes()
		case "PrevLogEntry":
			m.PrevLogEntry = r.Uint64()
		case "PrevLogTerm":
			m.PrevLogTerm = r.Uint64()
		case "Entries":
			m.Entries = readEntries(r)
			if s.Rest() && readAfterEntriesInOrder(r, m) {
				s.Finish()
			}
		case "LeaderCommitIndex":
			m.LeaderCommitIndex = r.Uint64()
		default:
			readHeaderField(r, &m.RPCHeader, s.Name)
		}
	}
}

// readAfterEntriesInOrder is a short cut for the rest of the request. If it
// returns false, nothing was read.
func readAfterEntriesInOrder(r *msgpack.Reader, m *AppendEntriesRequest) bool {
	b := r.Peek()
	b = msgpack.ParseLiteral(b, "\xa2ID")
	id, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xa6Leader")
	leader, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xb1LeaderCommitIndex")
	leaderCommitIndex, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xacPrevLogEntry")
	prevLogEntry, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xabPrevLogTerm")
	prevLogTerm, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xafProtocolVersion")
	protocolVersion, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xa4Term")
	term, b := msgpack.ParseUint(b)
	if !r.Consume(b) {
		return false
	}
	m.ID, m.Leader = r.KeepShort(id), r.KeepShort(leader)
	m.LeaderCommitIndex, m.PrevLogEntry, m.PrevLogTerm = leaderCommitIndex, prevLogEntry, prevLogTerm
	m.ProtocolVersion, m.Term = ProtocolVersion(protocolVersion), term
	return true
}

// What an entry takes beside its payloads, in bytes, where a word has 64 bits.
const pointerSize, logSize = 8, 96

func readEntries(r *msgpack.Reader) []*Log {
	n := r.ArrayLen()
	switch {
	case n < 0:
		return nil
	case n == 1:
		return readLoneEntry(r, new(loneEntry))
	}
	entries := make([]*Log, 0, r.Reserve(n, pointerSize))
	var room entryRoom
	for i := range n {
		l := readLog(r, &room, int(min(n-i, math.MaxInt32)))
		if r.Err() != nil {
			r.At("[" + strconv.FormatInt(i, 10) + "]")
			return nil
		}
		entries = appendEntry(r, entries, l)
	}
	return entries
}

func readLoneEntry(r *msgpack.Reader, one *loneEntry) []*Log {
	r.Charge(logSize + pointerSize)
	one.entries[0] = readLog(r, &entryRoom{logs: one.log[:], left: math.MaxInt}, 1)
	if r.Err() != nil {
		r.At("[0]")
		return nil
	}
	return one.entries[:]
}

func appendEntry(r *msgpack.Reader, entries []*Log, l *Log) []*Log {
	had := cap(entries)
	entries = append(entries, l)
	if grown := cap(entries); grown > had {
		r.Charge(pointerSize * grown)
	}
	return entries
}

// groupSize is how many Logs just fit into one of the sizes that the allocator
// has, 1792 bytes.
const groupSize = 18

// entryRoom is memory for the entries of a request. Small ones share it in
// groups: whoever keeps a Log keeps all Logs of its group, and what these hold.
// So a group has at most msgpack.ChunkSize bytes, payloads included, and large entries
// belong to none. It has no more than groupSize Logs, which would be wasted if larger
// entries follow.
type entryRoom struct {
	logs     []Log         // of the present group, unused
	left     int           // bytes of the group
	payloads msgpack.Arena // of the group
}

// log returns a Log for an entry with payloads of the given size; about so many like it
// follow, with this one. likely is how many of them get into its group, 0 without one.
func (e *entryRoom) log(r *msgpack.Reader, payload, about int) (l *Log, likely int) {
	size := logSize + payload
	if !r.Shares(payload) && e.left <= msgpack.ChunkSize { // more is the room of a lone entry
		r.Charge(logSize)
		return new(Log), 0
	}
	if len(e.logs) == 0 || e.left < size {
		count := r.Likely(min(about, groupSize, msgpack.ChunkSize/size), logSize)
		r.Charge(count * logSize)
		*e = entryRoom{logs: make([]Log, count), left: msgpack.ChunkSize}
	}
	l = &e.logs[0]
	e.logs = e.logs[1:]
	e.left -= size
	return l, min(about, 1+len(e.logs), 1+e.left/size)
}

// readLog decodes an entry, which is followed by others like it: about so many
// with this one.
func readLog(r *msgpack.Reader, room *entryRoom, about int) *Log {
	if l := readLogInOrder(r, room, about); l != nil {
		return l
	}
	if r.Nil() {
		r.Reject("is nil")
		return nil
	}
	// Its size is not known yet, so it belongs to no group.
	l, _ := room.log(r, msgpack.ChunkSize, 1)
	for s := r.Struct(logFields); s.Next(); {
		switch s.Name {
		case "Index":
			l.Index = r.Uint64()
		case "Term":
			l.Term = r.Uint64()
		case "Type":
			l.Type = LogType(r.Uint8())
		case "Data":
			l.Data = r.BytesIn(nil, 0)
		case "Extensions":
			l.Extensions = r.BytesIn(nil, 0)
		case "AppendedAt":
			l.AppendedAt = r.Time()
		}
	}
	return l
}

// readLogInOrder is the short cut of readLog for what senders send: all fields
// in order, none of them large. If it returns nil, nothing was read. It makes
// decoding 64 entries of 128 B more than twice as fast.
func readLogInOrder(r *msgpack.Reader, room *entryRoom, about int) *Log {
	b := r.Peek()
	b = msgpack.ParseLiteral(b, "\x86\xaaAppendedAt")
	appendedAt, b := r.ParseTime(b)
	b = msgpack.ParseLiteral(b, "\xa4Data")
	data, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xaaExtensions")
	extensions, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xa5Index")
	index, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xa4Term")
	term, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xa4Type")
	logType, b := msgpack.ParseUint(b)
	if logType > math.MaxUint8 || !r.Consume(b) {
		return nil
	}
	l, likely := room.log(r, len(data)+len(extensions), about)
	l.Index, l.Term, l.Type, l.AppendedAt = index, term, LogType(logType), appendedAt
	l.Data = r.Keep(&room.payloads, data, likely)
	l.Extensions = r.Keep(&room.payloads, extensions, likely)
	return l
}

func readAppendEntriesResponse(r *msgpack.Reader, m *AppendEntriesResponse) {
	*m = AppendEntriesResponse{}
	if readAppendEntriesResponseInOrder(r, m) {
		return
	}
	for s := r.Struct(appendEntriesResponseFields); s.Next(); {
		switch s.Name {
		case "Term":
			m.Term = r.Uint64()
		case "LastLog":
			m.LastLog = r.Uint64()
		case "Success":
			m.Success = r.Bool()
		case "NoRetryBackoff":
			m.NoRetryBackoff = r.Bool()
		default:
			readHeaderField(r, &m.RPCHeader, s.Name)
		}
	}
}

// readAppendEntriesResponseInOrder is a short cut like readLogInOrder.
func readAppendEntriesResponseInOrder(r *msgpack.Reader, m *AppendEntriesResponse) bool {
	b := r.Peek()
	b = msgpack.ParseLiteral(b, "\x87\xa4Addr")
	addr, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xa2ID")
	id, b := msgpack.ParseBytes(b)
	b = msgpack.ParseLiteral(b, "\xa7LastLog")
	lastLog, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xaeNoRetryBackoff")
	noRetryBackoff, b := msgpack.ParseBool(b)
	b = msgpack.ParseLiteral(b, "\xafProtocolVersion")
	protocolVersion, b := msgpack.ParseUint(b)
	b = msgpack.ParseLiteral(b, "\xa7Success")
	success, b := msgpack.ParseBool(b)
	b = msgpack.ParseLiteral(b, "\xa4Term")
	term, b := msgpack.ParseUint(b)
	if !r.Consume(b) {
		return false
	}
	m.Addr, m.ID = r.KeepShort(addr), r.KeepShort(id)
	m.LastLog, m.Term, m.ProtocolVersion = lastLog, term, ProtocolVersion(protocolVersion)
	m.NoRetryBackoff, m.Success = noRetryBackoff, success
	return true
}

func readHeaderField(r *msgpack.Reader, m *RPCHeader, name string) {
	switch name {
	case "ProtocolVersion":
		m.ProtocolVersion = ProtocolVersion(r.Int64())
	case "ID":
		m.ID = r.Bytes()
	case "Addr":
		m.Addr = r.Bytes()
	}
}
