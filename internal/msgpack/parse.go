package msgpack

import (
	"encoding/binary"
	"time"
)

// The parse functions are the short cut for values that are buffered as a whole
// and have the very form that the append functions give them. Each returns what
// is left after the value, or nil if that is not what is there, and given nil
// they return nil: so a sequence of them is looked at once, by Consume. The
// caller then starts again with the Reader's methods, which take every form.
//
// They parse an entry in a quarter of the time, because nothing has to be
// remembered, refilled or looked up on the way. All state is in arguments and
// results, which stay in registers; as fields of a cursor they took twice as long.

// Consume makes the Reader go on at rest, the end of what Peek returned. It
// returns false, and the Reader stays where it is, if rest is nil or beyond the
// limit.
func (r *Reader) Consume(rest []byte) bool {
	n := r.Buffered() - len(rest)
	if rest == nil || r.limit > 0 && r.Consumed()+int64(n) > r.limit {
		return false
	}
	r.r += n
	return true
}

// ParseLiteral parses the given bytes.
func ParseLiteral(b []byte, s string) []byte {
	if len(b) >= len(s) && string(b[:len(s)]) == s {
		return b[len(s):]
	}
	return nil
}

// ParseUint parses an unsigned integer.
func ParseUint(b []byte) (v uint64, rest []byte) {
	if len(b) > 0 && b[0] < fixMap {
		return uint64(b[0]), b[1:]
	}
	return parseLongUint(b)
}

func parseLongUint(b []byte) (v uint64, rest []byte) {
	if len(b) < 9 { // may be too few
		return 0, nil
	}
	switch b[0] {
	case uint8_:
		return uint64(b[1]), b[2:]
	case uint16_:
		return uint64(binary.BigEndian.Uint16(b[1:])), b[3:]
	case uint32_:
		return uint64(binary.BigEndian.Uint32(b[1:])), b[5:]
	case uint64_:
		return binary.BigEndian.Uint64(b[1:]), b[9:]
	}
	return 0, nil
}

// ParseBool parses a boolean.
func ParseBool(b []byte) (v bool, rest []byte) {
	if len(b) == 0 || b[0]&^1 != boolF {
		return false, nil
	}
	return b[0] == boolT, b[1:]
}

// ParseBytes parses a byte string of less than 64 KiB, or nil, and returns it
// where it lies.
func ParseBytes(b []byte) (v, rest []byte) {
	if len(b) > 0 && b[0] == null {
		return nil, b[1:]
	}
	start, n := 1, 0
	switch {
	case len(b) == 0:
		return nil, nil
	case b[0]&0xe0 == fixRaw:
		n = int(b[0] & 0x1f)
	case b[0] == raw16 && len(b) >= 3:
		start, n = 3, int(binary.BigEndian.Uint16(b[1:]))
	default:
		return nil, nil
	}
	if len(b) < start+n {
		return nil, nil
	}
	return b[start : start+n], b[start+n:]
}

// ParseTime parses a time in either format.
func (r *Reader) ParseTime(b []byte) (t time.Time, rest []byte) {
	v, rest := ParseBytes(b)
	switch {
	case len(v) == 15:
		if t, ok := r.unmarshalTime(v); ok {
			return t, rest
		}
	case len(v) == 8:
		return unixTime8(binary.BigEndian.Uint64(v)), rest
	case v == nil: // an empty string is for the Reader to reject
		return t, rest
	}
	return t, nil
}

// KeepShort returns a copy of b, which lies in the buffer, in the same kind of
// memory as Bytes.
func (r *Reader) KeepShort(b []byte) []byte {
	if len(b) == 0 || len(b) > shortSize {
		return r.clone(b)
	}
	if len(r.short.free) < len(b) {
		r.refill(&r.short, shortChunk)
	}
	return r.short.hold(b)
}

// Keep returns a copy of b, which lies in the buffer: in the arena, or in memory
// of its own if it does not share any. about is how many of the same length are
// expected, with this one; with 0 it shares none.
func (r *Reader) Keep(a *Arena, b []byte, about int) []byte {
	n := len(b)
	if n == 0 || about == 0 || !r.Shares(n) {
		return r.clone(b)
	}
	if len(a.free) < n {
		r.refill(a, n*r.Likely(min(about, 1+r.Buffered()/n, ChunkSize/n), n))
	}
	return a.hold(b)
}
