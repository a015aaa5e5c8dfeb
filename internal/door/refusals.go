package door

import (
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/msgpack"
)

// Reason is why a connection was refused.
type Reason string

const (
	NotRefused         Reason = "" // it ended by itself
	TooManyConns       Reason = "TooManyConns"
	TooManyConnsOfHost Reason = "TooManyConnsOfHost"
	Silent             Reason = "Silent"
	Stalled            Reason = "Stalled"
	TooLarge           Reason = "TooLarge"
	Foreign            Reason = "Foreign"
	Untrusted          Reason = "Untrusted"
	Malformed          Reason = "Malformed"
	WrongCluster       Reason = "WrongCluster"
	WrongNode          Reason = "WrongNode"
	NoIdentity         Reason = "NoIdentity"
)

// Refusal is the error that a connection ends with where no other error says that
// it was refused.
type Refusal struct {
	Reason Reason

	// Detail tells refusals of one reason apart in the log. A peer cannot choose
	// it; Err may quote the peer, who can say something else each time.
	Detail string

	Member string // the host, if the log is to name it beside others
	Mild   bool   // it may well be a peer's everyday end
	Err    error
}

// Refuse returns a refusal with a text.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Error returns what was wrong.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns what was wrong.
func (r *Refusal) Unwrap() error { return r.Err }

// ReasonOf tells from the error that an inbound connection ended with whether it
// was refused.
func ReasonOf(err error) Reason {
	var (
		refusal *Refusal
		message *msgpack.Error
	)
	switch {
	case errors.As(err, &refusal) && refusal.Reason != NotRefused:
		return refusal.Reason
	case errno.IsUnreachable(err):
		return NotRefused
	case errno.IsTimeout(err):
		return Stalled
	case errors.As(err, &message) && message.TooLarge:
		return TooLarge
	case message != nil:
		return Malformed
	}
	return NotRefused
}

// Refusals counts and logs how inbound connections end. The zero value is ready for
// use.
type Refusals struct {
	// Hook is told of each refusal. It may be nil.
	Hook func(reason Reason, peer, host string, err error)

	Limit  logs.Limit
	counts sync.Map // of *atomic.Uint64, by Reason
}

// Counts returns how many connections were refused so far: C is a struct with a field
// named after each reason.
func Counts[C any](r *Refusals) (counts C) {
	fields := reflect.ValueOf(&counts).Elem()
	for i := range fields.NumField() {
		if count, ok := r.counts.Load(Reason(fields.Type().Field(i).Name)); ok {
			fields.Field(i).SetUint(count.(*atomic.Uint64).Load())
		}
	}
	return counts
}

// Add counts a refusal that nobody is told of.
func (r *Refusals) Add(reason Reason) {
	count, _ := r.counts.LoadOrStore(reason, new(atomic.Uint64))
	count.(*atomic.Uint64).Add(1)
}

// Report counts and logs why a connection ended; gone says that its peer went, or
// that we do. Lines that anybody on the network can trigger are rate-limited.
func (r *Refusals) Report(logger hclog.Logger, peer string, err error, gone bool) {
	reason := ReasonOf(err)
	r.count(reason, peer, err)
	text, level, topic := news(reason, err, gone)
	r.Limit.Log(logger, level, topic, text, logs.KeyPeer, peer, logs.KeyError, err)
}

func (r *Refusals) count(reason Reason, peer string, err error) {
	r.Add(reason)
	if r.Hook != nil && reason != NotRefused {
		r.Hook(reason, peer, HostOf(peer), err)
	}
}

// news returns what the log says of the end of a connection, how much that matters,
// and what log lines about such ends have in common. That a peer goes, or is cut
// off, is everyday life.
func news(reason Reason, err error, gone bool) (text string, level hclog.Level, topic logs.Topic) {
	const refused, ended = "connection refused", "connection ended"
	topic = logs.Topic{Kind: string(reason)}
	var refusal *Refusal
	known := errors.As(err, &refusal) && refusal.Reason == reason
	if known {
		topic.Detail, topic.Member = refusal.Detail, refusal.Member
	}
	switch {
	case reason == NotRefused && gone:
		topic.Detail = "gone"
		return ended, hclog.Debug, topic
	case known && refusal.Mild:
		return ended, hclog.Info, topic
	case reason != NotRefused:
		return refused, hclog.Warn, topic
	case isCut(err):
		topic.Detail = "cut"
		return ended, hclog.Info, topic
	}
	return ended, hclog.Warn, topic
}

// isCut reports whether a connection was cut off, by its peer or on the way.
func isCut(err error) bool {
	return errno.IsCut(err) || errno.IsUnreachable(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// HostOf returns the host in an address, or "" if it has none.
func HostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return host
}
