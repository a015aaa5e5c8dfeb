package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// ChunkSize is how much memory byte strings share at most.
const ChunkSize = 4 << 10

const (
	startSize = 4 << 10 // of a buffer

	// maxSize is that of a buffer which its source has filled again and again.
	// A read costs so much that batches of large entries gain a fifth over
	// 64 KiB, although much of what they carry is copied once more.
	maxSize = 256 << 10

	// largeSize is the length from which a byte string may be read past the
	// buffer, straight into its own slice. Shorter ones fit into every buffer.
	largeSize = startSize

	// ownSize is the length from which a byte string has memory of its own:
	// whoever keeps it keeps nothing else. Shorter ones share chunks of an arena.
	ownSize = 2 << 10

	// Strings of up to shortSize share chunks of shortChunk, also between
	// messages, so that addresses and IDs cost next to nothing.
	shortSize  = 128
	shortChunk = 512

	// slack is what a message may allocate beyond three times its bytes.
	slack = 64 << 10

	// longestHeld is the longest byte string that is read into memory. Where a
	// word has 32 bits a longer one finds no room, and a failed allocation would
	// end the process.
	longestHeld = math.MaxInt / 4

	// firstSize is what is allocated at most for a byte string before any of
	// it has arrived. It is what every half-sent message costs.
	firstSize = 16 << 10

	// emptyReads is how many reads may come back with neither bytes nor error.
	emptyReads = 100

	// believed is how long a byte string can be whose memory is allocated at
	// once because the source has sent as long a one before.
	believed = 4 << 20
)

// Reader reads msgpack values from a connection. It owns the input buffer, so
// everything that comes from the connection has to go through it.
//
// Its first error sticks: from then on every method returns zero values and
// Err the error, so callers look at Err once, at the end. Values that cannot
// be what the caller asked for are errors of type *Error; whatever the source
// returns is passed on as it is, except that an EOF after a message's first
// byte is io.ErrUnexpectedEOF.
//
// Nil stands for the zero value of everything. The zero Reader is ready for
// Reset. A Reader is used by one goroutine at a time.
type Reader struct {
	src  io.Reader
	buf  []byte // allocated by the first read
	r, w int    // buf[r:w] was read and is not consumed
	full bool   // the last read left no room
	err  error

	before  func() error           // see SetBefore
	unknown func(name string) bool // see SetUnknown, or nil

	unshared  bool  // see SetUnshared
	limit     int64 // of a message's bytes; 0 for none
	limitName string
	passed    int64 // plus r are the bytes consumed of this message
	allocated int64 // for this message
	short     Arena // of Bytes
	longest   int   // byte string past the buffer so far, at most believed

	zone   *time.Location // the last fixed one, at offset seconds
	offset int
}

// Error says that a message is not what it should be.
type Error struct {
	// Path is the place, "AppendEntriesRequest.Entries[3].Index" for example.
	Path string
	// Text says what is wrong.
	Text string
	// Found is the first byte of a value that has a wrong type, else 0.
	Found byte
	// TooLarge is set if nothing is wrong with the message but its size, or
	// that of what it would become in memory.
	TooLarge bool
}

// Error returns place and text.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Text
	}
	return e.Path + ": " + e.Text
}

// Reset makes the Reader read from src, as if it were new; it keeps the
// buffer's memory and what was set.
func (r *Reader) Reset(src io.Reader) {
	*r = Reader{src: src, buf: r.buf, unknown: r.unknown, unshared: r.unshared, limit: r.limit, limitName: r.limitName, short: r.short}
}

// SetBefore sets what is called before each read of the source, or nil, and
// returns what it was. An error of it becomes the Reader's. While it runs another
// goroutine may Fill the Reader: what comes of that is what is read next.
func (r *Reader) SetBefore(f func() error) (previous func() error) {
	previous, r.before = r.before, f
	return previous
}

// SetUnknown sets what is called with the name of each field that a message has beside
// its own, but not with those of structs inside of it. It reads the field's value and
// returns true, or leaves it to be skipped.
func (r *Reader) SetUnknown(f func(name string) bool) { r.unknown = f }

// SetLimit sets the greatest number of bytes that a message may have, without
// what is taken by Read; 0 means any. Errors call it by its name.
func (r *Reader) SetLimit(name string, n int64) { r.limitName, r.limit = name, n }

// SetUnshared makes Keep and BytesIn give every byte string memory of its own.
func (r *Reader) SetUnshared(v bool) { r.unshared = v }

// Shares reports whether a byte string of n bytes shares memory with others.
func (r *Reader) Shares(n int) bool { return n < ownSize && !r.unshared }

// Buffered returns how many bytes were read and are not yet consumed. It is 0
// after an error.
func (r *Reader) Buffered() int { return r.w - r.r }

// Peek returns the buffered bytes without consuming them. They stay
// valid until more is read from the source, or the Reader fails.
func (r *Reader) Peek() []byte { return r.buf[r.r:r.w] }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the Reader's error unless it has one.
func (r *Reader) Fail(err error) {
	if r.err != nil || err == nil {
		return
	}
	r.err = err
	// With nothing buffered all short cuts miss and end where err is looked
	// at, so they need not look themselves.
	r.passed += int64(r.r)
	r.r, r.w = 0, 0
}

// Reject fails with an *Error.
func (r *Reader) Reject(format string, args ...any) {
	if r.err == nil {
		r.Fail(&Error{Text: fmt.Sprintf(format, args...)})
	}
}

func (r *Reader) rejectSize(format string, args ...any) {
	r.Fail(&Error{Text: fmt.Sprintf(format, args...), TooLarge: true})
}

// At puts a place in front of the place of the Reader's error, if that is an
// *Error. Readers of containers call it from the inside out.
func (r *Reader) At(place string) {
	if e, ok := r.err.(*Error); ok {
		e.Path = place + e.Path
	}
}

// Begin starts a message: what was consumed and allocated is counted from here.
func (r *Reader) Begin() {
	r.passed = -int64(r.r)
	r.allocated = 0
}

// Grown reports whether the buffer has more than its smallest size.
func (r *Reader) Grown() bool { return len(r.buf) > startSize }

// Shrink lets the memory of a grown buffer go, if nothing is buffered.
func (r *Reader) Shrink() {
	if r.Buffered() > 0 || !r.Grown() {
		return
	}
	r.passed += int64(r.r)
	r.buf, r.r, r.w, r.full = nil, 0, 0, false
}

// Fill reads once from the source into the buffer, to wait for a message. It
// returns the source's error. A timeout that brought no bytes does not stick;
// Fill may be called again.
func (r *Reader) Fill() error {
	if r.err != nil || !r.prepare() {
		return r.err
	}
	r.makeRoom()
	if r.w == len(r.buf) {
		return nil
	}
	n, err := r.src.Read(r.buf[r.w:])
	r.got(n)
	if n > 0 || err == nil {
		// An error that comes with bytes is repeated by the next Read.
		return nil
	}
	if r.Buffered() == 0 && !isTimeout(err) {
		r.Fail(err)
	}
	return err
}

// Read reads bytes that are not msgpack: from the buffer if there are any, else
// with a single Read of the source. A timeout that brought no bytes does not
// stick.
func (r *Reader) Read(p []byte) (int, error) {
	if r.Buffered() > 0 {
		n := copy(p, r.Peek())
		r.r += n
		return n, nil
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if !r.prepare() {
		return r.Read(p)
	}
	n, err := r.src.Read(p)
	r.passed += int64(n)
	if n > 0 || err == nil {
		return n, nil
	}
	err = r.inside(err)
	if !isTimeout(err) {
		r.Fail(err)
	}
	return 0, err
}

func isTimeout(err error) bool {
	if t, ok := err.(interface{ Timeout() bool }); ok { // errors.As would allocate
		return t.Timeout()
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// need makes sure that n bytes, at most startSize, are buffered.
func (r *Reader) need(n int) bool {
	for r.w-r.r < n {
		if !r.more() {
			return false
		}
	}
	return true
}

func (r *Reader) more() bool {
	if r.err != nil || !r.withinLimit(1) {
		return false
	}
	if r.prepare() {
		r.makeRoom()
		r.got(r.read(r.buf[r.w:]))
	}
	return r.err == nil
}

// prepare is called before a read, and before the place for it is chosen. It
// returns false if there is no need to read any more: the buffer was filled
// meanwhile, or the Reader has failed.
func (r *Reader) prepare() bool {
	if r.before == nil {
		return true
	}
	had := r.Buffered()
	r.Fail(r.before())
	return r.err == nil && r.Buffered() == had
}

// makeRoom moves what is buffered to the front: of a larger buffer if the source
// filled the present one.
func (r *Reader) makeRoom() {
	to, size := r.buf, max(len(r.buf), startSize)
	if r.full && size < maxSize {
		size *= 2
	}
	if size > len(r.buf) {
		to = make([]byte, size)
	} else if r.r == 0 {
		return
	}
	r.passed += int64(r.r)
	r.w = copy(to, r.Peek())
	r.buf, r.r = to, 0
}

func (r *Reader) got(n int) {
	r.w += n
	r.full = r.w == len(r.buf)
}

// read reads at least one byte into p, or fails.
func (r *Reader) read(p []byte) int {
	for range emptyReads {
		n, err := r.src.Read(p)
		if n > 0 {
			return n // an error that came along is repeated by the next Read
		}
		if err != nil {
			r.Fail(r.inside(err))
			return 0
		}
	}
	r.Fail(io.ErrNoProgress)
	return 0
}

// inside turns an EOF after the message's first byte into an unexpected one.
func (r *Reader) inside(err error) error {
	if err == io.EOF && r.Consumed()+int64(r.Buffered()) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Consumed returns how many bytes of the message were consumed.
func (r *Reader) Consumed() int64 { return r.passed + int64(r.r) }

// withinLimit fails if the message cannot have n more bytes.
func (r *Reader) withinLimit(n int64) bool {
	size := r.Consumed() + n
	if r.limit > 0 && size > r.limit {
		r.rejectSize("message of %d bytes or more is over %s, which is %d", size, r.limitName, r.limit)
	}
	return r.err == nil
}

// Charge counts n bytes of memory that were allocated for the message. It fails
// if the message has used up more than three times what was consumed of it and
// some slack: so the smallest elements cannot be used to bloat the process.
func (r *Reader) Charge(n int) {
	r.allocated += int64(n)
	if most := 3*r.Consumed() + slack; r.allocated > most {
		r.rejectSize("needs more than %d bytes of memory for %d bytes", most, r.Consumed())
	}
}

// Reserve returns how many of n elements of the given size may be allocated
// now, at least one, and charges them: what has arrived must make it likely
// that there are as many.
func (r *Reader) Reserve(n int64, size int) int {
	const most = 24 << 10 // below slack, together with what few elements take
	arrived := int(r.Consumed()) + r.Buffered()
	likely := int(min(n, int64(max(16, 2*arrived/size)), int64(max(1, most/size))))
	r.Charge(likely * size)
	return likely
}

// Likely returns how many of n elements of the given size to allocate at once where it is
// likely that so many come: one if the message has used up much of what it may, since
// others that come instead need the rest.
func (r *Reader) Likely(n, size int) int {
	if r.allocated+int64(n*size) > 2*r.Consumed()+slack/2 {
		return min(n, 1)
	}
	return n
}

// Byte reads one byte, whatever it means.
func (r *Reader) Byte() byte {
	if !r.need(1) {
		return 0
	}
	b := r.buf[r.r]
	r.r++
	return b
}

// Nil reports whether the next value is nil, and reads it if so.
func (r *Reader) Nil() bool {
	if !r.need(1) || r.buf[r.r] != null {
		return false
	}
	r.r++
	return true
}

// Bool reads a boolean, or 0 or 1.
func (r *Reader) Bool() bool {
	switch c := r.Byte(); c {
	case boolT, 1:
		return true
	case boolF, 0, null:
	default:
		r.unexpected(c, aBoolean)
	}
	return false
}

// Uint64 reads an integer that is not negative.
func (r *Reader) Uint64() uint64 {
	v, signed := r.integer()
	if signed && int64(v) < 0 {
		r.Reject("%d is negative", int64(v))
		return 0
	}
	return v
}

// Uint8 reads an integer from 0 to 255.
func (r *Reader) Uint8() uint8 {
	v := r.Uint64()
	if v > 0xff {
		r.Reject("%d is more than 255", v)
	}
	return uint8(v)
}

// Int64 reads an integer. Unsigned ones above the greatest int64 wrap around.
func (r *Reader) Int64() int64 {
	v, _ := r.integer()
	return int64(v)
}

// integer reads an integer of any form. If its form is signed, v is an int64.
func (r *Reader) integer() (v uint64, signed bool) {
	c := r.Byte()
	switch {
	case c < fixMap:
		return uint64(c), false
	case c >= negative:
		return uint64(int8(c)), true
	case uint8_ <= c && c <= uint64_:
		return r.number(1 << (c - uint8_)), false
	case int8_ <= c && c <= int64_:
		size := 1 << (c - int8_)
		rest := 64 - 8*size
		return uint64(int64(r.number(size)<<rest) >> rest), true
	case c != null:
		r.unexpected(c, anInteger)
	}
	return 0, false
}

// number reads n bytes, at most 8, as a big-endian number.
func (r *Reader) number(n int) (v uint64) {
	for _, b := range r.next(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// ArrayLen reads what goes before the elements of an array: their number, or
// -1 if there is nil in place of the array.
func (r *Reader) ArrayLen() int64 { return r.lengthOf(r.Byte(), anArray) }

// rawLen reads what goes before a byte string, in any form: its length, or -1
// if there is nil in place of it.
func (r *Reader) rawLen() int64 {
	n := r.lengthOf(r.Byte(), aByteString)
	if n > 0 && !r.withinLimit(n) {
		return -1
	}
	return n
}

// String reads a byte string as a string.
func (r *Reader) String() string {
	n := r.rawLen()
	if n <= 0 {
		return ""
	}
	var b []byte
	if n < largeSize {
		b = r.next(int(n))
	} else {
		b = r.large(n)
	}
	r.Charge(len(b)) // for the copy
	return string(b)
}

// StringUpTo reads a byte string as a string, if it has at most so many bytes, which
// are less than 4 KiB.
func (r *Reader) StringUpTo(most int) string {
	n := r.rawLen()
	if n > int64(most) {
		r.Reject("is too long: %d bytes, at most %d", n, most)
		return ""
	}
	b := r.next(int(max(n, 0)))
	r.Charge(len(b))
	return string(b)
}

// Bytes reads a byte string into memory of its own or, if it is short, into
// memory that it shares with other short ones. Empty is not nil.
func (r *Reader) Bytes() []byte {
	switch n := r.rawLen(); {
	case n < 0:
		return nil
	case n < largeSize:
		return r.KeepShort(r.next(int(n)))
	default:
		return r.large(n)
	}
}

// BytesIn reads a byte string like Bytes, but into the memory that Keep
// gives it.
func (r *Reader) BytesIn(a *Arena, about int) []byte {
	switch n := r.rawLen(); {
	case n < 0:
		return nil
	case n < largeSize:
		return r.Keep(a, r.next(int(n)), about)
	default:
		return r.large(n)
	}
}

// next reads n bytes, at most startSize, and returns them where they lie.
func (r *Reader) next(n int) []byte {
	if !r.need(n) {
		return nil
	}
	r.r += n
	return r.buf[r.r-n : r.r]
}

// Arena is memory for small byte strings that live about as long as each other.
// It takes at most ChunkSize at once, so whoever keeps one of them keeps no more
// than that of others.
type Arena struct {
	free []byte
}

// refill gives an arena that has too little room a new chunk.
func (r *Reader) refill(a *Arena, chunk int) {
	r.Charge(chunk)
	a.free = make([]byte, chunk)
}

// hold returns a copy of b in the arena, which has room for it. With the
// capacity cut, appending to one byte string never overwrites the next one.
func (a *Arena) hold(b []byte) []byte {
	held := append(a.free[:0:len(b)], b...)
	a.free = a.free[len(b):]
	return held
}

// clone returns a copy of bytes that lie in the buffer.
func (r *Reader) clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	r.Charge(len(b))
	c := make([]byte, len(b)) // these two lines in a row spare the clearing
	copy(c, b)
	return c
}

// large reads n bytes straight into their slice. That begins with at most
// firstSize bytes and doubles whenever it was filled: a declared length costs
// at most twice what has arrived of it. Halving n to find the first size makes the last
// one exact, so all of them are less than 2n. A source that has already sent as
// long a string is believed at once, which spares half of the memory and the
// copying.
func (r *Reader) large(n int64) []byte {
	if n <= int64(r.Buffered()) {
		return r.clone(r.next(int(n)))
	}
	size := n
	for size > int64(max(firstSize, r.longest)) {
		size = (size + 1) / 2
	}
	b := make([]byte, size)
	r.readFull(b)
	total := size
	for r.err == nil && size < n {
		size = min(2*size, n)
		if size > longestHeld {
			r.rejectSize("byte string of %d bytes is too long for a process of this kind: at most %d", n, longestHeld)
			return nil
		}
		grown := make([]byte, size)
		r.readFull(grown[copy(grown, b):])
		b = grown
		total += size
	}
	r.Charge(int(total))
	if r.err != nil {
		return nil
	}
	r.longest = min(max(r.longest, len(b)), believed)
	return b
}

// readFull fills p from the buffer and then past it.
func (r *Reader) readFull(p []byte) {
	for r.err == nil {
		n := copy(p, r.Peek())
		r.r += n
		if p = p[n:]; len(p) == 0 {
			return
		}
		if r.prepare() {
			n = r.read(p)
			r.passed += int64(n)
			p = p[n:]
		}
	}
}

// Time reads a time in any of its forms: the bytes of MarshalBinary, the bytes
// of a timestamp, or a timestamp.
func (r *Reader) Time() time.Time {
	c := r.Byte()
	switch {
	case r.err != nil || c == null:
		return time.Time{}
	case c == fixExt4:
		return r.timestampExt(4)
	case c == fixExt8:
		return r.timestampExt(8)
	case c == ext8:
		return r.timestampExt(int64(r.number(1)))
	case c == fixRaw|15 || c == fixRaw|16:
		return r.marshaledTime(int(c & 0x1f))
	}
	return r.timestamp(r.lengthOf(c, aByteString))
}

func (r *Reader) timestampExt(n int64) time.Time {
	if tag := r.Byte(); tag != timeTag {
		r.Reject("extension %d is not a time", int8(tag))
	}
	return r.timestamp(n)
}

func (r *Reader) timestamp(n int64) time.Time {
	switch n {
	case 4:
		return time.Unix(int64(r.number(4)), 0).UTC()
	case 8:
		return unixTime8(r.number(8))
	case 12:
		nsec, sec := r.number(4), r.number(8)
		return time.Unix(int64(sec), int64(nsec)).UTC()
	}
	r.Reject("%d bytes are not a time", n)
	return time.Time{}
}

// unixTime8 returns the time of a timestamp of 8 bytes.
func unixTime8(v uint64) time.Time {
	return time.Unix(int64(v&(1<<34-1)), int64(v>>34)).UTC()
}

// marshaledTime reads n bytes of MarshalBinary.
func (r *Reader) marshaledTime(n int) time.Time {
	b := r.next(n)
	if b == nil {
		return time.Time{}
	}
	t, ok := r.unmarshalTime(b)
	if !ok {
		r.Reject("%x is not a time", b)
	}
	return t
}

// unmarshalTime returns the time of 15 or 16 bytes of MarshalBinary: version,
// 8 bytes of seconds since the year 1, 4 of nanoseconds, 2 of the zone's offset
// in minutes (-1 for UTC) and, in version 2, one of seconds. UnmarshalBinary
// would allocate for every time in another zone than ours; here they share it.
func (r *Reader) unmarshalTime(b []byte) (t time.Time, ok bool) {
	const sinceYear1 = 62135596800 // seconds from the year 1 to 1970
	nsec := binary.BigEndian.Uint32(b[9:])
	if int(b[0]) != len(b)-14 || nsec >= 1e9 {
		return t, false
	}
	t = time.Unix(int64(binary.BigEndian.Uint64(b[1:]))-sinceYear1, int64(nsec))
	offset := 60 * int(int16(binary.BigEndian.Uint16(b[13:])))
	if len(b) == 16 {
		offset += int(b[15])
	}
	return r.inZone(t, offset), true
}

// inZone moves t, which is local, to the zone at an offset, which is
// the local one if that has the same offset at that time.
func (r *Reader) inZone(t time.Time, offset int) time.Time {
	if offset == -60 {
		return t.UTC()
	}
	if _, local := t.Zone(); local == offset {
		return t
	}
	if r.zone == nil || r.offset != offset {
		r.zone, r.offset = time.FixedZone("", offset), offset
		r.Charge(192) // about
	}
	return t.In(r.zone)
}
