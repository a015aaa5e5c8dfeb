package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func tinySetup(window window) setup {
	return setup{content: newContent(tinyWorkload), window: window, followers: 1, timeout: 10 * time.Second}
}

var tinyWorkload = workload{entries: 3, size: 100}

func TestEveryRivalMeasuresWithoutError(t *testing.T) {
	for _, r := range allRivals {
		for _, window := range []window{oneByOne, 2, 130, streaming} {
			if !r.takes(cell{tinyWorkload, window, 1}) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", r, window), func(t *testing.T) {
				f, err := measure(t.Context(), r, tinyWorkload, tinySetup(window), 8*time.Millisecond, false)
				require.NoError(t, err)
				require.Positive(t, f.RPCs)
				require.Positive(t, f.Seconds)
				require.InDelta(t, f.RPCs/f.Seconds, f.RPCsPerSecond, 0.001)
				require.InDelta(t, 3*f.RPCsPerSecond, f.EntriesPerSecond, 0.001)
				require.InDelta(t, 300*f.RPCsPerSecond/1e6, f.MBPerSecond, 0.001)
				require.Equal(t, window != streaming, f.P50Micros > 0 && f.P99Micros >= f.P50Micros)
				if window != streaming && strings.HasPrefix(r.name, "raw") {
					return
				}
				require.Positive(t, f.AllocBytesPerRPC)
			})
		}
	}
}

func TestEveryRivalSpeaksTLS(t *testing.T) {
	credentials, err := newCredentials(newSecret())
	require.NoError(t, err)
	for _, r := range allRivals {
		for _, window := range []window{oneByOne, 2, streaming} {
			if r.takes(cell{tinyWorkload, window, 1}) {
				s := tinySetup(window)
				s.credentials = credentials
				f, err := measure(t.Context(), r, tinyWorkload, s, 2*time.Millisecond, false)
				require.NoError(t, err, "%s at window %s", r, window)
				require.Positive(t, f.RPCs)
			}
		}
	}
}

// Hooks that are not called would cost nothing.
func TestHooksAreSetAndCalled(t *testing.T) {
	hooks := reflect.ValueOf(idleHooks)
	for i := range hooks.NumField() {
		require.False(t, hooks.Field(i).IsNil(), hooks.Type().Field(i).Name)
	}
	var calls, serves atomic.Int64
	hooked := raftwireMaker(func(listen string, s setup) (raftwireTransport, error) {
		return wired(listen, s, raftwire.Hooks{
			CallDone:  func(*raftwire.CallEvent) { calls.Add(1) },
			ServeDone: func(*raftwire.ServeEvent) { serves.Add(1) },
		})
	})
	f, err := measure(t.Context(), rival{open: hooked.stack().open}, tinyWorkload, tinySetup(2), 2*time.Millisecond, false)
	require.NoError(t, err)
	require.GreaterOrEqual(t, float64(calls.Load()), f.RPCs)
	require.Equal(t, calls.Load(), serves.Load())
}

// What is called TLS is: none of it is in the clear, and others are kept out.
func TestTLSIsWhatItSays(t *testing.T) {
	ours, err := newCredentials("secret")
	require.NoError(t, err)
	same, err := newCredentials("secret")
	require.NoError(t, err)
	require.Equal(t, ours.certificate.Certificate, same.certificate.Certificate, "it has to be the same on both machines")
	other, err := newCredentials("other")
	require.NoError(t, err)
	for name, stack := range stacks {
		r, err := stack.listen(loopback, setup{timeout: 10 * time.Second, credentials: ours})
		require.NoError(t, err, name)
		for credentials, fits := range map[*credentials]bool{ours: true, same: true, other: false, nil: false} {
			conn, err := greet(r.address(), credentials, 10*time.Second)
			require.Equal(t, fits, err == nil, "%s: %v", name, err)
			if err == nil {
				require.IsType(t, new(tls.Conn), conn)
				require.NoError(t, conn.Close())
			}
		}
		require.NoError(t, r.Close())
	}
}

func TestEveryRivalTakesHeartbeatsAndEmptyEntries(t *testing.T) {
	for _, w := range []workload{heartbeat, {1, 0}} {
		s := setup{content: newContent(w), window: oneByOne, followers: 1, timeout: 10 * time.Second}
		for _, r := range allRivals {
			if r.takes(cell{w, oneByOne, 1}) {
				f, err := measure(t.Context(), r, w, s, 2*time.Millisecond, false)
				require.NoError(t, err, "%s at %s", r, w)
				require.Positive(t, f.RPCs)
				require.Zero(t, f.MBPerSecond)
			}
		}
	}
}

// A heartbeat must not take the way through the consumer.
func TestHeartbeatsAreAnsweredByTheirHandler(t *testing.T) {
	s := setup{content: newContent(heartbeat), window: oneByOne, followers: 1, timeout: 10 * time.Second}
	x, err := hashicorpStack.open(s)
	require.NoError(t, err)
	defer x.Close()
	n, err := runFor(t.Context(), x, time.Millisecond, s.timeout, newHistogram())
	require.NoError(t, err)
	require.EqualValues(t, n, x.(*session).receivers[0].(*hashicorpReceiver).beats.Load())
}

func TestManyFollowersAreCountedTogether(t *testing.T) {
	for name, stack := range stacks {
		for _, window := range []window{oneByOne, 16} {
			s := tinySetup(window)
			s.followers = 3
			f, err := measure(t.Context(), rival{name: name, open: stack.open}, tinyWorkload, s, 8*time.Millisecond, false)
			require.NoError(t, err, name)
			require.Positive(t, f.P50Micros)
		}
	}
}

// The floor is only a floor if it carries what the transports carry.
func TestRawFramesAreWhatHashicorpSpeaks(t *testing.T) {
	s := tinySetup(oneByOne)
	r, err := hashicorpMaker(newHashicorp).listen(loopback, s)
	require.NoError(t, err)
	defer r.Close()

	conn, err := net.Dial("tcp", r.address())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(s.timeout)))
	_, err = conn.Write(s.content.requestFrame())
	require.NoError(t, err)
	answer := make([]byte, len(answerFrame()))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, answerFrame(), answer)
}

// A receiver that gets something else than was sent says so.
func TestAlteredRequestsFailTheRun(t *testing.T) {
	opened, err := hashicorpMaker(newHashicorp).listen(loopback, tinySetup(oneByOne))
	require.NoError(t, err)
	defer opened.Close()

	link := opened.(*hashicorpReceiver)
	sent := *link.due
	require.True(t, link.intact(&sent, true))
	sent.PrevLogTerm++
	require.False(t, link.intact(&sent, true), "the first is compared in full")
	sent.Entries = sent.Entries[1:]
	require.False(t, link.intact(&sent, false), "further ones by length")
	require.False(t, link.intact("something else", false))
}

// The files that adapt the two type sets may differ in nothing but names.
func TestBothTransportsAreMeasuredBySameCode(t *testing.T) {
	require.Equal(t, adapterCode(t, "raftwire"), adapterCode(t, "hashicorp"))
}

func adapterCode(t *testing.T, name string) string {
	text, err := os.ReadFile(name + ".go")
	require.NoError(t, err)
	_, code, found := strings.Cut(string(text), "\n)\n") // the imports differ
	require.True(t, found)
	code = regexp.MustCompile(`(?m)^\s*//lint:.*\n`).ReplaceAllString(code, "") // their Leader is marked deprecated
	title := strings.ToUpper(name[:1]) + name[1:]
	return strings.NewReplacer(name, "peer", title, "Peer").Replace(code)
}
