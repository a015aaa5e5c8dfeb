package raftwire_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// Limits on inbound connections: the log and a counter show each refusal, and
// peers get in whoever else connects.

func TestLimits_EvictTheOldestUnidentifiedConn(t *testing.T) {
	for name, limits := range bothLimits {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", limits)
				serve(t, b, accept)
				peer := dialRaw(t, net, "a")
				introduce(t, peer)
				var strangers []net_
				for range 5 {
					strangers = append(strangers, dialRaw(t, net, "a"))
				}
				for i, conn := range strangers {
					require.Equal(t, i >= 3, isOpen(conn), "stranger %d", i)
				}
				require.True(t, isOpen(peer), "the peer had to go")
				require.NoError(t, strangers[3].Close())
				synctest.Wait()
				dialRaw(t, net, "a")
				require.True(t, isOpen(strangers[4]), "there was room")
				r := b.Refusals()
				require.Equal(t, uint64(3), r.TooManyConns+r.TooManyConnsOfHost)
			})
		})
	}
}

// If all connections are peers', a new one is refused.
func TestLimits_RefuseANewConnAmongPeers(t *testing.T) {
	for name, limits := range bothLimits {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", limits)
				serve(t, b, accept)
				var peers []net_
				for range 3 {
					peers = append(peers, dialRaw(t, net, "a"))
					introduce(t, peers[len(peers)-1])
				}
				require.False(t, isOpen(dialRaw(t, net, "a")))
				for _, peer := range peers {
					introduce(t, peer)
				}
				require.NoError(t, peers[0].Close())
				synctest.Wait()
				introduce(t, dialRaw(t, net, "a"))
			})
		})
	}
}

// The log says that peers are refused although many unidentified connections make room
// at the same time.
func TestLimits_LogRefusedPeersApart(t *testing.T) {
	for name, limits := range bothLimits {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", limits, withLog(&log))
				serve(t, b, accept)
				for range 10 {
					dialRaw(t, net, "a")
				}
				synctest.Wait() // until they are counted to their host
				for range 3 {
					introduce(t, dialRaw(t, net, "a"))
				}
				synctest.Wait() // until their goroutines have logged
				dialRaw(t, net, "a")
				synctest.Wait()
				require.NoError(t, b.Close())
			})
			var warnings []string
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "[WARN]") {
					warnings = append(warnings, line)
				}
			}
			require.Len(t, warnings, 2)
			require.Contains(t, warnings[0], "and this one has brought no request: raise MaxConns")
			require.Contains(t, warnings[1], "and all others have brought requests: raise MaxConns")
		})
	}
}

func TestMaxConnsPerHost_LeavesOtherHostsAlone(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", withLimits(-1, 2))
		quiet := dialRaw(t, net, "quiet")
		for range 10 {
			dialRaw(t, net, "crowd")
		}
		require.True(t, isOpen(quiet))
		require.Equal(t, raftwire.Refusals{TooManyConnsOfHost: 8}, b.Refusals())
	})
}

// A host that floods the transport evicts its own connections. Those of other hosts
// have the time that a request needs.
func TestLimits_AFloodFromOneHostEvictsNoneOfAnother(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", withLimits(100, -1))
		serve(t, b, accept)
		var peers []net_
		for i := range 20 {
			peers = append(peers, dialRaw(t, net, fmt.Sprintf("peer-%d", i%2)))
			for range 100 {
				dialRaw(t, net, "crowd")
				synctest.Wait() // until it is counted to its host
			}
		}
		pause(400 * time.Millisecond)
		for _, peer := range peers {
			introduce(t, peer)
		}
		require.Equal(t, raftwire.Refusals{TooManyConns: 1920}, b.Refusals())
	})
}

func TestLimits_HaveDefaultsAndCanBeTurnedOff(t *testing.T) {
	for name, c := range map[string]struct {
		limits option
		open   int
	}{
		"off":               {withLimits(-1, -1), 3000},
		"default in total":  {withLimits(0, -1), raftwire.DefaultMaxConns},
		"default of a host": {withLimits(0, 0), raftwire.DefaultMaxConnsPerHost},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", c.limits)
				for range 3000 {
					dialRaw(t, net, "a")
				}
				synctest.Wait()
				require.Equal(t, 3000+c.open, net.OpenConns())
				r := b.Refusals()
				require.Equal(t, uint64(3000-c.open), r.TooManyConns+r.TooManyConnsOfHost)
			})
		})
	}
}

// Wherever the flood comes from and whatever it sends, a peer gets in with requests of
// every kind, and keeps its connections.
func TestLimits_AFloodDoesNotLockPeersOut(t *testing.T) {
	for _, greeting := range []string{"", "\x00", "\x00\x89\xa4Addr\xdb\xff\xff\xff\xff"} {
		t.Run(fmt.Sprintf("%q", greeting), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				a, b := listen(t, net, "a", withPool(1)), listen(t, net, "b", withLimits(100, 10))
				serve(t, b, accept)
				p := openPipeline(t, a, "b")
				require.NoError(t, appendTo(p))
				for i := range 1000 {
					say(t, dialRaw(t, net, fmt.Sprintf("stranger-%d", i%50)), greeting)
					if i%100 == 99 {
						for kind, call := range calls {
							require.NoError(t, call(a, "b"), kind)
						}
						require.NoError(t, openPipelineOnce(a, "b"))
					}
				}
				require.NoError(t, appendTo(p), "an open pipeline had to go")
			})
		})
	}
}

// A new connection has a limited time for its first byte. A peer may then be silent as
// long as it likes.
func TestFirstByteTimeout_EndsSilentConns(t *testing.T) {
	for name, c := range map[string]struct {
		config option
		after  time.Duration
	}{
		"by default":             {noOption, raftwire.DefaultFirstByteTimeout},
		"configured":             {withFirstByte(5 * time.Second), 5 * time.Second},
		"also without a timeout": {withTimeout(0), raftwire.DefaultFirstByteTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", c.config)
				serve(t, b, accept)
				peer, late, stranger := dialRaw(t, net, "a"), dialRaw(t, net, "a"), dialRaw(t, net, "a")
				introduce(t, peer)
				start := time.Now()
				pause(c.after - 1)
				introduce(t, late)
				_, err := stranger.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, c.after, time.Since(start))
				pause(24 * time.Hour)
				introduce(t, peer)
				introduce(t, late)
				synctest.Wait() // a refusal is counted after the connection was closed
				require.Equal(t, raftwire.Refusals{Silent: 1}, b.Refusals())
			})
		})
	}
	t.Run("turned off", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			serve(t, listen(t, net, "b", withFirstByte(-1)), accept)
			stranger := dialRaw(t, net, "a")
			pause(24 * time.Hour)
			introduce(t, stranger)
		})
	})
}

// For each reason, a refused connection is logged once and counted once. What is not
// the peer's fault is not counted.
func TestRefusals_AreLoggedAndCounted(t *testing.T) {
	one := func(count func(*raftwire.Refusals) *uint64) (r raftwire.Refusals) {
		*count(&r) = 1
		return r
	}
	silent := one(func(r *raftwire.Refusals) *uint64 { return &r.Silent })
	stalled := one(func(r *raftwire.Refusals) *uint64 { return &r.Stalled })
	tooLarge := one(func(r *raftwire.Refusals) *uint64 { return &r.TooLarge })
	foreign := one(func(r *raftwire.Refusals) *uint64 { return &r.Foreign })
	malformed := one(func(r *raftwire.Refusals) *uint64 { return &r.Malformed })
	for name, c := range map[string]struct {
		says    string
		then    func(net_)
		refused raftwire.Refusals
		level   string
		text    string
	}{
		"nothing":             {"", nil, silent, "INFO", "no request began within FirstByteTimeout"},
		"half a request":      {"\x03\x83\xa4", nil, stalled, "WARN", `error="a request made no progress within Timeout (1s)"`},
		"half a snapshot":     {string(snapshotHeader(1<<30)) + "ten bytes.", nil, stalled, "WARN", `error="the snapshot stalled after 10 of 1073741824 bytes: next to nothing came for SnapshotStallTimeout (30s)"`},
		"too large a request": {"\x00\x81\xa4Addr\xda\xff\xff", nil, tooLarge, "WARN", "is over MaxMessageBytes, which is 50000"},
		"bloat":               {tinyEntries, nil, tooLarge, "WARN", "bytes of memory for"},
		"HTTP":                {"GET / HTTP/1.1\r\n", nil, foreign, "WARN", "unknown rpc type 71: this looks like an HTTP request"},
		"PROXY":               {"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n", nil, foreign, "WARN", "unknown rpc type 80: this looks like a PROXY header of a load balancer, or an HTTP request"},
		"PROXY, version 2":    {"\r\n\r\n\x00\r\nQUIT\n", nil, foreign, "WARN", "unknown rpc type 13: this looks like a PROXY header of a load balancer, not"},
		"TLS":                 {"\x16\x03\x01", nil, foreign, "WARN", "unknown rpc type 22: this looks like a TLS handshake"},
		"SSH":                 {"SSH-2.0-", nil, foreign, "WARN", "unknown rpc type 83: this looks like an SSH client"},
		"a later version":     {"\x05\x80", nil, foreign, "WARN", "unknown rpc type 5"},
		"HTTP, from a peer":   {"\x03\x80GET", nil, foreign, "WARN", "looks like an HTTP request"},
		"a nil entry":         {"\x00\x81\xa7Entries\x91\xc0", nil, malformed, "WARN", "Entries[0]: is nil"},
		"a negative size":     {"\x02\x81\xa4Size\xff", nil, malformed, "WARN", "Size: -1 is negative"},
		"no msgpack":          {"\x03\xc1", nil, malformed, "WARN", "a byte that begins no value"},
		"goodbye":             {"\x03\x80", hearAndClose, raftwire.Refusals{}, "DEBUG", "EOF"},
		"goodbye in between":  {"\x03\x83\xa4", closeNow, raftwire.Refusals{}, "INFO", "unexpected EOF"},
		"goodbye in a body":   {string(snapshotHeader(1<<30)) + "ten bytes.", closeNow, raftwire.Refusals{}, "INFO", `error="the sender ended the snapshot after 10 of 1073741824 bytes: unexpected EOF"`},
		"a reset":             {"\x03\x80", resetNow, raftwire.Refusals{}, "INFO", "reset"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b", withLog(&log), withFirstByte(time.Second), func(config *raftwire.NetworkTransportConfig) {
					config.MaxMessageBytes, config.SnapshotStallTimeout = 50_000, 30*time.Second
				})
				serve(t, b, accept)
				conn := dialRaw(t, net, "a")
				_, _ = io.WriteString(conn, c.says)
				if c.then != nil {
					c.then(conn)
				}
				pause(time.Minute)
				require.Equal(t, c.refused, b.Refusals())
				require.NoError(t, b.Close())
			})
			requireOneLine(t, log.String(), c.level, c.text)
		})
	}
}

// Garbage ends the connection. The requests before it are still answered, if the core
// answers within Timeout.
func TestSession_AnswersWhatCameBeforeGarbage(t *testing.T) {
	for _, late := range []time.Duration{0, 10 * time.Millisecond, time.Hour} {
		t.Run(fmt.Sprintf("answers after %v", late), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				b := listen(t, net, "b")
				serve(t, b, func(rpc raftwire.RPC) { go func() { pause(late); accept(rpc) }() })
				conn := dialRaw(t, net, "a")
				say(t, conn, "\x03\x80\x03\x80\x03\xc1")
				var answers []byte
				took := elapsed(func() { answers, _ = io.ReadAll(conn) })
				if late < prompt {
					require.Equal(t, late, took)
					require.EqualValues(t, 2, countAnswers(t, answers))
				} else {
					require.LessOrEqual(t, took, testTimeout)
				}
				synctest.Wait()
				require.Equal(t, raftwire.Refusals{Malformed: 1}, b.Refusals())
				pause(late)
			})
		})
	}
}

// A prober that comes for ever gets a line now and then, with a count. Two probers do
// not hide each other.
func TestLog_RepeatedLinesAreLimited(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", withLog(&log))
		for range 6 * 60 * 24 { // every ten seconds, for a day
			for _, probe := range []string{"GET /", "\x16\x03"} {
				conn := dialRaw(t, net, "a")
				say(t, conn, probe)
				_, _ = conn.Read(make([]byte, 1))
				require.NoError(t, conn.Close())
			}
			pause(10 * time.Second)
		}
		require.Equal(t, raftwire.Refusals{Foreign: 2 * 6 * 60 * 24}, b.Refusals())
		require.NoError(t, b.Close())
	})
	lines := linesWith(log.String(), "[WARN]", "HTTP")
	require.Len(t, lines, 24*12, "one each five minutes")
	require.NotContains(t, lines[0], "similar-before")
	require.Contains(t, lines[1], "similar-before=29")
	require.Contains(t, lines[len(lines)-1], "similar-before=29")
	require.Len(t, linesWith(log.String(), "[WARN]", "TLS"), len(lines))
	require.Len(t, linesWith(log.String(), "[DEBUG]", "connection refused"), 2*(6*60*24-len(lines)))
}

// After hours of silence a line is written at once again.
func TestLog_SpeaksAgainAfterHours(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", withLog(&log))
		for range 3 {
			for range 3 {
				conn := dialRaw(t, net, "a")
				say(t, conn, "GET")
				_, _ = conn.Read(make([]byte, 1))
				require.NoError(t, conn.Close())
				pause(time.Minute)
			}
			pause(3 * time.Hour)
		}
		require.NoError(t, b.Close())
	})
	require.Len(t, linesWith(log.String(), "[WARN]", "HTTP"), 3)
}

// A kept entry, or a kept part of one, holds little else.
func TestEntry_KeptHoldsLittleElse(t *testing.T) {
	const kept, every, batch = 300, 30, 60
	keep := func(t *testing.T, a, b raftwire.Transport, size int, part func(l *raftwire.Log) any) int {
		var all []any
		serve(t, b, func(rpc raftwire.RPC) {
			entries := rpc.Command.(*raftwire.AppendEntriesRequest).Entries
			for i := 0; i < len(entries) && len(all) < kept; i += every {
				all = append(all, part(entries[i]))
			}
			accept(rpc)
		})
		args := &raftwire.AppendEntriesRequest{Term: 1}
		for range batch {
			args.Entries = append(args.Entries, &raftwire.Log{Data: make([]byte, size)})
		}
		send := func() {
			require.NoError(t, a.AppendEntries("b", "b", args, new(raftwire.AppendEntriesResponse)))
		}
		send() // so that the connection stands
		all = make([]any, 0, kept)
		return heapOfEach(kept, func() {
			for len(all) < kept {
				send()
			}
		})
	}
	parts := map[string]func(l *raftwire.Log) any{
		"a part of Data": func(l *raftwire.Log) any { return l.Data[8:] },
		"the Log":        func(l *raftwire.Log) any { return l },
	}
	const buffers = 1 << 10 // of both connections, for each that is kept
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			onBothTransports(t, func(t *testing.T, a, b raftwire.Transport) {
				each := keep(t, a, b, 8<<10, part)
				t.Logf("%d bytes of heap for each of 8 KiB", each)
				require.LessOrEqual(t, each, 9<<10+buffers)
			})
		})
		for unshared, most := range map[bool]int{false: 5 << 10, true: 512} {
			t.Run(fmt.Sprintf("%s, small, NoSharedEntries: %v", name, unshared), func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					own := func(c *raftwire.NetworkTransportConfig) { c.NoSharedEntries = unshared }
					each := keep(t, listen(t, net, "a"), listen(t, net, "b", own), 128, part)
					t.Logf("%d bytes of heap for each of 128 bytes", each)
					require.LessOrEqual(t, each, most+buffers)
				})
			})
		}
	}
}

// Over plain TCP an unused pipeline looks like a port scan. It ends, and its first
// future fails.
func TestFirstByteTimeout_EndsAnUnusedPipelineOverPlainTCP(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a"), listen(t, net, "b")
		serve(t, b, accept)
		p := openPipeline(t, a, "b")
		pause(2 * raftwire.DefaultFirstByteTimeout)
		require.Error(t, appendTo(p))
		require.NoError(t, appendTo(openPipeline(t, a, "b")))
		synctest.Wait() // a refusal is counted after the connection was closed
		require.Equal(t, raftwire.Refusals{Silent: 1}, b.Refusals())
	})
}

var bothLimits = map[string]option{
	"in total": withLimits(3, -1),
	"per host": withLimits(-1, 3),
}

func hearAndClose(conn net_) {
	_, _ = conn.Read(make([]byte, 100))
	_ = conn.Close()
}

// requireOneLine checks that a text is logged once, at the given level, and that
// nothing else is logged above debug.
func requireOneLine(t *testing.T, log, level, text string) {
	t.Helper()
	loud, with := 0, ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			with = line
		}
		if !strings.Contains(line, "[DEBUG]") {
			loud++
		}
	}
	require.Contains(t, with, "["+level+"]", log)
	require.Contains(t, with, "local=b peer=a:", log)
	if level == "DEBUG" {
		require.Zero(t, loud, log)
	} else {
		require.Equal(t, 1, loud, log)
	}
}
