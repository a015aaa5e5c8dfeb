// Package logs limits how many log lines are written about one topic. Lines that
// anybody on the network can trigger go through a Limit.
package logs

import (
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// window is the time in which a topic gets one line, or one for each of a few
	// members. With a minute, port scans of three nodes wrote 770 warnings an hour;
	// with five, 230.
	window = 5 * time.Minute

	// maxMembers is how many members of a topic get a line in one window. It is
	// enough for the peers of a cluster that are misconfigured alike, and a crowd
	// does not fill the log.
	maxMembers = 8

	// maxTopics is how many topics are told apart: the detail of some is an error's
	// text, or the ID of a server.
	maxTopics = 256
)

// The keys of log lines, everywhere the same; the package doc explains them.
const (
	KeyPeer    = "peer"           // an address: what was dialled, or where a connection comes from
	KeyLocal   = "local"          // the own address of the transport, Mux or layers.TLS
	KeyID      = "id"             // a ServerID
	KeyError   = "error"          // why
	KeyBefore  = "before"         // what was, where something has changed
	KeyCert    = "certificate"    // this node's own, or its CA, in words
	KeyExpires = "expires"        // when it does
	KeySimilar = "similar-before" // how many similar lines were left out since the last one
)

// Default returns the logger of a transport or layer that was given none.
func Default() hclog.Logger { return New(hclog.DefaultOutput) }

// New returns the logger of a transport that was given an output, or nil.
func New(output io.Writer) hclog.Logger {
	if output == nil {
		output = os.Stderr
	}
	return hclog.New(&hclog.LoggerOptions{Name: "raft-net", Output: output, Level: hclog.DefaultLevel})
}

// Topic is what log lines have in common, and whom one of them is about.
type Topic struct {
	Kind   string // one of a few
	Detail string // or ""
	Member string // a host, for example; or ""
}

// Limit limits log lines. The zero value is ready for use, by several goroutines.
type Limit struct {
	mu      sync.Mutex // protects following
	windows map[Topic]*lines
}

// lines are those about a topic in one window.
type lines struct {
	from    time.Time // when the window began
	members []string  // that have had their line
	skipped int       // lines since the last one
}

// Log writes a line about t, at level debug if it is not due.
func (l *Limit) Log(logger hclog.Logger, level hclog.Level, t Topic, text string, args ...any) {
	skipped, due := l.Due(t, time.Now())
	if !due {
		level = hclog.Debug
	}
	logger.Log(level, text, WithSimilar(skipped, args...)...)
}

// WithSimilar adds how many lines were left out since the last one, if any, to
// the arguments of a line.
func WithSimilar(skipped int, args ...any) []any {
	if skipped > 0 {
		args = append(args, KeySimilar, skipped)
	}
	return args
}

// Due reports whether a line about t may be written now, and how many were not
// since the last one.
func (l *Limit) Due(t Topic, now time.Time) (skipped int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.about(t, now)
	if now.Sub(w.from) >= window {
		w.from, w.members = now, nil
	}
	if len(w.members) >= maxMembers || slices.Contains(w.members, t.Member) {
		w.skipped++
		return 0, false
	}
	w.members = append(w.members, t.Member)
	skipped, w.skipped = w.skipped, 0
	return skipped, true
}

// about returns the lines about t's topic, whoever its member is. mu is held.
func (l *Limit) about(t Topic, now time.Time) *lines {
	t.Member = ""
	if l.windows[t] == nil && len(l.windows) >= maxTopics {
		maps.DeleteFunc(l.windows, func(_ Topic, w *lines) bool { return now.Sub(w.from) >= window })
		if len(l.windows) >= maxTopics {
			t.Detail = ""
		}
	}
	if l.windows == nil {
		l.windows = make(map[Topic]*lines)
	}
	if l.windows[t] == nil {
		l.windows[t] = new(lines)
	}
	return l.windows[t]
}
