package probe

import (
	"bytes"
	"fmt"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
)

// kindRequestPreVote is the first byte of a RequestPreVote.
const kindRequestPreVote = 4

// Name is the ID and the address that the node sees, and may log.
const Name = "raftwire-probe"

// hello is the value of one field more, in a request and in its answer. A node with an
// Identity says in it who it is, if the request has the field. The format is that of the
// library's package internal/identity; hashicorp/raft skips the field.
type hello struct {
	Revision int
	Cluster  string `codec:",omitempty"`
	Node     string `codec:",omitempty"`
	Refused  int    `codec:",omitempty"`
}

// refusedNoIdentity is hello.Refused of a node that takes no request from peers that do
// not say who they are. A probe says no name.
const refusedNoIdentity = 3

func (h hello) identity() *Identity {
	if h.Cluster == "" && h.Node == "" {
		return nil
	}
	return &Identity{Cluster: h.Cluster, Node: h.Node}
}

type request struct {
	raftwire.RequestPreVoteRequest
	Hello hello `codec:"raftwire"`
}

type response struct {
	raftwire.RequestPreVoteResponse
	Hello hello `codec:"raftwire"`
}

// preVote asks for a pre-vote in term 0. In hashicorp/raft 1.7 and 1.8 a pre-vote
// writes nothing: no term, vote, log or last contact changes, whatever the answer.
func preVote() []byte {
	var asked request
	asked.RPCHeader = raftwire.RPCHeader{ProtocolVersion: raftwire.ProtocolVersionMax, ID: []byte(Name), Addr: []byte(Name)}
	asked.Hello.Revision = 1
	var b bytes.Buffer
	b.WriteByte(kindRequestPreVote)
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(&asked); err != nil {
		panic(err) // it is always the same message
	}
	return b.Bytes()
}

// beginVote is the beginning of a RequestVote: its kind, and a map with one key. As
// the value never comes, no core sees a request. hashicorp/raft of any version waits for
// the rest. A port that takes the first byte for a key sees 0x81 as the next one, and one
// that wants TLS sees a whole header, which takes five bytes, that is wrong.
var beginVote = []byte("\x01\x81\xa4Term")

// askHTTP makes an HTTP server answer. Raft takes the O for an unknown kind of request,
// and closes the connection.
var askHTTP = []byte("OPTIONS * HTTP/1.0\r\n\r\n")

// maxAnswer is far more than any answer has.
const maxAnswer = 64 << 10

// isString reports whether a msgpack string begins with first, as every answer does.
func isString(first byte) bool {
	return first >= 0xa0 && first <= 0xbf || first >= 0xd9 && first <= 0xdb
}

// readAnswer reads the answer to preVote. text is the error of the core, or why it was
// not asked.
func readAnswer(r io.Reader) (answer response, text string, err error) {
	decoder := codec.NewDecoder(io.LimitReader(r, maxAnswer), &codec.MsgpackHandle{})
	if err := decoder.Decode(&text); err != nil {
		return answer, "", fmt.Errorf("error text of the answer: %w", err)
	}
	if err := decoder.Decode(&answer); err != nil {
		return answer, "", fmt.Errorf("answer: %w", err)
	}
	return answer, text, nil
}
