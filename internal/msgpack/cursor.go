package msgpack

import (
	"encoding/binary"
	"time"
)

// Cursor is the short cut for values that are buffered as a whole and have the
// very form that the append functions give them. Anything else spoils it, and
// the caller starts again with the Reader's methods, which take every form.
// It parses an entry in a third of the time, because nothing has to be
// remembered, refilled or looked up on the way.
type Cursor struct {
	r     *Reader
	b     []byte // what is left; nil if spoiled
	total int    // length of b at the start
}

// Cursor returns a cursor at the next value.
func (r *Reader) Cursor() Cursor {
	b := r.Peek()
	return Cursor{r: r, b: b, total: len(b)}
}

// Consume makes the Reader go on where c is. It returns false, and the Reader
// stays where it is, if c is spoiled or beyond the limit.
func (r *Reader) Consume(c *Cursor) bool {
	n := c.total - len(c.b)
	if c.b == nil || r.limit > 0 && r.consumed()+int64(n) > r.limit {
		return false
	}
	r.r += n
	return true
}

// Spoil makes Consume return false.
func (c *Cursor) Spoil() { c.b = nil }

// Literal expects the given bytes.
func (c *Cursor) Literal(s string) {
	if len(c.b) >= len(s) && string(c.b[:len(s)]) == s {
		c.b = c.b[len(s):]
		return
	}
	c.Spoil()
}

// Uint expects an unsigned integer.
func (c *Cursor) Uint() uint64 {
	b := c.b
	switch {
	case len(b) > 0 && b[0] < fixMap:
		c.b = b[1:]
		return uint64(b[0])
	case len(b) < 9: // may be too few
	case b[0] == uint8_:
		c.b = b[2:]
		return uint64(b[1])
	case b[0] == uint16_:
		c.b = b[3:]
		return uint64(binary.BigEndian.Uint16(b[1:]))
	case b[0] == uint32_:
		c.b = b[5:]
		return uint64(binary.BigEndian.Uint32(b[1:]))
	case b[0] == uint64_:
		c.b = b[9:]
		return binary.BigEndian.Uint64(b[1:])
	}
	c.Spoil()
	return 0
}

// Bool expects a boolean.
func (c *Cursor) Bool() bool {
	if len(c.b) == 0 || c.b[0]&^1 != boolF {
		c.Spoil()
		return false
	}
	v := c.b[0] == boolT
	c.b = c.b[1:]
	return v
}

// Bytes expects a byte string of less than 64 KiB, or nil, and returns it where
// it lies.
func (c *Cursor) Bytes() []byte {
	b := c.b
	start, n := 1, 0
	switch {
	case len(b) == 0:
		c.Spoil()
		return nil
	case b[0] == null:
		c.b = b[1:]
		return nil
	case b[0]&0xe0 == fixRaw:
		n = int(b[0] & 0x1f)
	case b[0] == raw16 && len(b) >= 3:
		start, n = 3, int(binary.BigEndian.Uint16(b[1:]))
	default:
		n = len(b) // more than there is
	}
	if len(b) < start+n {
		c.Spoil()
		return nil
	}
	c.b = b[start+n:]
	return b[start : start+n]
}

// Time expects a time in either format.
func (c *Cursor) Time() time.Time {
	b := c.Bytes()
	switch len(b) {
	case 0: // nil; if it is an empty string, the Reader shall reject it
		if b != nil {
			c.Spoil()
		}
	case 8:
		return unixTime8(binary.BigEndian.Uint64(b))
	case 15:
		if t, ok := c.r.unmarshalTime(b); ok {
			return t
		}
		c.Spoil()
	default:
		c.Spoil()
	}
	return time.Time{}
}

// KeepShort returns a copy of b, which lies in the buffer, in the same kind of
// memory as Bytes.
func (r *Reader) KeepShort(b []byte) []byte {
	if len(b) == 0 || len(b) > shortSize {
		return r.clone(b)
	}
	return append(r.take(&r.short, len(b), shortChunk), b...)
}

// Keep returns a copy of b, which lies in the buffer, in memory of the arena
// unless it is large. about is how many of the same length are expected, with
// this one.
func (r *Reader) Keep(a *Arena, b []byte, about int) []byte {
	if len(b) == 0 || len(b) >= largeSize {
		return r.clone(b)
	}
	return append(r.take(a, len(b), min(len(b)*about, len(b)+r.Buffered(), arenaChunk)), b...)
}
