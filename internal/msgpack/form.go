package msgpack

import "fmt"

// What a value is.
const (
	anInteger   = "an integer"
	aMap        = "a map"
	anArray     = "an array"
	aByteString = "a byte string"
	isNil       = "nil"
	noValue     = "a byte that begins no value"
	aBoolean    = "a boolean"
	aFloat      = "a float"
	anExtension = "an extension"
)

// form is what the first byte of a value says.
type form struct {
	kind   string
	low    byte // the bits of the first byte that are the length
	length int  // how many bytes follow that are the length
	size   int  // how many bytes follow that are the value
}

var forms = newForms()

func newForms() (forms [256]form) {
	fill := func(from, to byte, f form) {
		for c := int(from); c <= int(to); c++ {
			forms[c] = f
		}
	}
	fill(0, fixMap-1, form{kind: anInteger})
	fill(fixMap, fixArray-1, form{kind: aMap, low: 0x0f})
	fill(fixArray, fixRaw-1, form{kind: anArray, low: 0x0f})
	fill(fixRaw, null-1, form{kind: aByteString, low: 0x1f})
	fill(null, null, form{kind: isNil})
	fill(unused, unused, form{kind: noValue})
	fill(boolF, boolT, form{kind: aBoolean})
	fill(negative, 0xff, form{kind: anInteger})

	follow := func(first byte, kind string, lengths ...int) {
		for i, n := range lengths {
			forms[int(first)+i] = form{kind: kind, length: n}
		}
	}
	follow(bin8, aByteString, 1, 2, 4)
	follow(ext8, anExtension, 1, 2, 4)
	follow(raw8, aByteString, 1, 2, 4)
	follow(array16, anArray, 2, 4)
	follow(map16, aMap, 2, 4)

	sized := func(first byte, kind string, sizes ...int) {
		for i, n := range sizes {
			forms[int(first)+i] = form{kind: kind, size: n}
		}
	}
	sized(float32_, aFloat, 4, 8)
	sized(uint8_, anInteger, 1, 2, 4, 8)
	sized(int8_, anInteger, 1, 2, 4, 8)
	sized(fixExt1, anExtension, 1, 2, 4, 8, 16)
	return forms
}

// lengthOf reads the length of a value that begins with c, and is of a kind. It returns
// -1 if that is nil, or of another kind.
func (r *Reader) lengthOf(c byte, kind string) int64 {
	switch f := &forms[c]; {
	case r.err != nil || f.kind == isNil:
		return -1
	case f.kind != kind:
		r.unexpected(c, kind)
		return -1
	}
	return r.lengthAfter(c)
}

// lengthAfter reads how much belongs to the value that begins with c: bytes, or elements.
func (r *Reader) lengthAfter(c byte) int64 {
	f := &forms[c]
	if f.length > 0 {
		return int64(r.number(f.length))
	}
	return int64(c&f.low) + int64(f.size)
}

// unexpected fails because of the first byte of a value.
func (r *Reader) unexpected(c byte, want string) {
	r.Fail(&Error{Text: fmt.Sprintf("found %s (0x%02x), not %s", forms[c].kind, c, want), Found: c})
}
