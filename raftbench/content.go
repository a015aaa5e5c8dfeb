package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// What every request and answer of the benchmark says about itself, as in a
// cluster that has been running for a while.
const (
	protocolVersion = 3
	term            = 7
	lastIndex       = 1_000_000 // before the request's entries
	firstAnswer     = 5_000_000 // the first answer's LastLog; each further one's is one higher
)

var (
	senderID     = []byte("node-1")
	senderAddr   = []byte("10.0.0.1:8300")
	receiverID   = []byte("node-2")
	receiverAddr = []byte("10.0.0.2:8300")
)

// content is what the entries of a request hold.
type content struct {
	entries    [][]byte
	appendedAt time.Time
}

func newContent(w workload) *content {
	random := rand.NewChaCha8([32]byte{})
	c := &content{
		entries:    make([][]byte, w.entries),
		appendedAt: time.Now().UTC().Round(0), // what arrives has no monotonic reading
	}
	for i := range c.entries {
		c.entries[i] = make([]byte, w.size)
		random.Read(c.entries[i])
	}
	return c
}

// requestFrame returns the bytes in which the content's request travels.
func (c *content) requestFrame() []byte {
	const kindAppendEntries = 0
	return appendMsgpack([]byte{kindAppendEntries}, hashicorpRequest(c))
}

// answerFrame returns the bytes in which the first answer travels.
func answerFrame() []byte {
	const noError = ""
	return appendMsgpack(appendMsgpack(nil, noError), hashicorpAnswer(firstAnswer))
}

func appendMsgpack(frame []byte, value any) []byte {
	handle := new(codec.MsgpackHandle)
	handle.TimeNotBuiltin = true
	buffer := bytes.NewBuffer(frame)
	if err := codec.NewEncoder(buffer, handle).Encode(value); err != nil {
		panic(fmt.Sprintf("encoding a %T: %v", value, err)) // values of this program
	}
	return buffer.Bytes()
}
