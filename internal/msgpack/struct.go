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
// in which the Go type declares them. At most 32. Those of a struct that is inside of a
// message have no message.
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
	c := r.Byte()
	s.array = forms[c].kind == anArray
	if s.array {
		s.left = r.lengthAfter(c)
	} else {
		s.left = r.lengthOf(c, aMap)
	}
	return s
}

// StructAfter goes on with a struct, a map of all fields in order, of which everything up to
// the field of the given name was read otherwise.
func (r *Reader) StructAfter(f *Fields, name string) Struct {
	n := slices.Index(f.names, name) + 1
	return Struct{Name: name, r: r, f: f, left: int64(len(f.names) - n), next: n, seen: 1<<n - 1}
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

// wasRead is what find returns for a field that SetUnknown's function has read.
const wasRead = -2

// find returns the next field, wasRead, or -1 if it is unknown.
func (s *Struct) find() int {
	s.Name = "" // for errors: no field yet
	if !s.array {
		name := s.r.key()
		i := s.f.index(name)
		if i < 0 && s.r.unknown != nil && s.f.message != "" && s.r.err == nil {
			s.Name = string(name) // which lies in the buffer
			if s.r.unknown(s.Name) {
				return wasRead
			}
		}
		return i
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
	case s.r.err != nil || i == wasRead:
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
	n := r.lengthAfter(c)
	switch forms[c].kind {
	case aMap:
		r.skipAll(2*n, depth)
		return
	case anArray:
		r.skipAll(n, depth)
		return
	case noValue:
		r.Reject("found %s", noValue)
	case anExtension:
		// Even one that nobody looks at has to be well-formed if it is a timestamp,
		// as for the peer.
		if r.Byte() == timeTag && n != 4 && n != 8 && n != 12 {
			r.Reject("%d bytes are not a time", n)
		}
	}
	if n > 0 && r.withinLimit(n) {
		r.discard(n)
	}
}

func (r *Reader) skipAll(n int64, depth int) {
	for ; n > 0 && r.err == nil; n-- {
		r.skip(depth + 1)
	}
}

func (r *Reader) discard(n int64) {
	for n > 0 && r.need(1) {
		m := min(n, int64(r.Buffered()))
		r.r += int(m)
		n -= m
	}
}
