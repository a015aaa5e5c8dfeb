// Package msgpack writes and reads the msgpack dialect of hashicorp's Raft
// wire format. Strings and byte slices are the old raw type without a length
// of 8 bits, integers take their shortest form, and times are raw bytes.
//
// It knows no Raft type. Writing is append-style and pure; reading goes through
// a [Reader], which owns a connection's input buffer and never allocates more
// than a small multiple of what has arrived.
package msgpack

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// First bytes of values, see https://github.com/msgpack/msgpack/blob/master/spec.md.
const (
	fixMap   = 0x80 // to 0x8f, length in the low 4 bits
	fixArray = 0x90 // to 0x9f, length in the low 4 bits
	fixRaw   = 0xa0 // to 0xbf, length in the low 5 bits
	null     = 0xc0
	unused   = 0xc1
	boolF    = 0xc2
	boolT    = 0xc3
	bin8     = 0xc4
	ext8     = 0xc7
	float32_ = 0xca
	uint8_   = 0xcc
	uint16_  = 0xcd
	uint32_  = 0xce
	uint64_  = 0xcf
	int8_    = 0xd0
	int16_   = 0xd1
	int32_   = 0xd2
	int64_   = 0xd3
	fixExt1  = 0xd4
	fixExt4  = 0xd6
	fixExt8  = 0xd7
	raw8     = 0xd9 // str8 of the present spec: read, never written
	raw16    = 0xda
	raw32    = 0xdb
	array16  = 0xdc
	array32  = 0xdd
	map16    = 0xde
	map32    = 0xdf
	negative = 0xe0 // to 0xff: -32 to -1

	timeTag = 0xff // the extension type of a timestamp
)

// MaxLength is the greatest length of a byte string or container that can be
// written. Callers check it.
const MaxLength = math.MaxUint32

// AppendNil appends nil.
func AppendNil(dst []byte) []byte { return append(dst, null) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, boolT)
	}
	return append(dst, boolF)
}

// AppendUint appends an unsigned integer.
func AppendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= math.MaxInt8:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, uint8_, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, uint16_), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, uint32_), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, uint64_), v)
}

// AppendInt appends a signed integer. Positive values take a signed form too,
// so 128 is two bytes longer than with AppendUint.
func AppendInt(dst []byte, v int64) []byte {
	switch {
	case -32 <= v && v <= math.MaxInt8:
		return append(dst, byte(v))
	case math.MinInt8 <= v && v <= math.MaxInt8:
		return append(dst, int8_, byte(v))
	case math.MinInt16 <= v && v <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(append(dst, int16_), uint16(v))
	case math.MinInt32 <= v && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(dst, int32_), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, int64_), uint64(v))
}

// AppendBytes appends a byte slice; nil becomes nil.
func AppendBytes(dst, v []byte) []byte {
	if v == nil {
		return append(dst, null)
	}
	return append(AppendRawHeader(dst, len(v)), v...)
}

// AppendString appends a string.
func AppendString(dst []byte, v string) []byte {
	return append(AppendRawHeader(dst, len(v)), v...)
}

// AppendRawHeader appends what goes before the n bytes of a string or slice.
func AppendRawHeader(dst []byte, n int) []byte {
	if n < 32 {
		return append(dst, fixRaw|byte(n))
	}
	return appendLength(dst, n, raw16, raw32)
}

// AppendArrayHeader appends what goes before the n elements of an array.
func AppendArrayHeader(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, fixArray|byte(n))
	}
	return appendLength(dst, n, array16, array32)
}

// AppendMapHeader appends what goes before the n pairs of a map.
func AppendMapHeader(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, fixMap|byte(n))
	}
	return appendLength(dst, n, map16, map32)
}

// GrowMap changes b, which begins with nil or with the header of a map of less than 15
// pairs, to begin with a map that has one pair more.
func GrowMap(b []byte) {
	switch {
	case b[0] == null:
		b[0] = fixMap | 1
	case fixMap <= b[0] && b[0] < fixMap|15:
		b[0]++
	default:
		panic(fmt.Sprintf("msgpack: nothing that GrowMap takes begins with 0x%02x", b[0]))
	}
}

// appendLength panics if n is more than MaxLength: cut to what can be said, it
// would make the peer read content as protocol.
func appendLength(dst []byte, n int, code16, code32 byte) []byte {
	switch {
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, code16), uint16(n))
	case int64(n) > MaxLength:
		panic(fmt.Sprintf("msgpack: length %d is more than %d", n, int64(MaxLength)))
	}
	return binary.BigEndian.AppendUint32(append(dst, code32), uint32(n))
}

// AppendTime appends t as the bytes of its MarshalBinary. A time whose zone
// offset has no such form (out of range, or one minute west) is sent in UTC:
// the same instant.
func AppendTime(dst []byte, t time.Time) []byte {
	at := len(dst)
	dst = append(dst, 0)
	b, err := t.AppendBinary(dst)
	if err != nil {
		b, _ = t.UTC().AppendBinary(dst) // cannot fail
	}
	b[at] = fixRaw | byte(len(b)-at-1)
	return b
}

// AppendTimestamp appends t as the body of a msgpack timestamp, as raw bytes
// without the extension's header; the zero time becomes nil.
func AppendTimestamp(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, null)
	}
	sec, nsec := uint64(t.Unix()), uint64(t.Nanosecond())
	switch {
	case sec>>34 != 0: // also if negative
		dst = binary.BigEndian.AppendUint32(append(dst, fixRaw|12), uint32(nsec))
		return binary.BigEndian.AppendUint64(dst, sec)
	case nsec == 0 && sec <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, fixRaw|4), uint32(sec))
	}
	return binary.BigEndian.AppendUint64(append(dst, fixRaw|8), nsec<<34|sec)
}
