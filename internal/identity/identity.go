// Package identity is what two nodes tell each other of themselves: one more field of
// the first request's map on a connection, and of its answer's. Peers that do not know
// the field skip it. The package knows no message.
//
//	request: "raftwire": {"Revision": 1, "Cluster": "eu", "Node": "n1", "Meant": "n2"}
//	answer:  "raftwire": {"Revision": 1, "Cluster": "eu", "Node": "n2"}
//	refusal: "raftwire": {"Revision": 1, "Cluster": "us", "Node": "n9", "Refused": 1}
//
// Meant is the node that the sender expects at the address; without it any will do.
// A peer that gives no Cluster, or no Node, does not say who it is. Names in the map
// that a node does not know are skipped, so later revisions can add some.
package identity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/raftwire/raftwire/internal/msgpack"
)

const (
	// key is the name of the field.
	key = "raftwire"

	// revision is the one that this package speaks.
	revision = 1

	// MaxName is how long a name may be, in bytes.
	MaxName = 1 << 10
)

// Code is why a request was refused, as it travels.
type Code uint8

const (
	Allowed Code = iota
	WrongCluster
	WrongNode
	NoIdentity
)

// ErrWrongCluster and its siblings are why peers do not talk to each other.
var (
	ErrWrongCluster = errors.New("wrong cluster")
	ErrWrongNode    = errors.New("wrong node")
	ErrNoIdentity   = errors.New("no identity")
)

func (c Code) String() string {
	return [...]string{"Allowed", "WrongCluster", "WrongNode", "NoIdentity"}[c]
}

// err returns the error of a code, or nil for those that later revisions add.
func (c Code) err() error {
	switch c {
	case WrongCluster:
		return ErrWrongCluster
	case WrongNode:
		return ErrWrongNode
	case NoIdentity:
		return ErrNoIdentity
	}
	return nil
}

// Self is a node, as it is configured.
type Self struct {
	Cluster, Node string
	Address       string // that peers dial, or ""
	Require       bool   // refuse peers that do not say who they are
}

// Check returns what is wrong with the configuration.
func (s *Self) Check() error {
	switch {
	case s.Cluster == "" || s.Node == "":
		return errors.New("set Cluster and Node, or leave all of it zero")
	case max(len(s.Cluster), len(s.Node)) > MaxName:
		return fmt.Errorf("%d bytes in Cluster and %d in Node: use at most %d for each", len(s.Cluster), len(s.Node), MaxName)
	}
	return nil
}

// CheckSender returns an error if a request's header gives another sender than this
// node: then one of the two is configured wrong. An ID that is empty, or an address of
// this node, claims nothing.
func (s *Self) CheckSender(id []byte, addresses ...string) error {
	if len(id) == 0 || string(id) == s.Node || string(id) == s.Address {
		return nil
	}
	for _, address := range addresses {
		if string(id) == address {
			return nil
		}
	}
	return fmt.Errorf("nothing was sent: Identity.Node is %s, and the request's header gives %s as its sender: configure the same ID for both", quote(s.Node), quote(string(id)))
}

// check returns why a peer that gave h is not one to talk to. meant is whom one of
// the two expects the other, called node, to be; "" is anybody.
func (s *Self) check(h *hello, meant, node string) Code {
	switch {
	case h.isAnonymous() && s.Require:
		return NoIdentity
	case h.cluster != "" && h.cluster != s.Cluster:
		return WrongCluster
	case meant != "" && node != "" && meant != node:
		return WrongNode
	}
	return Allowed
}

func (s *Self) String() string { return describe(s.Node, s.Cluster) }

// describe never returns what hashicorp/raft looks for in the text of an error, see
// quote.
func describe(node, cluster string) string {
	return "node " + quote(node) + " of cluster " + quote(cluster)
}

// andMeans goes on after the description of a node that means another, or anybody.
func andMeans(node string) string {
	if node == "" {
		return ""
	}
	return ", and means node " + quote(node)
}

// quote returns a name for texts. hashicorp/raft takes an error whose text contains
// "unexpected command" for a granted pre-vote: no name may bring that about.
func quote(name string) string {
	const longest = 100
	if len(name) > longest {
		name = name[:longest] + "..."
	}
	return strconv.Quote(strings.ReplaceAll(name, "unexpected command", "unexpected_command"))
}

// hello is the field's value. The zero value is a message without the field.
type hello struct {
	revision             uint64
	cluster, node, meant string
	refused              Code
	said                 bool // there was a field
}

func (s *Self) hello(meant string, refused Code) hello {
	return hello{revision: revision, cluster: s.Cluster, node: s.Node, meant: meant, refused: refused, said: true}
}

func (h *hello) isAnonymous() bool { return h.cluster == "" || h.node == "" }

func (h *hello) String() string {
	if h.isAnonymous() {
		return "one that does not say who it is"
	}
	return describe(h.node, h.cluster)
}

// addTo adds the field to the map, or nil, that begins at dst[at].
func (h *hello) addTo(dst []byte, at int) []byte {
	msgpack.GrowMap(dst[at:])
	dst = msgpack.AppendString(dst, key)
	start := len(dst)
	dst = msgpack.AppendMapHeader(dst, 0)
	add := func(name string) {
		msgpack.GrowMap(dst[start:])
		dst = msgpack.AppendString(dst, name)
	}
	add("Cluster")
	dst = msgpack.AppendString(dst, h.cluster)
	if h.meant != "" {
		add("Meant")
		dst = msgpack.AppendString(dst, h.meant)
	}
	add("Node")
	dst = msgpack.AppendString(dst, h.node)
	if h.refused != Allowed {
		add("Refused")
		dst = msgpack.AppendUint(dst, uint64(h.refused))
	}
	add("Revision")
	return msgpack.AppendUint(dst, h.revision)
}

var fields = msgpack.NewFields("", "Cluster", "Meant", "Node", "Refused", "Revision")

// readField reads a field of a message, if it is this one.
func (h *hello) readField(name string, r *msgpack.Reader) bool {
	if name != key {
		return false
	}
	if h.said {
		r.Reject("%s comes twice", key)
	}
	h.read(r)
	return true
}

func (h *hello) read(r *msgpack.Reader) {
	h.said = true
	for s := r.Struct(fields); s.Next(); {
		switch s.Name {
		case "Cluster":
			h.cluster = r.StringUpTo(MaxName)
		case "Meant":
			h.meant = r.StringUpTo(MaxName)
		case "Node":
			h.node = r.StringUpTo(MaxName)
		case "Refused":
			h.refused = Code(r.Uint8())
		case "Revision":
			h.revision = r.Uint64()
		}
	}
}
