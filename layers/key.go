package layers

import (
	"errors"
	"fmt"

	"github.com/raftwire/raftwire/internal/sniff"
)

// maxProtocol is how many bytes the name of a protocol may have, RFC 7301 §3.1.
const maxProtocol = 255

// Key is how a connection says for which layer of a [Mux] it is. Keys are compared
// with ==. The zero value is no key: [FirstByte], [ALPN] and [Unprefixed] make them.
type Key struct {
	kind     keyKind
	first    byte
	protocol string
}

type keyKind uint8

const (
	keyFirstByte keyKind = 1 + iota
	keyALPN
	keyUnprefixed
)

// FirstByte is the key of connections that begin with a byte of its own, which
// is taken off before the connection is handed over.
func FirstByte(b byte) Key { return Key{kind: keyFirstByte, first: b} }

// ALPN is the key of TLS connections that have negotiated a protocol (RFC 7301).
func ALPN(protocol string) Key { return Key{kind: keyALPN, protocol: protocol} }

// Unprefixed is the key of peers that know of no keys, such as every
// hashicorp/raft: their connections begin with the kind of a request, a byte of
// 0 to 4.
func Unprefixed() Key { return Key{kind: keyUnprefixed} }

// String returns the key in words.
func (k Key) String() string {
	switch k.kind {
	case keyALPN:
		return fmt.Sprintf("ALPN %q", k.protocol)
	case keyUnprefixed:
		return "no prefix"
	case keyFirstByte:
		return fmt.Sprintf("first byte %d", k.first)
	}
	return "no key"
}

// check returns what is wrong with a key on its own.
func (k Key) check() error {
	switch {
	case k == Key{}:
		return errors.New("a key is empty: make it with FirstByte, ALPN or Unprefixed")
	case k.kind == keyALPN && isNoProtocol(k.protocol):
		return fmt.Errorf("%v is no protocol: a name has 1 to %d bytes", k, maxProtocol)
	}
	return nil
}

// isNoProtocol reports whether no protocol can have a name: crypto/tls would fail each dial.
func isNoProtocol(name string) bool { return name == "" || len(name) > maxProtocol }

// clash returns what speaks against a key beside others.
func (k Key) clash(taken func(Key) bool) error {
	switch {
	case taken(k):
		return fmt.Errorf("%v is taken", k)
	case k == Unprefixed():
		for kind := range byte(sniff.RaftKinds) {
			if first := FirstByte(kind); taken(first) {
				return fmt.Errorf("%v is taken, so that %v could not be told from it: use bytes from %d on", first, k, sniff.RaftKinds)
			}
		}
	case k.kind == keyFirstByte && k.first < sniff.RaftKinds && taken(Unprefixed()):
		return fmt.Errorf("%v could not be told from %v, which is taken: use bytes from %d on", k, Unprefixed(), sniff.RaftKinds)
	}
	return nil
}
