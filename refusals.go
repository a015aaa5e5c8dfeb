package raftwire

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/errno"
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
	case isTimeout(err):
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
func (n *NetworkTransport) logEnd(c *conn, err error) {
	gone := err == io.EOF || n.IsShutdown() || errors.Is(err, errStreamsClosed)
	n.refusals.report(n.logger, c.peer, err, gone)
}

// logWrongAnswer says that the consumer answered a peer with a wrong type.
func (n *NetworkTransport) logWrongAnswer(peer ServerAddress, err error) {
	n.refusals.limit.log(n.logger, hclog.Error, topic{detail: err.Error()}, "wrong answer", keyPeer, peer, keyError, err)
}

// refusals counts and logs how inbound connections end. The zero value is
// ready for use.
type refusals struct {
	counts [reasons]atomic.Uint64
	limit  logLimit
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
	r.limit.log(logger, level, about, text, keyPeer, peer, keyError, err)
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
func news(why reason, err error, gone bool) (hclog.Level, topic) {
	var secure *handshakeError
	var own *refusal
	switch {
	case errors.As(err, &secure):
		return hclog.Warn, topic{why, secure.class, secure.host}
	case why == foreign:
		return hclog.Warn, topic{reason: why, detail: likeness(err)}
	case err == errSilent: // it may be a peer's
		return hclog.Info, topic{reason: why}
	case errors.As(err, &own):
		return hclog.Warn, topic{reason: why, detail: own.detail}
	case why != notRefused:
		return hclog.Warn, topic{reason: why}
	case gone:
		return hclog.Debug, topic{reason: why, detail: "gone"}
	case isCut(err):
		return hclog.Info, topic{reason: why, detail: "cut"}
	}
	return hclog.Warn, topic{reason: why}
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

const (
	// The pause between log lines about one topic doubles from the one to the
	// other while there is something to say.
	minLogPause = time.Minute
	maxLogPause = time.Hour
)

// maxTopics is how many topics are told apart: the detail of some is an error's
// text, or the ID of a server.
const maxTopics = 256

// maxMembers is how many members of a topic get a line each in one pause. It is
// enough for the peers of a cluster that are misconfigured alike, and a crowd does
// not fill the log.
const maxMembers = 8

// topic is what log lines have in common, and whom one of them is about.
type topic struct {
	reason reason
	detail string
	member string // a host, for example; or ""
}

// logLimit thins out log lines. The zero value is ready for use.
type logLimit struct {
	mu     sync.Mutex // protects following
	topics map[topic]*logPause
}

// logPause is the time after a line in which those like it are left out, but for
// the first about other members.
type logPause struct {
	from    time.Time // when the line was written
	length  time.Duration
	skipped int      // lines since the last one
	members []string // that have had theirs
}

// log writes a line about t, at level debug if it is not due.
func (l *logLimit) log(logger hclog.Logger, level hclog.Level, t topic, text string, args ...any) {
	skipped, due := l.due(t, time.Now())
	if !due {
		level = hclog.Debug
	}
	logger.Log(level, text, withSimilar(skipped, args...)...)
}

// withSimilar adds how many lines were left out since the last one, if any, to
// the arguments of a line.
func withSimilar(skipped int, args ...any) []any {
	if skipped > 0 {
		args = append(args, keySimilar, skipped)
	}
	return args
}

// due reports whether a line about t may be written now, and how many were not
// since the last one.
func (l *logLimit) due(t topic, now time.Time) (skipped int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pause(t, now)
	if !p.end(now) && !p.admits(t.member) {
		p.skipped++
		return 0, false
	}
	p.members = append(p.members, t.member)
	skipped, p.skipped = p.skipped, 0
	return skipped, true
}

// pause returns that of t's topic, whoever its member is. mu is held.
func (l *logLimit) pause(t topic, now time.Time) *logPause {
	t.member = ""
	if l.topics[t] == nil && len(l.topics) >= maxTopics {
		l.forget(now)
		if len(l.topics) >= maxTopics {
			t.detail = ""
		}
	}
	p := l.topics[t]
	if p == nil {
		if l.topics == nil {
			l.topics = make(map[topic]*logPause)
		}
		p = new(logPause)
		l.topics[t] = p
	}
	return p
}

// forget makes room: what is due may as well be said as if it were new.
// mu is held.
func (l *logLimit) forget(now time.Time) {
	maps.DeleteFunc(l.topics, func(_ topic, p *logPause) bool { return now.Sub(p.from) >= p.length })
}

// end begins the next pause if this one is over.
func (p *logPause) end(now time.Time) (over bool) {
	since := now.Sub(p.from)
	if since < p.length {
		return false
	}
	if since > 2*maxLogPause {
		p.length = 0 // it is news again
	}
	*p = logPause{from: now, length: min(max(2*p.length, minLogPause), maxLogPause), skipped: p.skipped}
	return true
}

// admits reports whether a member gets a line before the pause is over.
func (p *logPause) admits(member string) bool {
	return len(p.members) < maxMembers && !slices.Contains(p.members, member)
}
