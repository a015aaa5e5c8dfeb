package raftwire_test

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// FuzzIdentity gives an arbitrary value to the field that says who a peer is, in a
// request to the node n2 of the cluster eu and in an answer to its request. No core gets
// anything, and no answer is taken, that hashicorp's codec reads otherwise.
func FuzzIdentity(f *testing.F) {
	for _, fields := range []map[string]any{
		{"Revision": 1, "Cluster": "eu", "Node": "n1", "Meant": "n2"},
		{"Revision": 1, "Cluster": "eu", "Node": "n1"},
		{"Revision": 1, "Cluster": "us", "Node": "n1", "Refused": 1},
		{"Revision": 9, "Cluster": "eu", "Node": "n3", "Meant": "n4", "Other": map[string]any{"raftwire": 1}},
		{"Revision": 1}, {"Refused": 9}, {},
	} {
		for manner := range uint8(4) {
			f.Add(appendMsgpack(nil, fields), manner)
		}
	}
	f.Add([]byte("\xc0\xa8raftwire"), uint8(1))
	f.Add([]byte("\xdf\xff\xff\xff\xff"), uint8(0))
	f.Fuzz(func(t *testing.T, value []byte, manner uint8) {
		require := manner&1 != 0
		synctest.Test(t, func(t *testing.T) {
			if manner&2 != 0 {
				serveIntroduced(t, value, require)
			} else {
				answerIntroduced(t, value, require)
			}
		})
	})
}

// introduced is what the value of the field says, as hashicorp's codec reads it.
type introduced struct {
	Cluster, Node, Meant string
	Refused              uint8
}

func readIntroduced(t *testing.T, value []byte) (said introduced) {
	t.Helper()
	err := codec.NewDecoder(bytes.NewReader(value), new(codec.MsgpackHandle)).Decode(&said)
	require.NoError(t, err, "took what is no value: %q", value)
	return said
}

func (i introduced) check(t *testing.T, required bool) {
	t.Helper()
	require.Contains(t, []string{"", "eu"}, i.Cluster)
	if required {
		require.NotEmpty(t, i.Cluster)
		require.NotEmpty(t, i.Node)
	}
}

func fuzzedIdentity(require bool) option {
	return func(c *raftwire.NetworkTransportConfig) {
		c.Identity = raftwire.Identity{Cluster: "eu", Node: "n2", Require: require}
	}
}

func serveIntroduced(t *testing.T, value []byte, required bool) {
	net := faultnet.New(1)
	b := listen(t, net, "b", fuzzedIdentity(required))
	var arrived atomic.Bool
	serve(t, b, func(rpc raftwire.RPC) { arrived.Store(true); accept(rpc) })
	conn, err := net.Host("a").Dial(t.Context(), "b")
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write(append([]byte("\x03\x81\xa8raftwire"), value...))
	_ = conn.(*faultnet.Conn).CloseWrite()
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err)
	if arrived.Load() {
		said := readIntroduced(t, value)
		said.check(t, required)
		require.Contains(t, []string{"", "n2"}, said.Meant)
	}
}

func answerIntroduced(t *testing.T, value []byte, required bool) {
	net := faultnet.New(1)
	answering(t, net, append([]byte("\xa0\x81\xa8raftwire"), value...))
	a := listen(t, net, "a", fuzzedIdentity(required))
	if a.TimeoutNow("n1", "b", new(raftwire.TimeoutNowRequest), new(raftwire.TimeoutNowResponse)) == nil {
		said := readIntroduced(t, value)
		said.check(t, required)
		require.Contains(t, []string{"", "n1"}, said.Node)
		require.NotContains(t, []uint8{1, 2, 3}, said.Refused)
	}
}
