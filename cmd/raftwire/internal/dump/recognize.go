package dump

import (
	"bytes"
	"slices"
)

// How Raft traffic is told from other traffic. A request begins with its kind, then
// a map of up to 15 fields, whose names are sorted. An answer begins with a string, empty unless
// it is an error, then a map or nil. So the first name is one of a few.
var (
	requestNames = []string{"Addr", "Candidate", "Configuration", "Entries", "ID", "ProtocolVersion"}
	answerNames  = []string{"Addr", "Granted", "ID", "LastLog", "ProtocolVersion"}
)

// maxKeys is how many first bytes may lie before the first request: those of a Mux
// over a layer of another.
const maxKeys = 2

// maxBeginning is how many bytes tell what a stream is, at most.
const maxBeginning = maxKeys + 3 + len("ProtocolVersion")

// verdict is what the beginning of a stream says.
type verdict int

const (
	no verdict = iota
	more
	yes
)

// requestAt says whether b begins with a request.
func requestAt(b []byte) verdict {
	switch {
	case len(b) == 0:
		return more
	case b[0] >= byte(len(kinds)):
		return no
	}
	return mapAt(b[1:], requestNames)
}

// answerAt says whether b begins with an answer that is no error.
func answerAt(b []byte) verdict {
	switch {
	case len(b) == 0:
		return more
	case b[0] != 0xa0: // the empty string
		return no
	}
	return mapAt(b[1:], answerNames)
}

// mapAt says whether b begins with a map with one of the names first.
func mapAt(b []byte, names []string) verdict {
	switch {
	case len(b) == 0:
		return more
	case b[0]&0xf0 != 0x80:
		return no
	case len(b) == 1:
		return more
	case b[1]&0xe0 != 0xa0:
		return no
	}
	length := int(b[1] & 0x1f)
	name := b[2:min(len(b), 2+length)]
	if !slices.ContainsFunc(names, func(n string) bool { return len(n) == length && bytes.HasPrefix([]byte(n), name) }) {
		return no
	}
	if len(name) < length {
		return more
	}
	return yes
}

// content is what the beginning of a stream looks like.
type content int

const (
	undecided content = iota
	requests
	answers
	secured
	unknown
)

// recognize says what a stream is that begins with b, and how many first bytes lie
// before the first request.
func recognize(b []byte) (c content, keys int) {
	if what := recognizeTLS(b); what != unknown {
		return what, 0
	}
	best := answerAt(b)
	if best == yes {
		return answers, 0
	}
	for keys := range min(maxKeys, len(b)) + 1 {
		verdict := requestAt(b[keys:])
		if verdict == yes {
			return requests, keys
		}
		best = max(best, verdict)
	}
	if best == more && len(b) < maxBeginning {
		return undecided, 0
	}
	return unknown, 0
}

// recognizeTLS says whether b begins with a record of TLS, RFC 8446 §5.1.
func recognizeTLS(b []byte) content {
	switch {
	case b[0] < 0x14 || b[0] > 0x17, len(b) > 1 && b[1] != 3, len(b) > 2 && b[2] > 4:
		return unknown
	case len(b) < 3:
		return undecided
	}
	return secured
}

// looksLike names what begins with b, or returns "".
func looksLike(b []byte) string {
	for _, foreign := range []struct{ begin, name string }{
		{"GET ", "HTTP"}, {"PUT ", "HTTP"}, {"POST ", "HTTP"}, {"HEAD ", "HTTP"}, {"HTTP/", "HTTP"},
		{"PRI * HTTP/2", "HTTP/2 or gRPC"}, {"SSH-", "SSH"}, {"PROXY ", "a PROXY header"},
	} {
		if bytes.HasPrefix(b, []byte(foreign.begin)) {
			return foreign.name
		}
	}
	return ""
}
