package raftwire

import "github.com/raftwire/raftwire/internal/door"

// Refusals counts inbound connections that a transport, a layers.TLS or a layers.Mux
// has refused or ended, because of a limit or because of the bytes that came on them.
// Peers that go, or are cut off, do not count.
type Refusals struct {
	// TooManyConns were over MaxConns.
	TooManyConns uint64
	// TooManyConnsOfHost were over MaxConnsPerHost.
	TooManyConnsOfHost uint64
	// Silent sent nothing within FirstByteTimeout. Over plain TCP that may be a
	// pipeline that a peer has opened and not used.
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
	// WrongCluster were peers of another cluster, see Identity.
	WrongCluster uint64
	// WrongNode were peers that mean another node, see Identity.
	WrongNode uint64
	// NoIdentity were peers that do not say who they are, see Identity.Require.
	NoIdentity uint64
}

// refusedHook returns what tells hook of refusals, or nil.
func refusedHook(hook func(RefusalEvent)) func(reason door.Reason, peer, host string, err error) {
	if hook == nil {
		return nil
	}
	return func(reason door.Reason, peer, host string, err error) {
		hook(RefusalEvent{Reason: string(reason), Peer: ServerAddress(peer), Host: host, Err: err})
	}
}
