package raftwire

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/stretchr/testify/require"
)

// codecKind is a message's type with its part of the codec.
type codecKind struct {
	name   string
	empty  func() any
	append func(dst []byte, m any, newTime bool) []byte
	read   func(r *msgpack.Reader, m any)
}

func newCodecKind[T any](app func([]byte, *T, bool) []byte, read func(*msgpack.Reader, *T)) codecKind {
	return codecKind{
		name:   reflect.TypeFor[T]().Name(),
		empty:  func() any { return new(T) },
		append: func(dst []byte, m any, newTime bool) []byte { return app(dst, m.(*T), newTime) },
		read:   func(r *msgpack.Reader, m any) { read(r, m.(*T)) },
	}
}

func timeless[T any](app func([]byte, *T) []byte) func([]byte, *T, bool) []byte {
	return func(dst []byte, m *T, _ bool) []byte { return app(dst, m) }
}

// reflected is the kind of a message that is read and written by reflection.
func reflected[T any]() codecKind {
	return newCodecKind(
		func(dst []byte, m *T, _ bool) []byte { return appendMessage(dst, m) },
		func(r *msgpack.Reader, m *T) { readMessage(r, m) })
}

func appendUncut(dst []byte, m *AppendEntriesRequest, newTime bool) []byte {
	dst, _ = appendAppendEntriesRequest(dst, m, newTime, nil)
	return dst
}

var requestKinds = []codecKind{
	newCodecKind(appendUncut, func(r *msgpack.Reader, m *AppendEntriesRequest) { *m = *readAppendEntriesRequest(r) }),
	reflected[RequestVoteRequest](),
	reflected[InstallSnapshotRequest](),
	reflected[TimeoutNowRequest](),
	reflected[RequestPreVoteRequest](),
}

var responseKinds = []codecKind{
	newCodecKind(timeless(appendAppendEntriesResponse), readAppendEntriesResponse),
	reflected[RequestVoteResponse](),
	reflected[InstallSnapshotResponse](),
	reflected[TimeoutNowResponse](),
	reflected[RequestPreVoteResponse](),
}

var codecKinds = append(append([]codecKind{}, requestKinds...), responseKinds...)

// The oracle: the codec that hashicorp/raft uses, set up as it does.

func oracleEncode(t testing.TB, m any, newTime bool) []byte {
	h := &codec.MsgpackHandle{}
	h.TimeNotBuiltin = !newTime
	return encodeWith(t, h, m)
}

func encodeWith(t testing.TB, h *codec.MsgpackHandle, v any) []byte {
	var buf bytes.Buffer
	require.NoError(t, codec.NewEncoder(&buf, h).Encode(v))
	return buf.Bytes()
}

func oracleDecode(frame []byte, m any) error {
	return codec.NewDecoder(bytes.NewReader(frame), &codec.MsgpackHandle{}).Decode(m)
}

func decodeFrom(src io.Reader, k codecKind) (any, *msgpack.Reader) {
	var r msgpack.Reader
	r.Reset(src)
	r.Begin()
	m := k.empty()
	k.read(&r, m)
	return m, &r
}

// decode decodes a frame that is buffered already, as it is behind a kind byte or an
// error text. The fast path needs that.
func decode(frame []byte, k codecKind) (any, error) {
	var r msgpack.Reader
	r.Reset(bytes.NewReader(frame))
	r.Begin()
	_ = r.Fill()
	m := k.empty()
	k.read(&r, m)
	return m, r.Err()
}

// randomMessage fills a new message with values at which encodings change.
func randomMessage(rnd *rand.Rand, k codecKind) any {
	m := k.empty()
	randomize(rnd, reflect.ValueOf(m).Elem())
	return m
}

func randomize(rnd *rand.Rand, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(randomTime(rnd)))
		return
	case []byte:
		v.SetBytes(randomBytes(rnd))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			randomize(rnd, v.Field(i))
		}
	case reflect.Slice:
		randomizeSlice(rnd, v)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		randomize(rnd, v.Elem())
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(randomUint(rnd))
	case reflect.Int64: // Size is never negative
		v.SetInt(int64(randomUint(rnd) &^ (1 << 63)))
	case reflect.Int:
		v.SetInt(int64(randomUint(rnd)))
	default:
		panic(v.Type())
	}
}

func randomizeSlice(rnd *rand.Rand, v reflect.Value) {
	n := []int{-1, 0, 1, 2, 15, 16, 40}[rnd.IntN(7)]
	if n < 0 {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		randomize(rnd, v.Index(i))
	}
}

func randomUint(rnd *rand.Rand) uint64 {
	around := uint64(1) << []int{0, 5, 6, 7, 8, 15, 16, 31, 32, 33, 62, 63}[rnd.IntN(12)]
	v := around + uint64(rnd.IntN(4)) - 2
	if rnd.IntN(4) == 0 {
		v = -v
	}
	return v
}

func randomBytes(rnd *rand.Rand) []byte {
	lengths := []int{-1, 0, 1, 13, 31, 32, 33, 128, 129, 255, 256, 1000}
	if rnd.IntN(40) == 0 {
		lengths = []int{4095, 4096, 4097, 65535, 65536, 200_000}
	}
	n := lengths[rnd.IntN(len(lengths))]
	if n < 0 {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func randomTime(rnd *rand.Rand) time.Time {
	zones := []*time.Location{
		time.UTC, time.Local,
		time.FixedZone("", 3600), time.FixedZone("", -7*3600), time.FixedZone("IST", 19800),
		time.FixedZone("", 3600+17), time.FixedZone("", -3600-17), time.FixedZone("", 59),
	}
	secs := []int64{0, 1, math.MaxUint32, math.MaxUint32 + 1, 1<<34 - 1, 1 << 34, -1, -62135596800, 1_700_000_000}
	nsecs := []int64{0, 0, 1, 999_999_999}
	if rnd.IntN(5) == 0 {
		return time.Time{}
	}
	return time.Unix(secs[rnd.IntN(len(secs))], nsecs[rnd.IntN(len(nsecs))]).In(zones[rnd.IntN(len(zones))])
}

// equal is require.Equal, but cheap when the values are equal, and short when they are
// not.
func equal(t testing.TB, want, got any) {
	t.Helper()
	if reflect.DeepEqual(want, got) {
		return
	}
	t.Fatalf("want %.2000s\n got %.2000s", show(want), show(got))
}

func show(v any) string {
	if b, ok := v.([]byte); ok {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%+v", v)
}

func forEachKind(t *testing.T, f func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool)) {
	for _, k := range codecKinds {
		for _, newTime := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/newTime=%v", k.name, newTime), func(t *testing.T) {
				f(t, rand.New(rand.NewPCG(1, 2)), k, newTime)
			})
		}
	}
}

func TestCodec_EncodesAsTheOracle(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		for range 200 {
			m := randomMessage(rnd, k)
			equal(t, oracleEncode(t, m, newTime), k.append(nil, m, newTime))
		}
	})
}

func TestCodec_DecodesAsTheOracle(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		for range 200 {
			frame := oracleEncode(t, randomMessage(rnd, k), newTime)
			want := k.empty()
			require.NoError(t, oracleDecode(frame, want))
			got, err := decode(frame, k)
			require.NoError(t, err)
			equal(t, want, got)
		}
	})
}

func TestCodec_DecodesByteByByte(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		for range 20 {
			frame := oracleEncode(t, randomMessage(rnd, k), newTime)
			want, err := decode(frame, k)
			require.NoError(t, err)
			got, r := decodeFrom(iotest.OneByteReader(bytes.NewReader(frame)), k)
			require.NoError(t, r.Err())
			equal(t, want, got)
		}
	})
}

func TestCodec_OverwritesOldContent(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		m := randomMessage(rnd, k)
		var r msgpack.Reader
		r.Reset(bytes.NewReader([]byte{0x80}))
		r.Begin()
		k.read(&r, m)
		require.NoError(t, r.Err())
		equal(t, k.empty(), m)
	})
}

func TestCodec_RefusesEveryTruncation(t *testing.T) {
	for _, k := range codecKinds {
		t.Run(k.name, func(t *testing.T) {
			frame := oracleEncode(t, randomMessage(rand.New(rand.NewPCG(5, 6)), k), false)
			for n := range frame {
				_, err := decode(frame[:n], k)
				if n == 0 {
					require.Equal(t, io.EOF, err)
					continue
				}
				require.Equal(t, io.ErrUnexpectedEOF, err, "%d of %d bytes", n, len(frame))
			}
		})
	}
}

type fields = map[string]any

func TestCodec_SaysWhereAFrameIsWrong(t *testing.T) {
	appendEntries, installSnapshot := requestKinds[0], requestKinds[2]
	for _, c := range []struct {
		kind  codecKind
		value any
		want  string
	}{
		{appendEntries, fields{"Entries": []any{fields{}, nil}},
			"AppendEntriesRequest.Entries[1]: is nil"},
		{appendEntries, fields{"Entries": []any{fields{"Index": "x"}}},
			"AppendEntriesRequest.Entries[0].Index: found a byte string (0xa1), not an integer"},
		{appendEntries, fields{"Entries": []any{fields{"Type": 256}}},
			"AppendEntriesRequest.Entries[0].Type: 256 is more than 255"},
		{appendEntries, fields{"Entries": []any{fields{"AppendedAt": "noon"[:3]}}},
			"AppendEntriesRequest.Entries[0].AppendedAt: 3 bytes are not a time"},
		{appendEntries, fields{"Entries": 7},
			"AppendEntriesRequest.Entries: found an integer (0x07), not an array"},
		{appendEntries, fields{"Term": -1},
			"AppendEntriesRequest.Term: -1 is negative"},
		{appendEntries, fields{"Term": 1.5},
			"AppendEntriesRequest.Term: found a float (0xcb), not an integer"},
		{appendEntries, "HTTP",
			"AppendEntriesRequest: found a byte string (0xa4), not a map"},
		{installSnapshot, fields{"Size": -1},
			"InstallSnapshotRequest.Size: -1 is negative"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, err := decode(encodeWith(t, &codec.MsgpackHandle{}, c.value), c.kind)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestCodec_AcceptsEveryShapeOfAMessage(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		for range 100 {
			m := randomMessage(rnd, k)
			for name, frame := range map[string][]byte{
				"array":     arrayOf(t, m, newTime),
				"shuffled":  shuffledMap(t, rnd, m, newTime),
				"new forms": newForms(t, m),
			} {
				want := k.empty()
				require.NoError(t, oracleDecode(frame, want))
				got, err := decode(frame, k)
				require.NoError(t, err, name)
				equal(t, want, got)
			}
		}
	})
}

// arrayOf encodes structs as arrays of their values.
func arrayOf(t testing.TB, m any, newTime bool) []byte {
	h := &codec.MsgpackHandle{}
	h.StructToArray, h.TimeNotBuiltin = true, !newTime
	return encodeWith(t, h, m)
}

// newForms encodes with the forms of today's msgpack: bin, str8, timestamps as
// extensions, positive integers as unsigned.
func newForms(t testing.TB, m any) []byte {
	return encodeWith(t, &codec.MsgpackHandle{WriteExt: true, PositiveIntUnsigned: true, NoFixedNum: true}, m)
}

// shuffledMap encodes a message as a map in any order, with some fields missing and
// some unknown ones.
func shuffledMap(t testing.TB, rnd *rand.Rand, m any, newTime bool) []byte {
	h := &codec.MsgpackHandle{}
	h.TimeNotBuiltin = !newTime
	var pairs [][]byte
	for name, value := range fieldsOf(reflect.ValueOf(m).Elem()) {
		pairs = append(pairs, append(msgpack.AppendString(nil, name), encodeWith(t, h, value)...))
	}
	rnd.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	pairs = pairs[:rnd.IntN(len(pairs)+1)]
	pairs = append(pairs, append(msgpack.AppendString(nil, "Later"), encodeWith(t, h, m)...))
	rnd.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
	return append(msgpack.AppendMapHeader(nil, len(pairs)), bytes.Join(pairs, nil)...)
}

// fieldsOf returns a struct's fields by name, with those of embedded structs.
func fieldsOf(v reflect.Value) fields {
	all := fields{}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous {
			maps.Copy(all, fieldsOf(v.Field(i)))
		} else {
			all[f.Name] = v.Field(i).Interface()
		}
	}
	return all
}

func TestCodec_DecodesShuffledEntries(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		frame := append(msgpack.AppendMapHeader(nil, 1), "\xa7Entries"...)
		frame = msgpack.AppendArrayHeader(frame, 20)
		for range 20 {
			l := reflect.New(reflect.TypeFor[Log]())
			randomize(rnd, l.Elem())
			frame = append(frame, shuffledMap(t, rnd, l.Interface(), rnd.IntN(2) == 0)...)
		}
		var want AppendEntriesRequest
		require.NoError(t, oracleDecode(frame, &want))
		got, err := decode(frame, requestKinds[0])
		require.NoError(t, err)
		equal(t, &want, got)
	}
}

func TestCodec_NilMessageIsZero(t *testing.T) {
	for _, k := range codecKinds {
		got, err := decode([]byte{0xc0}, k)
		require.NoError(t, err)
		equal(t, k.empty(), got)
	}
}

func TestCodec_CutsLargePayloads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var cuts []conn.Cut
	for _, size := range []int{0, cutThreshold - 1, cutThreshold, 70_000} {
		m := randomMessage(rnd, requestKinds[0]).(*AppendEntriesRequest)
		m.Entries = []*Log{{Data: make([]byte, size)}, {Extensions: make([]byte, size)}, {}, nil}
		before := len(cuts)
		prefix := []byte("prefix")
		dst, all := appendAppendEntriesRequest(prefix, m, false, append(make([]conn.Cut, 0, 9), cuts...))
		if size >= cutThreshold {
			require.Len(t, all, before+2)
		} else {
			require.Len(t, all, before)
		}
		whole, at := []byte(nil), 0
		for _, c := range all[before:] {
			whole = append(append(whole, dst[at:c.At]...), c.Data...)
			at = c.At
		}
		whole = append(whole, dst[at:]...)
		equal(t, append(prefix, oracleEncode(t, m, false)...), whole)
		uncut, none := appendAppendEntriesRequest(prefix, m, false, nil)
		require.Nil(t, none)
		equal(t, whole, uncut)
	}
}

// What it costs.

func TestCodec_EncodeAllocatesNothing(t *testing.T) {
	dst, cuts := make([]byte, 0, 1<<20), make([]conn.Cut, 0, 64)
	m := benchRequest(64, 128)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst, _ = appendAppendEntriesRequest(dst[:0], m, false, cuts) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { dst, _ = appendAppendEntriesRequest(dst[:0], m, true, cuts) }))
	for _, k := range codecKinds {
		m := k.empty()
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = k.append(dst[:0], m, false) }))
	}
}

// decodeAllocs counts the allocations of decoding a frame from a warm reader: an
// AppendEntriesRequest with its message, any other into one that was allocated before.
func decodeAllocs(k codecKind, m any, newTime bool) float64 {
	var r msgpack.Reader
	r.Reset(&repeated{frame: k.append(nil, m, newTime)})
	into := k.empty()
	run := func() {
		r.Begin()
		k.read(&r, into)
	}
	for range 100 {
		run()
	}
	return testing.AllocsPerRun(1000, run)
}

func TestCodec_DecodeAllocatesLittle(t *testing.T) {
	appendEntries := requestKinds[0]
	for _, newTime := range []bool{false, true} {
		require.LessOrEqual(t, decodeAllocs(appendEntries, benchRequest(0, 0), newTime), 2.0, "bare heartbeat")
		require.LessOrEqual(t, decodeAllocs(appendEntries, benchRequest(1, 128), newTime), 2.0)
		// Two for each group of small entries, and two for each large one.
		require.LessOrEqual(t, decodeAllocs(appendEntries, benchRequest(64, 128), newTime), 11.0)
		require.LessOrEqual(t, decodeAllocs(appendEntries, benchRequest(64, 1<<10), newTime), 48.0)
		require.LessOrEqual(t, decodeAllocs(appendEntries, benchRequest(64, 2<<10), newTime), 132.0)
	}
	for _, k := range responseKinds {
		require.Zero(t, decodeAllocs(k, k.empty(), false), k.name)
		m := k.empty()
		header := reflect.ValueOf(m).Elem().FieldByName("RPCHeader")
		header.Set(reflect.ValueOf(benchRequest(0, 0).RPCHeader))
		require.LessOrEqual(t, decodeAllocs(k, m, false), 1.0, k.name)
	}
}

// allocated returns how much memory f allocates, freed or not.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

func TestCodec_DeclaredLengthsCostNothing(t *testing.T) {
	const entries, data = "\x81\xa7Entries", "\x91\x81\xa4Data"
	for _, header := range []string{
		"\xdf\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xde\xff\xff", "\xdc\xff\xff",
		"\x81\xdb\xff\xff\xff\xff", "\x81\xc6\xff\xff\xff\xff",
		"\x81\xa4Addr\xdb\xff\xff\xff\xff", "\x81\xa4Addr\xc6\x7f\xff\xff\xff",
		"\x81\xa3Xyz\xdb\xff\xff\xff\xff", "\x81\xa3Xyz\xdd\xff\xff\xff\xff", "\x81\xa3Xyz\xdf\xff\xff\xff\xff",
		"\x81\xa3Xyz\xc9\xff\xff\xff\xff\x01",
		entries + "\xdd\xff\xff\xff\xff", entries + "\xdd\x00\x10\x00\x00", entries + "\xdc\xff\xff",
		entries + "\x91\xdf\xff\xff\xff\xff", entries + data + "\xdb\xff\xff\xff\xff",
		entries + "\xdd\xff\xff\xff\xff\x81\xa4Data\xdb\xff\xff\xff\xff",
	} {
		for _, filler := range []string{"", strings.Repeat("\x80", 20_000), strings.Repeat("\xa0", 20_000)} {
			frame := []byte(header + filler)
			got := allocated(func() {
				_, err := decode(frame, requestKinds[0])
				require.Error(t, err)
			})
			require.Less(t, got, 3*len(frame)+160<<10, "%q and %d bytes", header, len(filler))
		}
	}
}

func TestCodec_RefusesTinyEntriesThatBloat(t *testing.T) {
	const n = 1_000_000
	frame := append([]byte("\x81\xa7Entries\xdd\x00\x0f\x42\x40"), bytes.Repeat([]byte{0x80}, n)...)
	var err error
	got := allocated(func() { _, err = decode(frame, requestKinds[0]) })
	require.ErrorContains(t, err, "bytes of memory for")
	require.Less(t, got, 512<<10)
}

func TestCodec_AcceptsSmallEntries(t *testing.T) {
	for _, newTime := range []bool{false, true} {
		for _, n := range []int{1, 1000, 100_000} {
			m := &AppendEntriesRequest{}
			for i := range n {
				m.Entries = append(m.Entries, &Log{Index: uint64(i), Term: 1, Type: LogNoop})
			}
			frame := appendUncut(nil, m, newTime)
			var got any
			var err error
			memory := allocated(func() { got, err = decode(frame, requestKinds[0]) })
			require.NoError(t, err)
			equal(t, m, got)
			require.Less(t, memory, 3*len(frame)+160<<10)
		}
	}
}

func TestCodec_LargeEntryAllocatesLinearly(t *testing.T) {
	sizes := []int{1 << 20, 8 << 20, 64 << 20}
	if os.Getenv("RAFTWIRE_LONG") != "" {
		sizes = append(sizes, 256<<20)
	}
	for _, size := range sizes {
		m := benchRequest(1, size)
		frame := appendUncut(nil, m, false)
		var got any
		var err error
		memory := allocated(func() { got, err = decode(frame, requestKinds[0]) })
		require.NoError(t, err)
		require.True(t, bytes.Equal(m.Entries[0].Data, got.(*AppendEntriesRequest).Entries[0].Data))
		t.Logf("%.3f bytes allocated for each of %d", float64(memory)/float64(len(frame)), len(frame))
		require.Less(t, memory, 2*len(frame)+160<<10)
	}
}

// Whatever the order of sizes, groups of small entries waste too little to have a
// request refused.
func TestCodec_GroupsWasteLittle(t *testing.T) {
	for _, sizes := range [][]int{
		{0, 1023, 1023, 1023, 500}, {0, 1000}, {1000, 0}, {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1023},
		{700}, {1023, 1}, {1023, 1023, 1023, 0, 0}, {0, 0, 0, 1024}, {513, 511, 1, 1022},
		{2047}, {2047, 1}, {0, 2047}, {2047, 500, 2047}, {1365, 0, 2047, 1366}, {2047, 2047, 2047, 0, 0}, {1500, 2000},
		{29, 0, 819, 16, 0, 11, 854, 5}, {0, 161, 0, 0, 682},
	} {
		m := &AppendEntriesRequest{}
		for i := range 5000 {
			m.Entries = append(m.Entries, &Log{Data: make([]byte, sizes[i%len(sizes)])})
		}
		frame := appendUncut(nil, m, true) // the shorter format
		var got any
		var err error
		memory := allocated(func() { got, err = decode(frame, requestKinds[0]) })
		require.NoError(t, err, sizes)
		equal(t, m, got)
		t.Logf("%v: %.2f bytes for each", sizes, float64(memory)/float64(len(frame)))
		require.Less(t, memory, 3*len(frame)+160<<10, sizes)
	}
}

// keptHeap keeps what f returns of every 30th entry of a stream of requests. It
// returns the heap that this takes for each entry kept.
func keptHeap(t *testing.T, m *AppendEntriesRequest, unshared bool, f func(l *Log) any) int {
	const kept, every = 100, 30
	var r msgpack.Reader
	r.Reset(&repeated{frame: appendUncut(nil, m, false)})
	r.SetUnshared(unshared)
	all := make([]any, 0, kept)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := 0; len(all) < kept; {
		r.Begin()
		got := readAppendEntriesRequest(&r)
		require.NoError(t, r.Err())
		for _, l := range got.Entries {
			if i++; i%every == 0 && len(all) < kept {
				all = append(all, f(l))
			}
		}
	}
	r = msgpack.Reader{} // and its buffer
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(all)
	return int(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / kept
}

// A kept entry, or a kept part of one, holds a few KiB of others at most.
func TestCodec_KeptEntryHoldsLittleElse(t *testing.T) {
	const noise = 1 << 10 // of what else the process does meanwhile
	for _, entries := range []int{1, 4, 64} {
		for _, size := range []int{128, 1000, 1 << 10, 2000, 2 << 10, 8 << 10, 16 << 10} {
			for _, unshared := range []bool{false, true} {
				shared := 4 << 10
				if unshared || size >= 2<<10 {
					shared = 0
				}
				if entries == 1 && !unshared {
					shared = max(shared, 1<<10) // its request, and what that holds
				}
				rounded := size + size/4 + 256 // to what the allocator has, and what holds it
				for name, part := range map[string]func(l *Log) any{
					"Data[8:]": func(l *Log) any { return l.Data[8:] },
					"the Log":  func(l *Log) any { return l },
				} {
					got := keptHeap(t, benchRequest(entries, size), unshared, part)
					require.LessOrEqual(t, got, rounded+shared+noise, "%s of %dx%d, unshared: %v", name, entries, size, unshared)
				}
			}
		}
	}
}

// The sizes of the others make no difference. What is kept is the second of each two.
func TestCodec_KeptEntryHoldsLittleElseBesideOtherSizes(t *testing.T) {
	type size struct{ data, extensions int }
	for _, c := range []struct {
		other, kept size
		shared      int
	}{
		{size{1500, 1600}, size{1, 0}, 4 << 10},
		{size{1, 0}, size{1500, 1600}, 0},
		{size{100, 0}, size{3000, 0}, 0},
		{size{3000, 0}, size{100, 0}, 4 << 10},
		{size{100, 0}, size{1900, 0}, 4 << 10},
	} {
		m := new(AppendEntriesRequest)
		for i := range 64 {
			next := c.other
			if i%2 == 1 {
				next = c.kept
			}
			m.Entries = append(m.Entries, &Log{Data: make([]byte, next.data), Extensions: make([]byte, next.extensions)})
		}
		const rest = 2 << 10 // what the allocator rounds up, what holds the entry, and noise
		got := keptHeap(t, m, false, func(l *Log) any { return l })
		require.LessOrEqual(t, got, c.kept.data+c.kept.extensions+c.shared+rest, "%+v beside %+v", c.kept, c.other)
	}
}

// The short cuts must be as strict as the long way.

func TestCodec_FieldsBeforeALoneEntryComeOnce(t *testing.T) {
	frame := string(appendUncut(nil, benchRequest(1, 8), false))
	_, err := decode([]byte(strings.Replace(frame, "\xa2ID", "\xa4Addr", 1)), requestKinds[0])
	require.EqualError(t, err, "AppendEntriesRequest.Addr: comes twice")
}

func TestCodec_FastPathKeepsTheLimit(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		frame := k.append(nil, k.empty(), newTime)
		for _, more := range []int{0, 1} {
			var r msgpack.Reader
			r.Reset(bytes.NewReader(append(frame, frame...)))
			r.SetLimit("the limit", int64(len(frame)-more))
			r.Begin()
			require.NoError(t, r.Fill())
			k.read(&r, k.empty())
			if more == 0 {
				require.NoError(t, r.Err())
				require.Equal(t, len(frame), r.Buffered())
				continue
			}
			require.EqualError(t, r.Err(), fmt.Sprintf(
				"%s: message of %d bytes or more is over the limit, which is %d", k.name, len(frame), len(frame)-1))
		}
	})
}

func TestCodec_FastPathSeesNeighbours(t *testing.T) {
	frame := string(appendUncut(nil, benchRequest(1, 10), false))
	addr, rest := frame[:strings.Index(frame, "\xa7Entries")], frame[strings.Index(frame, "\xa7Entries"):]
	k := requestKinds[0]

	twice := "\x89\xa4Term\x01" + rest
	_, err := decode([]byte(twice), k)
	require.EqualError(t, err, "AppendEntriesRequest.Term: comes twice")
	require.Equal(t, byte(0x89), addr[0])

	longer := "\xde\x00\x0a" + addr[1:] + rest + "\xa5Later\x01"
	var r msgpack.Reader
	r.Reset(strings.NewReader(longer))
	r.Begin()
	got := k.empty()
	k.read(&r, got)
	require.NoError(t, r.Err())
	require.Zero(t, r.Buffered())
	equal(t, benchRequest(1, 10), got)
}

func TestCodec_FastPathChecksRanges(t *testing.T) {
	m := &AppendEntriesRequest{Entries: []*Log{{Type: 255, AppendedAt: time.Unix(0, 999_999_999)}}}
	frame := string(appendUncut(nil, m, false))
	for _, c := range []struct{ from, to, want string }{
		{"\xa4Type\xcc\xff", "\xa4Type\xcd\x01\x00", "AppendEntriesRequest.Entries[0].Type: 256 is more than 255"},
		{"\x3b\x9a\xc9\xff", "\x3b\x9a\xca\x00", "is not a time"},
		{"\xaf\x01", "\xaf\x02", "is not a time"},
	} {
		require.Contains(t, frame, c.from)
		_, err := decode([]byte(strings.Replace(frame, c.from, c.to, 1)), requestKinds[0])
		require.ErrorContains(t, err, c.want)
	}
}
