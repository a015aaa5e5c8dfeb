package identity

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/raftwire/raftwire/internal/msgpack"
	"github.com/stretchr/testify/require"
)

var fieldsOfMessage = msgpack.NewFields("M", "Term")

// readMessage reads a message with a field Term, and what the others say.
func readMessage(r *msgpack.Reader, h *hello) (term uint64) {
	r.SetUnknown(func(name string) bool { return h.readField(name, r) })
	r.Begin()
	for s := r.Struct(fieldsOfMessage); s.Next(); {
		term = r.Uint64()
	}
	return term
}

func parse(b []byte) (h hello, term uint64, err error) {
	var r msgpack.Reader
	r.Reset(bytes.NewReader(b))
	term = readMessage(&r, &h)
	return h, term, r.Err()
}

func TestHello_ArrivesAsItWasSent(t *testing.T) {
	for _, h := range []hello{
		{revision: 1, cluster: "eu", node: "n1", said: true},
		{revision: 1, cluster: "eu", node: "n1", meant: "n2", said: true},
		{revision: 1, cluster: "eu", node: "n1", refused: WrongNode, said: true},
		{revision: 1, cluster: strings.Repeat("c", MaxName), node: strings.Repeat("n", MaxName), meant: strings.Repeat("m", MaxName), said: true},
		{revision: 300, refused: 200, said: true},
	} {
		for prefix, want := range map[string]uint64{"\xc0": 0, "\x80": 0, "\x81\xa4Term\x07": 7} {
			message := h.addTo([]byte("before"+prefix), len("before"))
			got, term, err := parse(message[len("before"):])
			require.NoError(t, err)
			require.Equal(t, h, got)
			require.Equal(t, want, term)
		}
	}
}

// What is no field of a message says nothing, and what cannot be one is an error.
func TestHello_TakesNothingElse(t *testing.T) {
	const said = "\xa8raftwire"
	for message, want := range map[string]string{
		"\x81\xa8raftwirE\x07":                           "",
		"\x81\xa3any\x81" + said + "\x81\xa7Cluster\x07": "", // inside of another
		"\x81" + said + "\x07":                           "M.raftwire: found an integer (0x07), not a map",
		"\x81" + said + "\x81\xa7Cluster\x07":            "M.raftwire.Cluster: found an integer (0x07), not a byte string",
		"\x81" + said + "\x81\xa7Refused\xcd\x01\x00":    "M.raftwire.Refused: 256 is more than 255",
		"\x82" + said + "\xc0" + said + "\xc0":           "M.raftwire: raftwire comes twice",
		"\x81" + said + "\x81\xa4Node\xda\x04\x01":       "M.raftwire.Node: is too long: 1025 bytes, at most 1024",
		"\x81" + said + "\x82\xa4Node\xc0\xa4Node\xc0":   "M.raftwire.Node: comes twice",
	} {
		h, _, err := parse([]byte(message))
		if want != "" {
			require.EqualError(t, err, want)
			continue
		}
		require.NoError(t, err)
		require.Zero(t, h)
	}
	for message, want := range map[string]hello{
		"\x81" + said + "\xc0": {said: true},
		"\x81" + said + "\x82" + said + "\x81" + said + "\x07\xa4Node\xa1n": {said: true, node: "n"}, // a later revision's
	} {
		h, _, err := parse([]byte(message))
		require.NoError(t, err)
		require.Equal(t, want, h)
	}
}

// FuzzHello reads arbitrary messages: at once, byte by byte, and cut short. What is read
// is bounded, and travels on as it is.
func FuzzHello(f *testing.F) {
	for _, h := range []hello{{}, {revision: 1, cluster: "eu", node: "n1", meant: "n2"}, {revision: 9, cluster: "eu", node: "n1", refused: WrongCluster}} {
		f.Add(h.addTo([]byte("\xc0"), 0))
		f.Add(h.addTo([]byte("\x81\xa4Term\x07"), 0))
	}
	f.Add([]byte("\x82\xa8raftwire\xc0\xa8raftwire\xc0"))
	f.Add([]byte("\x81\xa8raftwire\x81\xa8raftwire\x81\xa8raftwire\x07"))
	f.Add([]byte("\x81\xa8raftwire\x81\xa4Node\xdb\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, message []byte) {
		h, term, err := parse(message)
		var slow msgpack.Reader
		slow.Reset(iotest.OneByteReader(bytes.NewReader(message)))
		var again hello
		require.Equal(t, term, readMessage(&slow, &again))
		require.Equal(t, err, slow.Err())
		require.Equal(t, h, again)
		require.LessOrEqual(t, max(len(h.cluster), len(h.node), len(h.meant)), MaxName)
		if err != nil {
			return
		}
		if h.said {
			got, _, err := parse(h.addTo([]byte("\xc0"), 0))
			require.NoError(t, err)
			require.Equal(t, h, got)
		}
		for n := range min(lengthOf(message), 500) {
			_, _, err := parse(message[:n])
			require.Error(t, err, "the first %d bytes of %q", n, message)
		}
	})
}

// lengthOf returns how many bytes of b are the message.
func lengthOf(b []byte) int64 {
	var r msgpack.Reader
	r.Reset(bytes.NewReader(b))
	readMessage(&r, new(hello))
	return r.Consumed()
}

func TestQuote_IsShortAndNoGrantedPreVote(t *testing.T) {
	require.Equal(t, `"`+strings.Repeat("x", 100)+`..."`, quote(strings.Repeat("x", 101)))
	require.Equal(t, `"a unexpected_command b"`, quote("a unexpected command b"))
	require.Equal(t, `"\n\x1b"`, quote("\n\x1b"))
}
