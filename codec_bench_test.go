package raftwire

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/stretchr/testify/require"
)

// benchRequest is what a leader sends: n entries of the given size.
func benchRequest(n, size int) *AppendEntriesRequest {
	m := &AppendEntriesRequest{
		RPCHeader: RPCHeader{ProtocolVersion: 3, ID: []byte("6d8f7a0e-41c6-4f7e-9a6b-0d7f0c1f2a3b"), Addr: []byte("10.11.12.13:8300")},
		Term:      7, Leader: []byte("10.11.12.13:8300"),
		PrevLogEntry: 1_234_567, PrevLogTerm: 7, LeaderCommitIndex: 1_234_500,
	}
	for i := range n {
		m.Entries = append(m.Entries, &Log{
			Index: 1_234_568 + uint64(i), Term: 7, Type: LogCommand,
			Data: bytes.Repeat([]byte{byte(i)}, size), AppendedAt: time.Unix(1_700_000_000, 123_456_789).UTC(),
		})
	}
	return m
}

// repeated is a stream of the same frame for ever, in reads of any size.
type repeated struct {
	frame []byte
	at    int
}

func (s *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m := copy(p[n:], s.frame[s.at:])
		n += m
		s.at = (s.at + m) % len(s.frame)
	}
	return n, nil
}

var benchShapes = []struct{ entries, size int }{{0, 0}, {1, 128}, {1, 1024}, {64, 128}, {64, 1024}, {64, 16 << 10}, {1, 1 << 20}}

// forEachShape runs both codecs beside 64 MiB of live memory, as in a real node.
// Without it the benchmark would measure the garbage collector, which would run every
// 4 MiB.
func forEachShape(b *testing.B, ours, theirs func(b *testing.B, m *AppendEntriesRequest, frame []byte)) {
	live := make([]byte, 64<<20)
	defer runtime.KeepAlive(live)
	for _, shape := range benchShapes {
		m := benchRequest(shape.entries, shape.size)
		frame := appendUncut(nil, m, false)
		run := func(name string, f func(b *testing.B, m *AppendEntriesRequest, frame []byte)) {
			b.Run(fmt.Sprintf("%dx%d/%s", shape.entries, shape.size, name), func(b *testing.B) {
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				f(b, m, frame)
			})
		}
		run("ours", ours)
		run("go-msgpack", theirs)
	}
}

func BenchmarkEncode(b *testing.B) {
	ours := func(b *testing.B, m *AppendEntriesRequest, _ []byte) {
		var dst []byte
		cuts := make([]conn.Cut, 0, 64)
		for b.Loop() {
			dst, _ = appendAppendEntriesRequest(dst[:0], m, false, cuts)
		}
	}
	theirs := func(b *testing.B, m *AppendEntriesRequest, _ []byte) {
		var dst bytes.Buffer
		h := &codec.MsgpackHandle{}
		h.TimeNotBuiltin = true
		enc := codec.NewEncoder(&dst, h)
		for b.Loop() {
			dst.Reset()
			require.NoError(b, enc.Encode(m))
		}
	}
	forEachShape(b, ours, theirs)
}

func BenchmarkDecode(b *testing.B) {
	ours := func(b *testing.B, _ *AppendEntriesRequest, frame []byte) {
		var r msgpack.Reader
		r.Reset(&repeated{frame: frame})
		for b.Loop() {
			r.Begin()
			readAppendEntriesRequest(&r)
		}
		require.NoError(b, r.Err())
	}
	theirs := func(b *testing.B, _ *AppendEntriesRequest, frame []byte) {
		dec := codec.NewDecoder(bufio.NewReaderSize(&repeated{frame: frame}, 256<<10), &codec.MsgpackHandle{})
		for b.Loop() {
			require.NoError(b, dec.Decode(new(AppendEntriesRequest)))
		}
	}
	forEachShape(b, ours, theirs)
}
