package raftwire

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire/internal/msgpack"
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

func appendUncut(dst []byte, m *AppendEntriesRequest, newTime bool) []byte {
	dst, _ = appendAppendEntriesRequest(dst, m, newTime, nil)
	return dst
}

var requestKinds = []codecKind{
	newCodecKind(appendUncut, readAppendEntriesRequest),
	newCodecKind(timeless(appendRequestVoteRequest), readRequestVoteRequest),
	newCodecKind(timeless(appendInstallSnapshotRequest), readInstallSnapshotRequest),
	newCodecKind(timeless(appendTimeoutNowRequest), readTimeoutNowRequest),
	newCodecKind(timeless(appendRequestPreVoteRequest), readRequestPreVoteRequest),
}

var responseKinds = []codecKind{
	newCodecKind(timeless(appendAppendEntriesResponse), readAppendEntriesResponse),
	newCodecKind(timeless(appendRequestVoteResponse), readRequestVoteResponse),
	newCodecKind(timeless(appendInstallSnapshotResponse), readInstallSnapshotResponse),
	newCodecKind(timeless(appendTimeoutNowResponse), readTimeoutNowResponse),
	newCodecKind(timeless(appendRequestPreVoteResponse), readRequestPreVoteResponse),
}

var codecKinds = append(append([]codecKind{}, requestKinds...), responseKinds...)

// The oracle: the codec that hashicorp/raft uses, set up as it does.

func oracleEncode(t testing.TB, m any, newTime bool) []byte {
	var buf bytes.Buffer
	h := &codec.MsgpackHandle{}
	h.TimeNotBuiltin = !newTime
	require.NoError(t, codec.NewEncoder(&buf, h).Encode(m))
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

func decode(frame []byte, k codecKind) (any, error) {
	m, r := decodeFrom(bytes.NewReader(frame), k)
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

// equal is require.Equal without its cost when there is nothing to report, and
// without its length when there is.
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

func TestCodecEncodesAsTheOracle(t *testing.T) {
	forEachKind(t, func(t *testing.T, rnd *rand.Rand, k codecKind, newTime bool) {
		for range 200 {
			m := randomMessage(rnd, k)
			equal(t, oracleEncode(t, m, newTime), k.append(nil, m, newTime))
		}
	})
}

func TestCodecDecodesAsTheOracle(t *testing.T) {
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

func TestCodecDecodesByteByByte(t *testing.T) {
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

func TestCodecOverwritesOldContent(t *testing.T) {
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

func TestCodecTruncation(t *testing.T) {
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

// msgpackOf encodes anything as msgpack.
func msgpackOf(t testing.TB, v any) []byte {
	var buf bytes.Buffer
	require.NoError(t, codec.NewEncoder(&buf, &codec.MsgpackHandle{}).Encode(v))
	return buf.Bytes()
}

type fields = map[string]any

func TestCodecRejectsAndSaysWhere(t *testing.T) {
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
			_, err := decode(msgpackOf(t, c.value), c.kind)
			require.EqualError(t, err, c.want)
		})
	}
}
