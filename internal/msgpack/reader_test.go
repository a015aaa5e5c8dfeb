package msgpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"
)

func newReader(parts ...string) *Reader {
	r := &Reader{}
	r.Reset(strings.NewReader(strings.Join(parts, "")))
	r.Begin()
	return r
}

// oracle decodes a value with the codec that hashicorp/raft uses.
func oracle(value []byte, to any) error {
	return codec.NewDecoder(bytes.NewReader(value), &codec.MsgpackHandle{}).Decode(to)
}

// agrees compares reading one value with the oracle, on every prefix of it too.
func agrees[T any](t *testing.T, value []byte, read func(*Reader) T) {
	t.Helper()
	for n := 1; n <= len(value); n = next(n, len(value)) {
		var want T
		wantErr := oracle(value[:n], &want)
		r := newReader(string(value[:n]))
		got := read(r)
		require.Equal(t, wantErr == nil, r.Err() == nil, "% x: %v, oracle: %v", value[:n], r.Err(), wantErr)
		if wantErr == nil {
			require.Equal(t, want, got, "% x", value[:n])
		}
	}
}

// next goes through the lengths at which a value can end.
func next(n, all int) int {
	if n < 18 || n >= all {
		return n + 1
	}
	return all
}

// everyValue are values that begin with each of the 256 bytes, followed by
// bytes whose sign bit is clear, and by some whose is set.
func everyValue() (values [][]byte) {
	for c := range 256 {
		for _, rest := range []byte{0x01, 0x91} {
			if c != raw32 && c != bin8+2 { // whose length is slow for the oracle
				values = append(values, append([]byte{byte(c)}, bytes.Repeat([]byte{rest}, 40)...))
			}
		}
		values = append(values, append([]byte{byte(c), 0, 0, 0, 4, timeTag}, make([]byte, 20)...))
	}
	return values
}

func TestReaderAcceptsWhatTheOracleAccepts(t *testing.T) {
	for _, v := range everyValue() {
		agrees(t, v, (*Reader).Uint64)
		agrees(t, v, (*Reader).Uint8)
		agrees(t, v, (*Reader).Int64)
		agrees(t, v, (*Reader).Bool)
		agrees(t, v, (*Reader).Time)
		if forms[v[0]].kind != anArray { // of numbers: stricter
			agrees(t, v, (*Reader).Bytes)
			agrees(t, v, (*Reader).String)
		}
	}
}

func TestReaderSkipsWhatTheOracleSkips(t *testing.T) {
	type known struct{ Z uint64 }
	fields := NewFields("known", "Z")
	for _, v := range everyValue() {
		value := append([]byte("\x82\xa1a"), v...)
		for n := len(value); n > 3; n-- {
			// Whatever is left after the unknown field is read as the other one.
			agrees(t, append(value[:n:n], "\xa1Z\x05"...), func(r *Reader) (k known) {
				for s := r.Struct(fields); s.Next(); {
					k.Z = r.Uint64()
				}
				return k
			})
		}
	}
}

func TestIntegersTakeTheShortestForm(t *testing.T) {
	var h codec.MsgpackHandle
	for shift := range 64 {
		for _, d := range []int64{-2, -1, 0, 1} {
			v := int64(1)<<shift + d
			for _, v := range []int64{v, -v} {
				var want []byte
				codec.NewEncoderBytes(&want, &h).MustEncode(v)
				require.Equal(t, want, AppendInt(nil, v), v)
				codec.NewEncoderBytes(&want, &h).MustEncode(uint64(v))
				require.Equal(t, want, AppendUint(nil, uint64(v)), uint64(v))
			}
		}
	}
}

func TestLengthsTakeTheShortestForm(t *testing.T) {
	var h codec.MsgpackHandle
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536} {
		var want []byte
		codec.NewEncoderBytes(&want, &h).MustEncode(make([]byte, n))
		require.Equal(t, want, AppendBytes(nil, make([]byte, n)))
		require.Equal(t, want, AppendString(nil, string(make([]byte, n))))
		codec.NewEncoderBytes(&want, &h).MustEncode(make([]bool, n))
		require.Equal(t, want, append(AppendArrayHeader(nil, n), bytes.Repeat([]byte{boolF}, n)...))
		m := map[int]bool{}
		for i := range n {
			m[i] = true
		}
		codec.NewEncoderBytes(&want, &h).MustEncode(m)
		header := AppendMapHeader(nil, n)
		require.Equal(t, want[:len(header)], header)
	}
}

func TestTimeWithoutBinaryFormIsSentInUTC(t *testing.T) {
	instant := time.Unix(1_700_000_000, 5)
	for _, offset := range []int{-60, 40000 * 60} {
		west := instant.In(time.FixedZone("", offset))
		require.Equal(t, AppendTime(nil, instant.UTC()), AppendTime(nil, west))
	}
}

func TestTimesInOneZoneShareIt(t *testing.T) {
	value := AppendTime(nil, time.Unix(1_700_000_000, 5).In(time.FixedZone("", 19800)))
	var r Reader
	r.Reset(&endless{value: value})
	r.Time()
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Time() }))
}

// endless repeats a value for ever.
type endless struct {
	value []byte
	at    int
	most  int // that a Read returns, if positive
}

func (e *endless) Read(p []byte) (int, error) {
	if e.most > 0 {
		p = p[:min(len(p), e.most)]
	}
	for i := range p {
		p[i] = e.value[e.at]
		e.at = (e.at + 1) % len(e.value)
	}
	return len(p), nil
}

// Errors and ends.

func TestEOFBeforeTheFirstByte(t *testing.T) {
	r := newReader()
	r.Byte()
	require.Equal(t, io.EOF, r.Err())
}

func TestEOFBetweenMessages(t *testing.T) {
	r := newReader("\x01")
	r.Byte()
	r.Begin()
	r.Byte()
	require.Equal(t, io.EOF, r.Err())
}

func TestEOFInsideAMessage(t *testing.T) {
	for _, rest := range []string{"", "\xcd\x01", "\xda\x20\x00abc"} {
		r := newReader("\x01", rest)
		r.Byte()
		if strings.HasPrefix(rest, "\xda") {
			r.Bytes()
		} else {
			r.Uint64()
		}
		require.Equal(t, io.ErrUnexpectedEOF, r.Err())
	}
}

func TestFirstErrorSticks(t *testing.T) {
	r := newReader("\xa1x\x07\x07")
	r.Uint64()
	first := r.Err()
	require.EqualError(t, first, "found a byte string (0xa1), not an integer")
	require.Zero(t, r.Uint64())
	require.Zero(t, r.Byte())
	require.Nil(t, r.Bytes())
	require.Zero(t, r.Buffered())
	r.Fail(io.EOF)
	_, err := r.Read(make([]byte, 1))
	require.Equal(t, first, err)
	require.Equal(t, first, r.Fill())
	require.Equal(t, first, r.Err())
}

func TestSourceThatMakesNoProgress(t *testing.T) {
	var r Reader
	r.Reset(readerFunc(func([]byte) (int, error) { return 0, nil }))
	r.Byte()
	require.Equal(t, io.ErrNoProgress, r.Err())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestErrorThatComesWithBytes(t *testing.T) {
	var r Reader
	r.Reset(iotest.DataErrReader(strings.NewReader("\x07")))
	r.Begin()
	require.NoError(t, r.Fill())
	require.EqualValues(t, 7, r.Uint64())
	r.Begin()
	require.Equal(t, io.EOF, r.Fill())
}

func TestFillSurvivesATimeout(t *testing.T) {
	reads := []func([]byte) (int, error){
		func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded },
		func(p []byte) (int, error) { return copy(p, "\x07\x08"), nil },
		func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded },
		func([]byte) (int, error) { return 0, io.ErrClosedPipe },
	}
	var r Reader
	r.Reset(readerFunc(func(p []byte) (int, error) {
		f := reads[0]
		reads = reads[1:]
		return f(p)
	}))
	require.ErrorIs(t, r.Fill(), os.ErrDeadlineExceeded)
	require.NoError(t, r.Err())
	require.NoError(t, r.Fill())
	require.Equal(t, 2, r.Buffered())
	require.Equal(t, "\x07\x08", string(r.Peek()))
	r.Byte()
	r.Byte()
	_, err := r.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, r.Err())
	require.ErrorIs(t, r.Fill(), io.ErrClosedPipe)
	require.ErrorIs(t, r.Err(), io.ErrClosedPipe)
}

func TestTimeoutInsideAValueSticks(t *testing.T) {
	var r Reader
	r.Reset(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("\xcd\x01\x02"))))
	r.Uint64()
	require.Equal(t, iotest.ErrTimeout, r.Err())
}

func TestReadTakesTheBufferFirst(t *testing.T) {
	r := newReader("\x07body")
	r.Byte()
	p := make([]byte, 2)
	n, err := r.Read(p)
	require.NoError(t, err)
	require.Equal(t, "bo", string(p[:n]))
	body, err := io.ReadAll(io.LimitReader(r, 2))
	require.NoError(t, err)
	require.Equal(t, "dy", string(body))
	_, err = r.Read(p)
	require.Equal(t, io.ErrUnexpectedEOF, err)
}

// Whoever is let at the Reader before a read, and whatever that read is for, no
// byte is lost or comes out of order.
func TestWhatIsFilledBeforeAReadComesNext(t *testing.T) {
	for _, size := range []int{0, 10, largeSize, 3 * maxSize} {
		for often := 1; often <= 3; often++ {
			t.Run(fmt.Sprintf("%d bytes, each time in %d", size, often), func(t *testing.T) {
				var frame []byte
				payload := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
				for range 20 {
					frame = AppendUint(AppendBytes(frame, payload), 1_000_000)
				}
				const body = "and a body that is not msgpack"
				r := &Reader{}
				r.Reset(iotest.HalfReader(bytes.NewReader(append(frame, body...))))
				calls := 0
				r.SetBefore(func() error {
					if calls++; calls%often == 0 {
						defer r.SetBefore(r.SetBefore(nil))
						return r.Fill()
					}
					return nil
				})
				for range 20 {
					r.Begin()
					require.Equal(t, payload, r.Bytes())
					require.EqualValues(t, 1_000_000, r.Uint64())
					require.EqualValues(t, len(frame)/20, r.Consumed())
				}
				got := make([]byte, len(body))
				_, err := io.ReadFull(r, got)
				require.NoError(t, err)
				require.Equal(t, body, string(got))
				require.NotZero(t, calls)
			})
		}
	}
}

func TestAnErrorBeforeAReadSticks(t *testing.T) {
	for name, read := range map[string]func(*Reader){
		"Fill":  func(r *Reader) { _ = r.Fill() },
		"Read":  func(r *Reader) { _, _ = r.Read(make([]byte, 1)) },
		"Byte":  func(r *Reader) { r.Byte() },
		"Bytes": func(r *Reader) { r.readFull(make([]byte, 2*largeSize)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader("abc")
			r.SetBefore(func() error { return os.ErrDeadlineExceeded })
			read(r)
			require.Equal(t, os.ErrDeadlineExceeded, r.Err())
		})
	}
}

func TestLimit(t *testing.T) {
	message := "\x81\xa1a\xa3xyz"
	fields := NewFields("M", "a")
	read := func(r *Reader) {
		r.Begin()
		for s := r.Struct(fields); s.Next(); {
			r.Bytes()
		}
	}
	r := newReader(message, message)
	r.SetLimit("the limit", int64(len(message)))
	read(r)
	read(r)
	require.NoError(t, r.Err())

	r = newReader(message)
	r.SetLimit("the limit", int64(len(message))-1)
	read(r)
	require.EqualError(t, r.Err(), "M.a: message of 7 bytes or more is over the limit, which is 6")

	r = newReader("\x82\xa1b\x05\xa1c\x06")
	r.SetLimit("the limit", 6)
	read(r)
	require.EqualError(t, r.Err(), "M: message of 7 bytes or more is over the limit, which is 6")

	r = newReader("\x81\xa1b\xdb\x7f\xff\xff\xff")
	r.SetLimit("the limit", 1000)
	read(r)
	require.EqualError(t, r.Err(), "M.(unknown field): message of 2147483655 bytes or more is over the limit, which is 1000")
}

func TestNestingIsLimited(t *testing.T) {
	r := newReader(strings.Repeat("\x91", 100), "\xc0")
	r.Skip()
	require.NoError(t, r.Err())
	r = newReader(strings.Repeat("\x91", 101), "\xc0")
	r.Skip()
	require.EqualError(t, r.Err(), "nested more than 100 deep")
}

func TestStruct(t *testing.T) {
	fields := NewFields("M", "B", "A")
	for value, want := range map[string]string{
		"\xc0":                          "",
		"\x80":                          "",
		"\x82\xa1A\x01\xa1B\x02":        "A=1 B=2 ",
		"\x82\xa1B\x02\xa1A\x01":        "B=2 A=1 ",
		"\x82\xc4\x01A\x01\xc0\x02":     "A=1 M: a field has no name",
		"\x82\xc4\x01A\x01\xa0\x02":     "A=1 M: a field has no name",
		"\x82\xc4\x01A\x01\xa1a\x02":    "A=1 ",
		"\x92\x01\x02":                  "B=1 A=2 ",
		"\x93\x01\x02\x81\xa1x\x03":     "B=1 A=2 ",
		"\xdc\x00\x01\x07":              "B=7 ",
		"\xde\x00\x01\xd9\x01A\x03":     "A=3 ",
		"\xdf\x00\x00\x00\x01\xa1A\xc0": "A=0 ",
		"\x82\xd9\x50" + strings.Repeat("x", 80) + "\x00\xa1A\x01": "A=1 ",
		"\x82\xa1A\x01\xa1A\x02":                                   "A=1 M.A: comes twice",
		"\x81\xa1A\xa0":                                            "A=0 M.A: found a byte string (0xa0), not an integer",
		"\x07":                                                     "M: found an integer (0x07), not a map",
		"\x81\x07":                                                 "M: found an integer (0x07), not a byte string",
	} {
		r := newReader(value)
		got := ""
		for s := r.Struct(fields); s.Next(); {
			got += fmt.Sprintf("%s=%d ", s.Name, r.Uint64())
		}
		if r.Err() != nil {
			got += r.Err().Error()
		}
		require.Equal(t, want, got, "% x", value)
	}
}

// Memory.

func TestBufferGrowsWithFullReadsAndShrinks(t *testing.T) {
	var r Reader
	r.Reset(&endless{value: []byte{7}})
	for _, size := range []int{4, 8, 16, 32, 64, 128, 256, 256} {
		require.NoError(t, r.Fill())
		require.Equal(t, size<<10, r.Buffered())
		r.Shrink() // not now
		for r.Buffered() > 0 {
			r.Byte()
		}
	}
	r.Shrink()
	require.NoError(t, r.Fill())
	require.Equal(t, 4<<10, r.Buffered())
}

func TestFillOfAFullBufferDoesNothing(t *testing.T) {
	var r Reader
	r.Reset(&endless{value: []byte{7}})
	for range 10 {
		require.NoError(t, r.Fill())
	}
	require.Equal(t, maxSize, r.Buffered())
}

// grownReader reads byte strings of the given lengths, over and over, with a buffer
// that has its greatest size.
func grownReader(t *testing.T, lengths ...int) *Reader {
	var all []byte
	for i, n := range lengths {
		all = AppendBytes(all, bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	r := new(Reader)
	r.Reset(&endless{value: all})
	for len(r.buf) < maxSize {
		require.NoError(t, r.Fill())
	}
	return r
}

// keep reads n byte strings of a message.
func keep(r *Reader, n int) (all [][]byte) {
	r.Begin()
	var a Arena
	for i := range n {
		b, rest := ParseBytes(r.Peek())
		if !r.Consume(rest) {
			all = append(all, r.BytesIn(&a, n-i))
			continue
		}
		all = append(all, r.Keep(&a, b, n-i))
	}
	return all
}

// Nothing stays in the input buffer, which is used again, and only short byte
// strings share an allocation.
func TestReader_KeepsLongBytesAlone(t *testing.T) {
	for _, c := range []struct {
		length   int
		unshared bool
		most     float64 // allocations for 64
	}{
		{100, false, 2}, {ownSize - 1, false, 32}, {100, true, 64}, {ownSize, false, 64}, {16 << 10, false, 64},
	} {
		r := grownReader(t, c.length)
		r.SetUnshared(c.unshared)
		var all [64][]byte
		allocs := testing.AllocsPerRun(10, func() {
			r.Begin()
			var a Arena
			for i := range all {
				all[i] = r.BytesIn(&a, len(all)-i)
			}
		})
		require.NoError(t, r.Err())
		require.Equal(t, c.most, allocs, "64 of %d bytes", c.length)
		clear(r.buf)
		for _, b := range all {
			require.Equal(t, len(b), cap(b), "appending would overwrite what comes next")
			require.NotZero(t, b[0])
		}
	}
}

// Nothing that was read changes because of what is read later.
func TestWhatIsKeptDoesNotChange(t *testing.T) {
	lengths := []int{16 << 10, 5 << 10, 70 << 10, 1, 300, 8 << 10, 200 << 10}
	r := grownReader(t, lengths...)
	r.src.(*endless).most = 100_000
	var all [][]byte
	for range 50 {
		all = append(all, keep(r, len(lengths))...)
	}
	require.NoError(t, r.Err())
	r.Reset(&endless{value: []byte{0xa1, 0xff}})
	for range 2 * maxSize {
		r.Bytes()
	}
	for i, b := range all {
		n := i % len(lengths)
		require.Equal(t, bytes.Repeat([]byte{byte(n + 1)}, lengths[n]), b)
	}
}

func TestAppendingToBytesLeavesNeighboursAlone(t *testing.T) {
	r := newReader("\xa1a\xa1b\xa1c\xa1d")
	var arena Arena
	a, b := r.Bytes(), r.Bytes()
	c, d := r.BytesIn(&arena, 2), r.BytesIn(&arena, 2)
	_, _ = append(a, "xxx"...), append(c, "xxx"...)
	require.Equal(t, "b", string(b))
	require.Equal(t, "d", string(d))
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestDeclaredLengthCostsNothing(t *testing.T) {
	for _, length := range []string{"\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xdb\x7f\xff\xff\xff"} {
		for _, arrived := range []int{0, 100, 5000, 200_000} {
			value := length + strings.Repeat("x", arrived)
			got := allocated(func() {
				r := newReader(value)
				require.Nil(t, r.Bytes())
				require.Equal(t, io.ErrUnexpectedEOF, r.Err())
			})
			require.Less(t, got, uint64(3*arrived+len(value)+80<<10), "% x and %d bytes", length, arrived)
		}
	}
}

func TestLargeBytesAllocateLinearly(t *testing.T) {
	for _, n := range []int{4095, 4096, 65536, 65537, 100_000, 1 << 20, 1<<20 + 1, 3_333_333} {
		value := string(AppendBytes(nil, bytes.Repeat([]byte{7}, n)))
		for name, src := range map[string]io.Reader{
			"at once":   strings.NewReader(value),
			"in halves": iotest.HalfReader(strings.NewReader(value)),
		} {
			var r Reader
			r.Reset(src)
			r.Begin()
			var b []byte
			got := allocated(func() { b = r.Bytes() })
			require.NoError(t, r.Err())
			require.Len(t, b, n)
			require.Equal(t, value[len(value)-n:], string(b))
			require.LessOrEqual(t, cap(b), n+n/8, "no memory is left over")
			require.Less(t, got, uint64(2*n+64<<10), "%s: %d bytes", name, n)
		}
	}
}

func TestSourceIsBelievedOnceItSentAsMuch(t *testing.T) {
	const n = 1 << 20
	value := string(AppendBytes(nil, make([]byte, n)))
	r := newReader(value, value)
	r.Bytes()
	r.Begin()
	got := allocated(func() { require.Len(t, r.Bytes(), n) })
	require.Less(t, got, uint64(n+n/8))
}

// However much a source has sent, it is not believed more than that.
func TestASourceIsBelievedUpToALimit(t *testing.T) {
	value := string(AppendBytes(nil, make([]byte, 4*believed)))
	r := newReader(value, value[:1000])
	require.Len(t, r.Bytes(), 4*believed)
	r.Begin()
	require.Less(t, allocated(func() { require.Nil(t, r.Bytes()) }), uint64(believed+1<<20))
	require.Equal(t, io.ErrUnexpectedEOF, r.Err())
}

func TestLargeString(t *testing.T) {
	want := strings.Repeat("x", 300_000)
	r := newReader(string(AppendString(nil, want)))
	require.Equal(t, want, r.String())
	require.NoError(t, r.Err())
}

func TestChargeStopsBloat(t *testing.T) {
	r := newReader(strings.Repeat("\x07", 1000))
	for range 1000 {
		r.Byte()
	}
	r.Charge(3*1000 + slack)
	require.NoError(t, r.Err())
	r.Charge(1)
	require.EqualError(t, r.Err(), "needs more than 68536 bytes of memory for 1000 bytes")
	require.True(t, errors.As(r.Err(), new(*Error)))
}

func TestLongestLengths(t *testing.T) {
	for _, v := range []uint32{math.MaxUint32, math.MaxInt32 + 1} {
		r := newReader(string(binary.BigEndian.AppendUint32([]byte{array32}, v)))
		require.EqualValues(t, v, r.ArrayLen())
	}
}

// A length that the format cannot say is never cut to one that it can.
func TestAppendLength_PanicsRatherThanCut(t *testing.T) {
	if strconv.IntSize == 32 {
		t.Skip("an int has no such value")
	}
	n := int64(MaxLength)
	require.NotPanics(t, func() { AppendRawHeader(nil, int(n)) })
	n++
	for _, write := range []func([]byte, int) []byte{AppendRawHeader, AppendArrayHeader, AppendMapHeader} {
		require.PanicsWithValue(t, "msgpack: length 4294967296 is more than 4294967295", func() { write(nil, int(n)) })
	}
}
