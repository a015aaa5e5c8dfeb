package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

var header = raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte("node1"), Addr: []byte("10.0.0.1:8300")}

// heartbeat, appendOne and so on are requests of a leader in term 3.
func heartbeat() *raftwire.AppendEntriesRequest {
	return &raftwire.AppendEntriesRequest{RPCHeader: header, Term: 3}
}

func appendEntries(prev uint64, sizes ...int) *raftwire.AppendEntriesRequest {
	m := &raftwire.AppendEntriesRequest{RPCHeader: header, Term: 3, PrevLogEntry: prev, PrevLogTerm: 2, LeaderCommitIndex: prev}
	for i, size := range sizes {
		m.Entries = append(m.Entries, &raftwire.Log{Index: prev + uint64(i) + 1, Term: 3, Data: make([]byte, size), AppendedAt: time.Unix(1, 0)})
	}
	return m
}

// follow answers as a follower in term 3.
func follow(rpc raftwire.RPC) {
	switch m := rpc.Command.(type) {
	case *raftwire.AppendEntriesRequest:
		last := m.PrevLogEntry + uint64(len(m.Entries))
		rpc.Respond(&raftwire.AppendEntriesResponse{RPCHeader: header, Term: 3, LastLog: last, Success: last < 100}, nil)
	case *raftwire.RequestVoteRequest:
		rpc.Respond(&raftwire.RequestVoteResponse{RPCHeader: header, Term: m.Term, Granted: true}, nil)
	case *raftwire.RequestPreVoteRequest:
		rpc.Respond(&raftwire.RequestPreVoteResponse{RPCHeader: header, Term: m.Term}, nil)
	case *raftwire.InstallSnapshotRequest:
		_, _ = io.Copy(io.Discard, rpc.Reader)
		rpc.Respond(&raftwire.InstallSnapshotResponse{RPCHeader: header, Term: 3, Success: true}, nil)
	default:
		rpc.Respond(nil, errors.New("I am not a voter"))
	}
}

// a talk is a few calls.
type talk func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress)

func sends(requests ...*raftwire.AppendEntriesRequest) talk {
	return func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
		for _, request := range requests {
			var answer raftwire.AppendEntriesResponse
			require.NoError(t, client.AppendEntries("", server, request, &answer))
		}
	}
}

func recordTalk(t *testing.T, talk talk) []turn {
	t.Helper()
	return record(t, follow, func(client *raftwire.NetworkTransport, server raftwire.ServerAddress) { talk(t, client, server) })
}

func sendAll(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
	mixed := appendEntries(17, 100, 200, 12)
	mixed.Entries[2].Type = raftwire.LogConfiguration
	sends(heartbeat(), mixed, appendEntries(20), appendEntries(100, 5))(t, client, server)
	vote := raftwire.RequestVoteRequest{RPCHeader: header, Term: 4, LastLogIndex: 20, LastLogTerm: 3, LeadershipTransfer: true}
	require.NoError(t, client.RequestVote("", server, &vote, new(raftwire.RequestVoteResponse)))
	preVote := raftwire.RequestPreVoteRequest{RPCHeader: header, Term: 5, LastLogIndex: 20, LastLogTerm: 3}
	require.NoError(t, client.RequestPreVote("", server, &preVote, new(raftwire.RequestPreVoteResponse)))
	err := client.TimeoutNow("", server, &raftwire.TimeoutNowRequest{RPCHeader: header}, new(raftwire.TimeoutNowResponse))
	require.ErrorContains(t, err, "not a voter")
}

const allDumped = `
2026-11-29 UTC
12:00:00.002000  10.0.0.1:41000        → 10.0.0.2:8300          heartbeat        term 3
12:00:00.003000  10.0.0.2:8300         → 10.0.0.1:41000         answer to heartbeat  success  term 3  last log 0  took 1.000 ms
12:00:00.004000  10.0.0.1:41000        → 10.0.0.2:8300          AppendEntries    term 3  prev 17 (term 2)  3 entries 18-20, 312 bytes, 1 LogConfiguration  commit 17
12:00:00.005000  10.0.0.2:8300         → 10.0.0.1:41000         answer to AppendEntries 18-20  success  term 3  last log 20  took 1.000 ms
12:00:00.006000  10.0.0.1:41000        → 10.0.0.2:8300          AppendEntries    term 3  prev 20 (term 2)  no entries  commit 20
12:00:00.007000  10.0.0.2:8300         → 10.0.0.1:41000         answer to AppendEntries  success  term 3  last log 20  took 1.000 ms
12:00:00.008000  10.0.0.1:41000        → 10.0.0.2:8300          AppendEntries    term 3  prev 100 (term 2)  1 entry 101, 5 bytes  commit 100
12:00:00.009000  10.0.0.2:8300         → 10.0.0.1:41000         answer to AppendEntries 101  FAILED  term 3  last log 101  took 1.000 ms
12:00:00.010000  10.0.0.1:41000        → 10.0.0.2:8300          RequestVote      term 4  last log 20 (term 3)  leadership transfer
12:00:00.011000  10.0.0.2:8300         → 10.0.0.1:41000         answer to RequestVote  granted  term 4  took 1.000 ms
12:00:00.012000  10.0.0.1:41000        → 10.0.0.2:8300          RequestPreVote   term 5  last log 20 (term 3)
12:00:00.013000  10.0.0.2:8300         → 10.0.0.1:41000         answer to RequestPreVote  not granted  term 5  took 1.000 ms
12:00:00.014000  10.0.0.1:41000        → 10.0.0.2:8300          TimeoutNow
12:00:00.015000  10.0.0.2:8300         → 10.0.0.1:41000         answer to TimeoutNow  error "I am not a voter"  took 1.000 ms
1 connection (1 Raft), 7 requests, 7 answers
`

func TestDump_PrintsEveryKindOfRequest(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sendAll)...)
	w.close()
	require.Equal(t, allDumped, dumped(t, w.pcap(), Options{}))
	require.Equal(t, allDumped, dumped(t, w.pcapng(), Options{}))
}

func TestDump_LeavesOutHeartbeatsAndPorts(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sends(heartbeat(), appendEntries(20)))...)
	without := dumped(t, w.pcap(), Options{NoHeartbeats: true})
	require.NotContains(t, without, "heartbeat")
	require.Contains(t, without, "AppendEntries")
	require.Contains(t, without, "2 requests, 2 answers")
	require.Equal(t, dumped(t, w.pcap(), Options{}), dumped(t, w.pcap(), Options{Port: 8300}))
	require.Equal(t, "\n0 connections, 0 requests, 0 answers\n", dumped(t, w.pcap(), Options{Port: 8301}))
}

func snapshot(size int64) talk {
	return func(t *testing.T, client *raftwire.NetworkTransport, server raftwire.ServerAddress) {
		m := raftwire.InstallSnapshotRequest{RPCHeader: header, Term: 3, LastLogIndex: 17, LastLogTerm: 2, Size: size}
		require.NoError(t, client.InstallSnapshot("", server, &m, new(raftwire.InstallSnapshotResponse), bytes.NewReader(make([]byte, size))))
	}
}

func TestDump_PrintsASnapshotAsOneLine(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, snapshot(20_000))...)
	require.Equal(t, `
2026-11-29 UTC
12:00:00.016000  10.0.0.1:41000        → 10.0.0.2:8300          InstallSnapshot  term 3  last log 17 (term 2)  19.5 KiB in 13.000 ms  success  term 3  answered after 1.000 ms
1 connection (1 Raft), 1 request, 1 answer
`, dumped(t, w.pcap(), Options{}))

	w.lose(5)
	require.Contains(t, dumped(t, w.pcap(), Options{}), "19.5 KiB in 13.000 ms (1448 bytes missing in the capture)  success  term 3  answered after 1.000 ms\n")
}

func TestDump_SaysHowFarASnapshotCame(t *testing.T) {
	w := newWire(t)
	w.open()
	turns := recordTalk(t, snapshot(20_000))
	w.play(turn{bytes: turns[0].bytes[:5_000]})
	w.add(false, func(s *layers.TCP) { s.RST = true }, nil)
	require.Regexp(t, `InstallSnapshot  term 3  last log 17 \(term 2\)  \d+ bytes of 19.5 KiB in 3.000 ms: no answer was captured\n1 connection \(1 Raft\), 1 request, 0 answers, 1 without an answer`, dumped(t, w.pcap(), Options{}))
}

func TestDump_PutsSegmentsInOrder(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sends(appendEntries(17, 10_000)))...)
	want := dumped(t, w.pcap(), Options{})
	require.Contains(t, want, "1 entry 18, 10000 bytes")

	w.packets[3], w.packets[5] = w.packets[5], w.packets[3]
	require.Equal(t, want, dumped(t, w.pcap(), Options{}), "swapped")
	w.packets = slices.Insert(w.packets, 5, w.packets[2], w.packets[4])
	w.times = slices.Insert(w.times, 5, w.times[4], w.times[4])
	require.Equal(t, want, dumped(t, w.pcap(), Options{}), "sent again")
}

func TestDump_ContinuesAfterWhatIsMissing(t *testing.T) {
	turns := recordTalk(t, sends(appendEntries(17, 1), appendEntries(18, 5_000), appendEntries(19, 1), appendEntries(20, 1)))
	for name, test := range map[string]struct {
		lose  int // packets 2 and 3 are the first request and answer, 4 to 7 the second request
		lines []string
	}{
		"a request": {2, []string{
			" bytes missing in the capture", "answer to AppendEntries that was not captured  success",
			"1 entry 19", "answer to AppendEntries 19  success  term 3  last log 19  took 4.000 ms\n",
			"4 answers, ", "missing in 1 gap"}},
		"the middle of a request": {5, []string{
			"answer to AppendEntries 18  success  term 3  last log 18  took 1.000 ms\n", "1448 bytes missing in the capture",
			"answer to AppendEntries that was not captured  success  term 3  last log 19",
			"1 entry 20", "answer to AppendEntries 20  success  term 3  last log 20  took 1.000 ms\n",
			"3 requests, 4 answers, 1448 bytes missing in 1 gap"}},
		"an answer": {3, []string{
			"1 entry 18", " bytes missing in the capture",
			"answer to AppendEntries 19  success  term 3  last log 19  took 4.000 ms?\n",
			"4 requests, 3 answers, 1 without an answer"}},
	} {
		w := newWire(t)
		w.open()
		w.play(turns...)
		w.lose(test.lose)
		rest := dumped(t, w.pcap(), Options{})
		for _, line := range test.lines {
			_, after, found := strings.Cut(rest, line)
			require.True(t, found, "%s: no %q in %s", name, line, rest)
			rest = after
		}
	}
}

func TestDump_BeginsInTheMiddle(t *testing.T) {
	turns := recordTalk(t, sends(appendEntries(17, 5_000), appendEntries(18, 1)))
	w := newWire(t)
	w.play(turns...) // packets 0 to 3 are the first request
	w.lose(0)
	got := dumped(t, w.pcap(), Options{})
	require.Contains(t, got, "answer to AppendEntries that was not captured  success  term 3  last log 18")
	require.Contains(t, got, "1 entry 19")
	require.Contains(t, got, "took 1.000 ms\n1 connection (1 Raft), 1 request, 2 answers\n")
}

func TestDump_ReadsOneDirection(t *testing.T) {
	turns := recordTalk(t, sends(appendEntries(17, 5_000), appendEntries(18, 1)))
	for _, answers := range []bool{false, true} {
		w := newWire(t)
		for _, turn := range turns {
			if turn.answers == answers {
				w.play(turn)
			}
		}
		got := dumped(t, w.pcap(), Options{})
		require.Contains(t, got, "connection (1 Raft)")
		if answers {
			require.Contains(t, got, "0 requests, 2 answers")
		} else {
			require.Contains(t, got, "AppendEntries    term 3  prev 18 (term 2)  1 entry 19, 1 byte  commit 18: no answer was captured\n")
			require.Contains(t, got, "2 requests, 0 answers, 2 without an answer")
		}
	}
}

func TestDump_SaysWhatIsNoRaft(t *testing.T) {
	for want, begin := range map[string]string{
		"10.0.0.1:41000        → 10.0.0.2:8300          TLS, which is not decrypted\n1 connection (1 TLS), 0": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP, not Raft\n1 connection (1 unknown)":                                                            "GET / HTTP/1.1\r\n\r\n",
		`not Raft: it begins with "\x04\x03"`:                                                                 "\x04\x03",
		`not Raft: it begins with "\x04"`:                                                                     "\x04",
		`not Raft: it begins with "hello, there`:                                                              "hello, there and there",
	} {
		w := newWire(t)
		w.open()
		w.play(turn{bytes: []byte(begin)})
		if len(begin) > 2 { // else more could follow: what comes back tells more
			w.play(turn{answers: true, bytes: []byte("whatever comes back")})
		}
		w.close()
		got := dumped(t, w.pcap(), Options{})
		require.Contains(t, got, want)
		require.Equal(t, 1, strings.Count(got, "→"), got)
	}
}

func TestDump_SaysThatARunningConnectionIsTLSOrUnknown(t *testing.T) {
	w := newWire(t)
	w.play(turn{bytes: []byte("\x17\x03\x03\x00\x20 and so on")})
	require.Contains(t, dumped(t, w.pcap(), Options{}), "TLS, which is not decrypted\n1 connection (1 TLS)")
	w = newWire(t)
	w.play(turn{bytes: []byte("whatever")}, turn{answers: true, bytes: []byte("\xa0\x16\x03\x03")})
	require.Contains(t, dumped(t, w.pcap(), Options{}), "unknown: no Raft message was found\n1 connection (1 unknown)")
}

func TestDump_PassesTheKeyOfAMux(t *testing.T) {
	turns := recordTalk(t, sends(heartbeat()))
	turns[0].bytes = append([]byte{11}, turns[0].bytes...)
	w := newWire(t)
	w.open()
	w.play(turns...)
	got := dumped(t, w.pcap(), Options{})
	require.Contains(t, got, "begins with byte 11, the key of a Mux\n")
	require.Contains(t, got, "answer to heartbeat  success")
}

func TestDump_PairsPipelinedRequests(t *testing.T) {
	turns := recordTalk(t, sends(appendEntries(17, 1), appendEntries(18, 1), appendEntries(19, 1)))
	w := newWire(t)
	w.open()
	w.play(turns[0], turns[2], turns[1], turns[4], turns[3], turns[5])
	got := dumped(t, w.pcap(), Options{})
	for i, took := range []int{2, 3, 2} {
		require.Contains(t, got, fmt.Sprintf("answer to AppendEntries %d  success  term 3  last log %d  took %d.000 ms\n", 18+i, 18+i, took))
	}
}

func TestDump_TellsConnectionsOfTheSamePortsApart(t *testing.T) {
	turns := recordTalk(t, sends(heartbeat()))
	w := newWire(t)
	for range 3 {
		w.open()
		w.play(turns...)
		w.seq[0] += 1 << 31 // as another connection would
	}
	require.Contains(t, dumped(t, w.pcap(), Options{}), "3 connections (3 Raft), 3 requests, 3 answers\n")
}

// The hosts are those that talk Raft, not those at the ends of a tunnel between them.
func TestDump_PrintsTheHostsInATunnel(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sendAll)...)
	for i, packet := range w.packets { // IP in IP
		inner := packet[14:]
		outer := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolIPv4, SrcIP: net.IP{192, 168, 0, inner[15]}, DstIP: net.IP{192, 168, 0, inner[19]}}
		tunneled := gopacket.NewSerializeBuffer()
		require.NoError(t, gopacket.SerializeLayers(tunneled, gopacket.SerializeOptions{FixLengths: true}, outer, gopacket.Payload(inner)))
		w.packets[i] = append(packet[:14:14], tunneled.Bytes()...)
	}
	require.Equal(t, allDumped, dumped(t, w.pcap(), Options{}))
}

func TestDump_SaysThatPacketsWereCutShort(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sends(appendEntries(17, 1000), appendEntries(18, 1)))...)
	w.full = make([]int, len(w.packets))
	w.full[2], w.packets[2] = len(w.packets[2]), w.packets[2][:200]
	got := dumped(t, w.pcap(), Options{})
	require.Contains(t, got, "1 packet cut short (capture with tcpdump -s 0)")
	require.Contains(t, got, "answer to AppendEntries 19  success")
}

func TestDump_PrintsWhatPrecedesAnError(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sends(heartbeat()))...)
	file := w.pcap()
	var out bytes.Buffer
	require.ErrorContains(t, Dump(bytes.NewReader(file[:len(file)-1]), &out, Options{}), "the capture ends in packet 4")
	require.Contains(t, out.String(), "heartbeat        term 3: no answer was captured\n")
	for _, file := range []string{"", "abc", "this is no capture at all", "\x0a\x0d\x0d\x0a"} {
		require.Error(t, Dump(strings.NewReader(file), io.Discard, Options{}), "%q", file)
	}
}

func TestDump_ReadsWhatHashicorpRaftSends(t *testing.T) {
	turns := recordHashicorp(t)
	w := newWire(t)
	w.open()
	w.play(turns...)
	got := dumped(t, w.pcap(), Options{})
	require.Contains(t, got, "AppendEntries    term 3  prev 17 (term 2)  1 entry 18, 4 bytes  commit 17\n")
	require.Contains(t, got, "answer to AppendEntries 18  success  term 3  last log 18  took 1.000 ms\n")
}

func TestFlow_PassesOverASegmentHalfTheNumbersAway(t *testing.T) {
	var got []byte
	f := flow{deliver: func(_ time.Time, _ int, b []byte) { got = append(got, b...) }}
	f.start(5)
	f.add(segment{seq: 5 + 1<<31, bytes: []byte("far")})
	f.add(segment{seq: 5, bytes: []byte("near")})
	f.finish()
	require.Equal(t, "near", string(got))
}

// A receiver acknowledges a snapshot in a hundred thousand segments without a byte, all
// with the same number. They must not pile up behind a gap.
func TestFlow_HoldsOneOfManySegmentsWithoutBytes(t *testing.T) {
	var got []byte
	var lost int
	f := flow{deliver: func(_ time.Time, n int, b []byte) { got, lost = append(got, b...), lost+n }}
	f.start(0)
	for range 100 {
		f.add(segment{seq: 10})
	}
	require.Len(t, f.held, 1)
	f.add(segment{seq: 10, bytes: []byte("data")})
	f.add(segment{seq: 14, fin: true})
	f.add(segment{seq: 14})
	require.Len(t, f.held, 3)
	f.finish()
	require.Equal(t, "data", string(got))
	require.Equal(t, 10, lost)
	require.True(t, f.ended)
}

func TestFlow_TakesWhatIsNewInASegment(t *testing.T) {
	var got []byte
	f := flow{deliver: func(_ time.Time, _ int, b []byte) { got = append(got, b...) }}
	f.start(0xfffffffe)
	f.add(segment{seq: 0xfffffffe, bytes: []byte("abcd")})
	f.add(segment{seq: 0xffffffff, bytes: []byte("bcdef")})
	f.add(segment{seq: 0, bytes: []byte("cd")})
	f.add(segment{seq: 4, bytes: []byte("g"), fin: true})
	f.add(segment{seq: 5, bytes: []byte("after the end")})
	require.Equal(t, "abcdefg", string(got))
}

func TestDump_MissesNoByteWhereAFINIsMissing(t *testing.T) {
	w := newWire(t)
	w.open()
	w.play(recordTalk(t, sends(heartbeat()))...)
	w.close()
	w.lose(4)
	require.Contains(t, dumped(t, w.pcap(), Options{}), "1 request, 1 answer\n")
}

// Captures with wrong bytes, lost packets and wrong order: most say nothing sensible,
// and none may panic or hang.
func TestDump_OutlivesDamagedCaptures(t *testing.T) {
	turns := recordTalk(t, sendAll)
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		w := newWire(t)
		for _, intact := range turns {
			b := bytes.Clone(intact.bytes)
			b[random.IntN(len(b))] = byte(random.Uint32())
			w.play(turn{intact.answers, b[:random.IntN(len(b))+1]})
		}
		w.lose(random.IntN(len(w.packets)))
		i, j := random.IntN(len(w.packets)), random.IntN(len(w.packets))
		w.packets[i], w.packets[j] = w.packets[j], w.packets[i]
		file := w.pcap()
		for range 3 {
			file[40+random.IntN(len(file)-40)] = byte(random.Uint32())
		}
		_ = Dump(bytes.NewReader(file), io.Discard, Options{})
	}
}

// FuzzDump has both directions hold anything: no input may panic or hang, and every
// connection is counted.
func FuzzDump(f *testing.F) {
	f.Add([]byte("\x00\x89\xa4Addr\xa5n1:83\xa7Entries\xc0"), []byte("\xa0\x86\xa4Addr\xc0"), uint8(2))
	f.Add([]byte("\x16\x03\x01"), []byte("HTTP/1.1"), uint8(9))
	f.Fuzz(func(t *testing.T, ask, answer []byte, lost uint8) {
		w := newWire(t)
		w.open()
		for len(ask)+len(answer) > 0 {
			n, m := min(len(ask), 7), min(len(answer), 5)
			w.play(turn{bytes: ask[:n]}, turn{answers: true, bytes: answer[:m]})
			ask, answer = ask[n:], answer[m:]
		}
		if int(lost) < len(w.packets) {
			w.lose(int(lost))
		}
		require.Regexp(t, `\n[01] connections?`, dumped(t, w.pcap(), Options{}))
	})
}
