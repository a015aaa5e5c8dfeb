package raftwire

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/msgpack"
)

// Refusals counts the inbound connections that a transport or a [Mux] has ended,
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
	// not spoken. Only a [TLSStreamLayer] counts them.
	Untrusted uint64
	// Malformed sent a request that cannot be decoded, or that would trip a
	// Raft core up.
	Malformed uint64
}

// Refusals returns what was refused since the transport was made. It does not
// block.
func (n *NetworkTransport) Refusals() Refusals { return n.refusals.counted() }

// reason is why a connection was refused.
type reason uint8

const (
	notRefused reason = iota // it ended by itself
	tooManyConns
	tooManyConnsOfHost
	silent
	stalled
	tooLarge
	foreign
	untrusted
	malformed
	reasons // how many there are
)

var reasonNames = [reasons]string{
	tooManyConns:       "TooManyConns",
	tooManyConnsOfHost: "TooManyConnsOfHost",
	silent:             "Silent",
	stalled:            "Stalled",
	tooLarge:           "TooLarge",
	foreign:            "Foreign",
	untrusted:          "Untrusted",
	malformed:          "Malformed",
}

func (r reason) String() string { return reasonNames[r] }

// refusal is the error that a connection ends with where no other error says
// that it was refused.
type refusal struct {
	reason reason
	detail string // tells it apart in the log, see topic
	text   string
}

func (r *refusal) Error() string { return r.text }

// judge tells from the error that an inbound connection ended with whether it
// was refused.
func judge(err error) reason {
	var (
		own     *refusal
		unknown *unknownKindError
		message *msgpack.Error
		secure  *handshakeError
	)
	switch {
	case errors.As(err, &secure):
		return secure.reason
	case errors.As(err, &own):
		return own.reason
	case errno.IsUnreachable(err):
		return notRefused
	case errno.IsTimeout(err):
		return stalled
	case errors.As(err, &unknown):
		return foreign
	case errors.As(err, &message) && message.TooLarge:
		return tooLarge
	case message != nil:
		return malformed
	}
	return notRefused
}

// logEnd says why an inbound connection ended.
func (n *NetworkTransport) logEnd(c *netConn, err error) {
	gone := err == io.EOF || n.IsShutdown() || errors.Is(err, errStreamsClosed)
	n.refusals.report(n.logger, c.peer, err, gone)
}

// logWrongAnswer says that the consumer answered a peer with a wrong type.
func (n *NetworkTransport) logWrongAnswer(peer ServerAddress, err error) {
	n.refusals.limit.Log(n.logger, hclog.Error, logs.Topic{Detail: err.Error()}, "wrong answer", keyPeer, peer, keyError, err)
}

// refusals counts and logs how inbound connections end. The zero value is
// ready for use.
type refusals struct {
	counts [reasons]atomic.Uint64
	limit  logs.Limit
	hook   func(RefusalEvent) // or nil
}

func (r *refusals) counted() Refusals {
	return Refusals{
		TooManyConns:       r.counts[tooManyConns].Load(),
		TooManyConnsOfHost: r.counts[tooManyConnsOfHost].Load(),
		Silent:             r.counts[silent].Load(),
		Stalled:            r.counts[stalled].Load(),
		TooLarge:           r.counts[tooLarge].Load(),
		Foreign:            r.counts[foreign].Load(),
		Untrusted:          r.counts[untrusted].Load(),
		Malformed:          r.counts[malformed].Load(),
	}
}

// report says why a connection ended; gone that its peer went, or that we do.
// What anybody on the network can bring about is not said each time.
func (r *refusals) report(logger hclog.Logger, peer ServerAddress, err error, gone bool) {
	why, text := judge(err), "connection ended"
	if why != notRefused && err != errSilent {
		text = "connection refused"
	}
	r.count(why, peer, err)
	level, about := news(why, err, gone)
	r.limit.Log(logger, level, about, text, keyPeer, peer, keyError, err)
}

func (r *refusals) count(why reason, peer ServerAddress, err error) {
	r.counts[why].Add(1)
	if r.hook != nil && why != notRefused {
		r.hook(RefusalEvent{Reason: why.String(), Peer: peer, Host: hostOf(peer), Err: err})
	}
}

// news returns how much the end of a connection matters, and what log lines
// about such ends have in common. That a peer goes, or is cut off, is everyday
// life.
func news(why reason, err error, gone bool) (hclog.Level, logs.Topic) {
	var secure *handshakeError
	var own *refusal
	switch {
	case errors.As(err, &secure):
		return hclog.Warn, logs.Topic{Kind: why.String(), Detail: secure.class, Member: secure.host}
	case why == foreign:
		return hclog.Warn, logs.Topic{Kind: why.String(), Detail: likeness(err)}
	case err == errSilent: // it may be a peer's
		return hclog.Info, logs.Topic{Kind: why.String()}
	case errors.As(err, &own):
		return hclog.Warn, logs.Topic{Kind: why.String(), Detail: own.detail}
	case why != notRefused:
		return hclog.Warn, logs.Topic{Kind: why.String()}
	case gone:
		return hclog.Debug, logs.Topic{Kind: why.String(), Detail: "gone"}
	case isCut(err):
		return hclog.Info, logs.Topic{Kind: why.String(), Detail: "cut"}
	}
	return hclog.Warn, logs.Topic{Kind: why.String()}
}

// likeness returns what the error says that something foreign looks like, or
// "" if that is nothing known: one who tries every byte there is has one topic.
func likeness(err error) string {
	_, guess, _ := strings.Cut(err.Error(), ": this looks like ")
	return guess
}

// isCut reports whether a connection was cut off, by its peer or on the way.
func isCut(err error) bool {
	return errno.IsCut(err) || errno.IsUnreachable(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errBodyUnread)
}
