package msgpack

import "slices"

// Fields are the fields of a message, for reading it.
type Fields struct {
	message string
	names   []string // sorted, as they travel
	keys    []string // names, encoded
	source  []int    // into names, in the order of declaration
}

// Names returns the names, sorted as they travel.
func (f *Fields) Names() []string { return f.names }

// NewFields returns the fields of a message, whose names are given in the order
// in which the Go type declares them. At most 32.
func NewFields(message string, declared ...string) *Fields {
	f := &Fields{message: message, names: slices.Sorted(slices.Values(declared))}
	for _, name := range f.names {
		f.keys = append(f.keys, string(AppendString(nil, name)))
	}
	for _, name := range declared {
		f.source = append(f.source, slices.Index(f.names, name))
	}
	return f
}

// Struct goes through the fields of a struct that is encoded as a map from name
// to value or as an array of values:
//
//	for s := r.Struct(fields); s.Next(); {
//		switch s.Name {
//		case "Term":
//			m.Term = r.Uint64()
//
// Each field of Fields must be read. Fields may come in any order and be
// missing; unknown ones are skipped. When Next returns false, the Reader's
// error knows its place.
type Struct struct {
	// Name is the present field.
	Name string

	r      *Reader
	f      *Fields
	left   int64  // fields to come
	next   int    // the field that the sender's order lets expect
	seen   uint32 // a bit for each field
	array  bool
	placed bool // an error's place is complete
}

// Struct reads the beginning of a struct. Nil has no fields.
func (r *Reader) Struct(f *Fields) Struct {
	s := Struct{r: r, f: f}
	if s.placed = r.err != nil; s.placed {
		return s
	}
	switch c := r.Byte(); {
	case r.err != nil || c == null:
	case c&0xf0 == fixMap:
		s.left = int64(c & 0x0f)
	case c&0xf0 == fixArray:
		s.left, s.array = int64(c&0x0f), true
	case c == map16:
		s.left = r.length(2)
	case c == map32:
		s.left = r.length(4)
	case c == array16:
		s.left, s.array = r.length(2), true
	case c == array32:
		s.left, s.array = r.length(4), true
	default:
		r.unexpected(c, "a map")
	}
	return s
}

// Next goes to the next field and reports whether there is one.
func (s *Struct) Next() bool {
	for s.left > 0 && s.r.err == nil {
		s.left--
		i := s.expected()
		if i < 0 {
			i = s.find()
		}
		if s.enter(i) {
			return true
		}
	}
	s.end()
	return false
}

// Rest reports whether what is to come may be the fields after the present one,
// each once and in order, so that the parse functions can be tried on them. If that works,
// Finish must follow.
func (s *Struct) Rest() bool {
	return !s.array && s.r.err == nil &&
		s.seen == 1<<s.next-1 && s.left == int64(len(s.f.keys)-s.next)
}

// Finish makes Next return false.
func (s *Struct) Finish() { s.left = 0 }

// expected returns the next field in the sender's own order, or -1 if that is
// not the next one. It is a short cut: it compares the next bytes with one key,
// where find has to decode and look up. It takes a third off a small message's
// time.
func (s *Struct) expected() int {
	r := s.r
	if s.array || s.next == len(s.f.keys) {
		return -1
	}
	key := s.f.keys[s.next]
	if r.w-r.r < len(key) || string(r.buf[r.r:r.r+len(key)]) != key {
		return -1
	}
	r.r += len(key)
	return s.next
}

// find returns the next field, or -1 if it is unknown.
func (s *Struct) find() int {
	s.Name = "" // for errors: no field yet
	if !s.array {
		return s.f.index(s.r.key())
	}
	i := s.next
	s.next++
	if i < len(s.f.source) {
		return s.f.source[i]
	}
	return -1
}

func (f *Fields) index(name []byte) int {
	for i, known := range f.names {
		if string(name) == known {
			return i
		}
	}
	return -1
}

// enter goes to a field and returns true, or skips it if it is unknown.
func (s *Struct) enter(i int) bool {
	switch {
	case s.r.err != nil:
		return false
	case i < 0:
		s.Name = "(unknown field)"
		s.r.Skip()
		return false
	}
	s.Name = s.f.names[i]
	if s.seen&(1<<i) != 0 {
		s.r.Reject("comes twice")
		return false
	}
	s.seen |= 1 << i
	if !s.array {
		s.next = i + 1
	}
	return true
}

// end completes the place of an error that happened in the struct.
func (s *Struct) end() {
	if s.placed {
		return
	}
	s.placed = true
	if s.r.err == nil {
		s.r.withinLimit(0)
		s.Name = ""
	}
	if s.Name != "" {
		s.r.At("." + s.Name)
	}
	s.r.At(s.f.message)
}

// key reads a field's name and returns it in place. It is empty if it is longer
// than any that is of interest.
func (r *Reader) key() []byte {
	const longest = 64
	n := r.rawLen()
	switch {
	case n <= 0:
		r.Reject("a field has no name") // the peer does not take it either
		return nil
	case n > longest:
		r.discard(n)
		return nil
	}
	return r.next(int(n))
}

// Skip reads a value of any kind and forgets it.
func (r *Reader) Skip() { r.skip(0) }

func (r *Reader) skip(depth int) {
	const deepest = 100
	if depth > deepest {
		r.Reject("nested more than %d deep", deepest)
	}
	c := r.Byte()
	switch n := r.size(c); {
	case r.err != nil:
	case isContainer(c):
		for ; n > 0 && r.err == nil; n-- {
			r.skip(depth + 1)
		}
	case n > 0 && r.withinLimit(n):
		r.discard(n)
	}
}

// size returns how much belongs to the value that begins with c: bytes or, if
// it is a container, values.
func (r *Reader) size(c byte) int64 {
	switch {
	case c < fixMap || c >= negative:
		return 0
	case c < fixArray:
		return 2 * int64(c&0x0f)
	case c < fixRaw:
		return int64(c & 0x0f)
	case c < null:
		return int64(c & 0x1f)
	}
	switch c {
	case unused:
		r.Reject("found %s", kindOf(c))
	case uint8_, int8_:
		return 1
	case uint16_, int16_:
		return 2
	case uint32_, int32_, float32_:
		return 4
	case uint64_, int64_, float64_:
		return 8
	case bin8, raw8:
		return r.length(1)
	case bin16, raw16, array16:
		return r.length(2)
	case bin32, raw32, array32:
		return r.length(4)
	case map16:
		return 2 * r.length(2)
	case map32:
		return 2 * r.length(4)
	case fixExt1, fixExt2, fixExt4, fixExt8, fixExt16:
		return r.extSize(1 << (c - fixExt1))
	case ext8:
		return r.extSize(r.length(1))
	case ext16:
		return r.extSize(r.length(2))
	case ext32:
		return r.extSize(r.length(4))
	}
	return 0
}

// extSize reads the type of an extension of n bytes. Even one that nobody looks
// at has to be well-formed if it is a timestamp, as for the peer.
func (r *Reader) extSize(n int64) int64 {
	if r.Byte() == timeTag && n != 4 && n != 8 && n != 12 {
		r.Reject("%d bytes are not a time", n)
	}
	return n
}

func isContainer(c byte) bool {
	return fixMap <= c && c < fixRaw || array16 <= c && c <= map32
}

func (r *Reader) discard(n int64) {
	for n > 0 && r.need(1) {
		m := min(n, int64(r.Buffered()))
		r.r += int(m)
		n -= m
	}
}
