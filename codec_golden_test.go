package raftwire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raftwire/raftwire/internal/msgpack"
)

type goldenRequest struct {
	name    string
	kind    byte
	newTime bool
	message any
}

type goldenResponse struct {
	name    string
	kind    byte
	err     string
	message any // nil if there was only an error
}

var (
	goldenHeader  = RPCHeader{ProtocolVersion: 3, ID: []byte("node-1"), Addr: []byte("10.0.0.1:8300")}
	goldenTime    = time.Date(2024, 2, 29, 12, 34, 56, 789_000_000, time.UTC)
	goldenEntries = []*Log{
		{Index: 127, Term: 128, Type: LogCommand, Data: []byte("set x 1"), AppendedAt: goldenTime},
		{Index: 255, Term: 256, Type: LogNoop, AppendedAt: time.Time{}},
		{Index: 65535, Term: 65536, Type: LogBarrier, Data: []byte{}, Extensions: []byte{},
			AppendedAt: goldenTime.In(time.FixedZone("", 5*3600+1800))},
		{Index: 1<<32 - 1, Term: 1 << 32, Type: LogConfiguration, Data: bytes.Repeat([]byte{7}, 31),
			Extensions: bytes.Repeat([]byte{8}, 32), AppendedAt: goldenTime.In(time.FixedZone("", -3600-30))},
		{Index: 1<<64 - 1, Term: 1<<64 - 1, Type: 255, Data: bytes.Repeat([]byte{9}, 300),
			AppendedAt: time.Unix(1<<34, 5).UTC()},
		{Index: 1, Term: 1, Type: LogCommand, Data: []byte{0}, AppendedAt: time.Unix(1_700_000_000, 0).UTC()},
	}
	goldenAppendEntries = &AppendEntriesRequest{
		RPCHeader: goldenHeader, Term: 9, Leader: []byte("10.0.0.1:8300"),
		PrevLogEntry: 126, PrevLogTerm: 8, Entries: goldenEntries, LeaderCommitIndex: 125,
	}
)

var goldenRequests = []goldenRequest{
	{"append-entries", 0, false, goldenAppendEntries},
	{"append-entries-new-time", 0, true, goldenAppendEntries},
	{"heartbeat", 0, false, &AppendEntriesRequest{RPCHeader: goldenHeader, Term: 9, Leader: []byte("10.0.0.1:8300")}},
	{"append-entries-empty", 0, false, &AppendEntriesRequest{Entries: []*Log{}}},
	{"append-entries-zero", 0, false, &AppendEntriesRequest{}},
	{"request-vote", 1, false, &RequestVoteRequest{RPCHeader: goldenHeader, Term: 1000,
		Candidate: []byte("10.0.0.1:8300"), LastLogIndex: 70000, LastLogTerm: 999, LeadershipTransfer: true}},
	{"install-snapshot", 2, false, &InstallSnapshotRequest{RPCHeader: goldenHeader, SnapshotVersion: 1, Term: 9,
		Leader: []byte("10.0.0.1:8300"), LastLogIndex: 70000, LastLogTerm: 9, Peers: []byte{0x90},
		Configuration: []byte("\x81\xa7Servers\x90"), ConfigurationIndex: 3, Size: 200}},
	{"install-snapshot-signed", 2, false, &InstallSnapshotRequest{RPCHeader: RPCHeader{ProtocolVersion: 200},
		SnapshotVersion: -33, Size: 0}},
	{"timeout-now", 3, false, &TimeoutNowRequest{RPCHeader: goldenHeader}},
	{"request-pre-vote", 4, false, &RequestPreVoteRequest{RPCHeader: goldenHeader, Term: 1000,
		LastLogIndex: 70000, LastLogTerm: 999}},
}

var goldenResponses = []goldenResponse{
	{"append-entries-ok", 0, "", &AppendEntriesResponse{RPCHeader: goldenHeader, Term: 9, LastLog: 131, Success: true}},
	{"append-entries-no", 0, "", &AppendEntriesResponse{RPCHeader: goldenHeader, Term: 10, LastLog: 3, NoRetryBackoff: true}},
	{"append-entries-error", 0, "unexpected command", nil},
	{"append-entries-both", 0, "this error text is longer than 31 bytes", &AppendEntriesResponse{RPCHeader: goldenHeader, Term: 9}},
	{"request-vote-ok", 1, "", &RequestVoteResponse{RPCHeader: goldenHeader, Term: 1000, Peers: []byte{}, Granted: true}},
	{"install-snapshot-ok", 2, "", &InstallSnapshotResponse{RPCHeader: goldenHeader, Term: 9, Success: true}},
	{"timeout-now-ok", 3, "", &TimeoutNowResponse{RPCHeader: goldenHeader}},
	{"request-pre-vote-ok", 4, "", &RequestPreVoteResponse{RPCHeader: goldenHeader, Term: 1000, Granted: true}},
}

// goldenFrames reads a file of testdata/golden: comments and lines "name hex".
func goldenFrames(t testing.TB, file string) map[string][]byte {
	f, err := os.Open("testdata/golden/" + file)
	require.NoError(t, err)
	defer f.Close()
	frames := map[string][]byte{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, digits, found := strings.Cut(lines.Text(), " ")
		if !found || name == "#" {
			continue
		}
		frames[name], err = hex.DecodeString(digits)
		require.NoError(t, err)
	}
	require.NoError(t, lines.Err())
	return frames
}

func TestCodec_GoldenRequests(t *testing.T) {
	frames := goldenFrames(t, "requests.txt")
	require.Len(t, frames, len(goldenRequests))
	for _, g := range goldenRequests {
		t.Run(g.name, func(t *testing.T) {
			k := requestKinds[g.kind]
			frame := frames[g.name]
			equal(t, frame, k.append([]byte{g.kind}, g.message, g.newTime))
			eachReader(t, frame, func(t *testing.T, r *msgpack.Reader) {
				require.Equal(t, g.kind, r.Byte())
				requireDecodes(t, r, k, frame[1:])
			})
		})
	}
}

func TestCodec_GoldenResponses(t *testing.T) {
	frames := goldenFrames(t, "responses.txt")
	require.Len(t, frames, len(goldenResponses))
	for _, g := range goldenResponses {
		t.Run(g.name, func(t *testing.T) {
			k := responseKinds[g.kind]
			frame := frames[g.name]
			text := msgpack.AppendString(nil, g.err)
			value := msgpack.AppendNil(nil)
			if g.message != nil {
				value = k.append(nil, g.message, false)
			}
			equal(t, frame, append(text, value...))
			eachReader(t, frame, func(t *testing.T, r *msgpack.Reader) {
				require.Equal(t, g.err, r.String())
				requireDecodes(t, r, k, value)
			})
		})
	}
}

// eachReader reads the frame whole and byte by byte.
func eachReader(t *testing.T, frame []byte, f func(*testing.T, *msgpack.Reader)) {
	var r msgpack.Reader
	r.Reset(bytes.NewReader(frame))
	r.Begin()
	t.Run("whole", func(t *testing.T) { f(t, &r) })
	r.Reset(iotest.OneByteReader(bytes.NewReader(frame)))
	r.Begin()
	t.Run("byte by byte", func(t *testing.T) { f(t, &r) })
}

// requireDecodes decodes the last value of the frame, and compares the outcome
// with the oracle's.
func requireDecodes(t *testing.T, r *msgpack.Reader, k codecKind, value []byte) {
	want, got := k.empty(), k.empty()
	require.NoError(t, oracleDecode(value, want))
	k.read(r, got)
	require.NoError(t, r.Err())
	require.Zero(t, r.Buffered())
	equal(t, want, got)
}
