package dump

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A conversation is a TCP connection: requests in one direction, answers in the other.
type conversation struct {
	*printer
	halves  [2]*half
	asking  *half  // the half with the requests, once known
	foreign bool   // it is no Raft, and was said to be
	kind    string // for the summary, "" as long as there were no bytes

	pending []*request // in order, without their answers
	// unsure is true after a gap: which answer belongs to which request is a guess until
	// an answer comes with no request pending.
	unsure bool
}

// A half is one direction of a conversation.
type half struct {
	stream
	c        *conversation
	from, to string
	midway   bool // a message need not begin here: the capture began late, or there is a gap
	scanning bool // for the next message, which does not begin here
}

func newConversation(p *printer, from, to string) *conversation {
	c := &conversation{printer: p}
	for i := range c.halves {
		h := &half{c: c, from: from, to: to}
		h.coroutine = h.read
		c.halves[i] = h
		from, to = to, from
	}
	return c
}

// end is called when nothing more comes in either direction. It may be called again.
func (c *conversation) end() {
	for _, h := range c.halves {
		h.end()
	}
	c.unanswered += len(c.pending)
	for _, r := range c.pending {
		if !c.hides(r) {
			c.say(c.asking, "%s: no answer was captured", r.describe())
		}
	}
	c.pending = nil
	if c.kind == "unknown" && !c.foreign {
		c.say(c.halves[0], "unknown: no Raft message was found")
	}
	if c.kind != "" {
		c.conns[c.kind]++
		c.kind = ""
	}
}

// say prints a line about a half.
func (c *conversation) say(h *half, format string, args ...any) {
	c.print(h.now, h.from, h.to, format, args...)
}

// isAsking reports whether h has the requests.
func (h *half) isAsking() bool { return h.c.asking == h }

// other returns the half with the other direction.
func (h *half) other() *half {
	if h == h.c.halves[0] {
		return h.c.halves[1]
	}
	return h.c.halves[0]
}

// read is the coroutine of a half.
func (h *half) read() {
	for h.begin() {
		if h.handle(h.readAll()) {
			return
		}
	}
	for !h.handle(h.skip()) { // it is no Raft
	}
}

// skip reads to the end.
func (h *half) skip() error {
	_, err := io.Copy(io.Discard, onlyReader{h.Reader})
	if err == nil {
		err = io.EOF
	}
	return err
}

// onlyReader hides the methods with which io.Copy would not stop at an error.
type onlyReader struct{ io.Reader }

// handle handles the error that reading has stopped with, and reports whether that is
// the end.
func (h *half) handle(err error) (ended bool) {
	var missing gap
	switch err = h.failure(err); {
	case errors.As(err, &missing):
		h.lose(int(missing))
	case err == io.EOF:
		return true
	case err != nil:
		h.c.say(h, "cannot be read: %v", err)
		h.forget()
	}
	return false
}

// lose notes that bytes are missing.
func (h *half) lose(n int) {
	if h.c.foreign {
		return
	}
	_, _ = h.Discard(h.Buffered())
	h.c.gaps++
	h.c.lost += int64(n)
	h.c.say(h, "%s missing in the capture", plural(n, "byte"))
	h.forget()
}

// forget leaves the pairs of requests and answers, which cannot be told any more.
func (h *half) forget() {
	h.midway, h.scanning = true, false
	h.c.unsure = true
	h.c.unanswered += len(h.c.pending)
	h.c.pending = nil
}

// begin finds the first message, also after a gap. It returns false if this is no Raft.
func (h *half) begin() bool {
	for {
		what, keys, err := h.look()
		switch {
		case h.c.foreign:
			return false
		case err != nil:
			if h.handle(err) {
				return true // readAll ends with the same error
			}
			continue
		case what == requests && (h.c.asking == nil || h.isAsking()):
			h.identify(h, keys)
			return true
		case what == answers && !h.isAsking():
			h.identify(h.other(), 0)
			return true
		case h.c.asking == h.other() && !h.midway:
			return true // an error is no message that can be told by its first bytes
		case what == secured && !h.scanning:
			h.reject("TLS, which is not decrypted", "TLS")
			return false
		case h.midway:
			h.scanning = true
			_, _ = h.Discard(1)
		default:
			h.rejectUnknown()
			return false
		}
	}
}

// look says what the next bytes are.
func (h *half) look() (what content, keys int, err error) {
	for n := 1; n <= maxBeginning; n++ {
		b, err := h.Peek(n)
		err = h.failure(err)
		if err != nil && (len(b) == 0 || err != io.EOF) {
			return undecided, 0, err
		}
		if h.c.kind == "" {
			h.c.kind = "unknown"
		}
		if h.midway {
			what, keys = recognizeMidway(b)
		} else {
			what, keys = recognize(b)
		}
		switch {
		case what != undecided:
			return what, keys, nil
		case err != nil: // no more comes
			return unknown, 0, nil
		}
	}
	return unknown, 0, nil
}

// recognizeMidway is recognize where no key can come.
func recognizeMidway(b []byte) (content, int) {
	request, answer := requestAt(b), answerAt(b)
	switch {
	case request == yes:
		return requests, 0
	case answer == yes:
		return answers, 0
	case request == more || answer == more:
		return undecided, 0
	}
	return recognizeTLS(b), 0
}

// identify notes which half asks, and takes keys off.
func (h *half) identify(asking *half, keys int) {
	h.midway = false
	if h.c.asking == nil {
		h.c.asking, h.c.kind = asking, "Raft"
	}
	if keys > 0 {
		b, _ := h.Peek(keys)
		h.c.say(h, "begins with %s %s, the key of a Mux", choose(keys == 1, "byte", "bytes"), strings.Trim(fmt.Sprint(b), "[]"))
		_, _ = h.Discard(keys)
	}
}

// reject says that the conversation is no Raft.
func (h *half) reject(looks, kind string) {
	if h.c.asking == nil && !h.c.foreign {
		h.c.foreign, h.c.kind = true, kind
		h.c.say(h, "%s", looks)
	}
}

func (h *half) rejectUnknown() {
	b, _ := h.Peek(min(h.Buffered(), 12))
	if name := looksLike(b); name != "" {
		h.reject(name+", not Raft", "unknown")
		return
	}
	h.reject(fmt.Sprintf("not Raft: it begins with %q", b), "unknown")
}

// readAll reads messages until there is an error.
func (h *half) readAll() error {
	for {
		if err := h.readNext(); err != nil {
			return err
		}
	}
}

func (h *half) readNext() error {
	if h.isAsking() {
		r, err := h.readRequest()
		if err != nil {
			return err
		}
		h.c.ask(r)
		return h.readBody(r)
	}
	a, err := h.readAnswer()
	if err != nil {
		return err
	}
	h.c.answer(h, a)
	return nil
}

// ask prints a request. A snapshot is printed with its answer.
func (c *conversation) ask(r *request) {
	c.requests++
	c.pending = append(c.pending, r)
	if r.name != "InstallSnapshot" && !c.hides(r) {
		c.say(c.asking, "%s", r.describe())
	}
}

// answer prints an answer, and pairs it with the oldest request.
func (c *conversation) answer(h *half, a *answer) {
	c.answers++
	if len(c.pending) == 0 {
		c.unsure = false
		c.say(h, "answer to %s that was not captured  %s", a.guessName(), a.describe())
		return
	}
	r := c.pending[0]
	c.pending = c.pending[1:]
	if c.hides(r) {
		return
	}
	doubt := choose(c.unsure, "?", "")
	if r.name == "InstallSnapshot" {
		c.print(h.now, h.to, h.from, "%s  %s  answered after %s%s", r.describe(), a.describe(), took(h.now.Sub(r.bodyEnd)), doubt)
		return
	}
	c.say(h, "answer to %s  %s  took %s%s", r.title(), a.describe(), took(h.now.Sub(r.began)), doubt)
}
