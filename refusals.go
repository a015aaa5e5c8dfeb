package raftwire

import (
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/logs"
)

// Refusals counts the inbound connections that a transport or a layers.Mux has ended,
// or not let in, because of a limit or because of what came on them. Peers that
// go, or are cut off, do not count.
type Refusals struct {
	// TooManyConns were over MaxConns.
	TooManyConns uint64
	// TooManyConnsOfHost were over MaxConnsPerHost.
	TooManyConnsOfHost uint64
	// Silent sent nothing within FirstByteTimeout. Over plain TCP that may be a
	// peer's pipeline which was not used.
	Silent uint64
	// Stalled made no progress within Timeout: inside a message, in the body
	// of a snapshot, or in taking answers.
	Stalled uint64
	// TooLarge sent a message over MaxMessageBytes, or one that needs far more
	// memory than it has bytes.
	TooLarge uint64
	// Foreign sent what begins no request: another protocol, or a request that
	// only later versions know.
	Foreign uint64
	// Untrusted failed in their TLS handshake: a certificate that was missing,
	// expired, of another CA or not authorized, or a version or protocol that is
	// not spoken. Only layers count them.
	Untrusted uint64
	// Malformed sent a request that cannot be decoded, or that would trip a
	// Raft core up.
	Malformed uint64
}

// Refusals returns what was refused since the transport was made. It does not
// block.
func (n *NetworkTransport) Refusals() Refusals { return Refusals(n.refusals.Counts()) }

// logEnd says why an inbound connection ended.
func (n *NetworkTransport) logEnd(c *netConn, err error) {
	gone := err == io.EOF || n.IsShutdown() || errors.Is(err, errStreamsClosed)
	n.refusals.Report(n.logger, string(c.peer), err, gone)
}

// logWrongAnswer says that the consumer answered a peer with a wrong type.
func (n *NetworkTransport) logWrongAnswer(peer ServerAddress, err error) {
	n.refusals.Limit.Log(n.logger, hclog.Error, logs.Topic{Detail: err.Error()}, "wrong answer", logs.KeyPeer, peer, logs.KeyError, err)
}

// refusedHook returns what tells hook of refusals, or nil.
func refusedHook(hook func(RefusalEvent)) func(reason door.Reason, peer, host string, err error) {
	if hook == nil {
		return nil
	}
	return func(reason door.Reason, peer, host string, err error) {
		hook(RefusalEvent{Reason: reason.String(), Peer: ServerAddress(peer), Host: host, Err: err})
	}
}

// hostOf returns the host in an address, or "" if it has none.
func hostOf(address ServerAddress) string { return door.HostOf(string(address)) }
