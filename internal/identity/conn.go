package identity

import (
	"fmt"
	"slices"

	"github.com/raftwire/raftwire/internal/msgpack"
)

// Dialled is what a node says and hears on a connection that it has dialled. A nil one
// says nothing, and takes any answer.
type Dialled struct {
	self *Self

	// Set by Introduce.
	introduced bool
	id         string // of the server that the connection was used for last
	meant      string // id, or "" if that claims nothing

	says   bool  // the next request brings the field; owned by the sender
	awaits bool  // the next answer is to bring it; owned by the reader, as the following
	heard  hello // in the answer that is read
}

// Dial returns what self says on a connection whose answers are read by in; nil if self
// is nil. Without in, see Meet.
func Dial(self *Self, in *msgpack.Reader) *Dialled {
	if self == nil {
		return nil
	}
	d := &Dialled{self: self}
	if in == nil {
		return d
	}
	in.SetUnknown(func(name string) bool { return d.heard.readField(name, in) })
	return d
}

// Introduce makes the next request say who sends it, and that it is for the server with
// the given ID, unless that was said on the connection before. An ID that is empty, or
// one of the server's addresses, claims nothing. No answer may be awaited meanwhile.
func (d *Dialled) Introduce(id string, addresses ...string) {
	if d == nil || d.introduced && d.id == id {
		return
	}
	d.introduced, d.id, d.meant = true, id, id
	if slices.Contains(addresses, id) {
		d.meant = ""
	}
	d.says, d.awaits = true, true
}

// Says reports whether the next request brings the field.
func (d *Dialled) Says() bool { return d != nil && d.says }

// CheckRequest returns why the next request must not be sent. sender is what its header
// gives as its sender, which may be one of this node's addresses.
func (d *Dialled) CheckRequest(sender []byte, addresses ...string) error {
	if len(d.meant) > MaxName {
		return fmt.Errorf("nothing was sent: the server's ID has %d bytes, and Identity takes at most %d", len(d.meant), MaxName)
	}
	return d.self.CheckSender(sender, addresses...)
}

// AddTo adds the field to a request, the map that begins at dst[at].
func (d *Dialled) AddTo(dst []byte, at int) []byte {
	d.says = false
	h := d.self.hello(d.meant, Allowed)
	return h.addTo(dst, at)
}

// CheckAnswer returns why the peer that has sent the answer which was read is not the
// one to talk to, or that it refuses to. Then the connection has to end.
func (d *Dialled) CheckAnswer() error {
	if d == nil || !d.awaits && !d.heard.said {
		return nil
	}
	return d.checkIntroduction()
}

func (d *Dialled) checkIntroduction() error {
	h := d.heard
	d.heard, d.awaits = hello{}, false
	err := h.refused.err()
	if err == nil {
		err = d.self.check(&h, d.meant, h.node).err()
	}
	if err == nil {
		return nil
	}
	verb := "is"
	if h.refused != Allowed {
		verb = "refuses this node, and is"
	}
	return fmt.Errorf("%w: the peer %s %v; this is %v%s", err, verb, &h, d.self, andMeans(d.meant))
}

// Accepted is what a node says and hears on a connection that it has accepted. A nil one
// says nothing, and takes any request.
type Accepted struct {
	self    *Self
	checked bool  // a request came before
	heard   hello // in the request that was read
}

// Accept returns what self says on a connection whose requests are read by in; nil if
// self is nil.
func Accept(self *Self, in *msgpack.Reader) *Accepted {
	if self == nil {
		return nil
	}
	a := &Accepted{self: self}
	in.SetUnknown(func(name string) bool { return a.heard.readField(name, in) })
	return a
}

// Refusal is why a request is refused. Its text goes to the peer.
type Refusal struct {
	Code Code
	err  error
}

// Error returns what was wrong.
func (r *Refusal) Error() string { return r.err.Error() }

// Unwrap returns what was wrong.
func (r *Refusal) Unwrap() error { return r.err }

func (r *Refusal) code() Code {
	if r == nil {
		return Allowed
	}
	return r.Code
}

// CheckRequest returns why the request that was read is to be refused, or nil. said
// reports whether its answer brings the field.
func (a *Accepted) CheckRequest() (said bool, refusal *Refusal) {
	if a == nil || a.checked && !a.heard.said {
		return false, nil
	}
	return a.checkIntroduction()
}

func (a *Accepted) checkIntroduction() (said bool, refusal *Refusal) {
	h := a.heard
	a.heard, a.checked = hello{}, true
	code := a.self.check(&h, h.meant, a.self.Node)
	if code == Allowed {
		return h.said, nil
	}
	return h.said, &Refusal{Code: code, err: a.explain(code, &h)}
}

func (a *Accepted) explain(code Code, h *hello) error {
	if code == NoIdentity {
		return fmt.Errorf("%w: this is %v, and it requires that peers say who they are: set Identity at the peer, or end Require here", ErrNoIdentity, a.self)
	}
	return fmt.Errorf("%w: the peer is %v%s; this is %v", code.err(), h, andMeans(h.meant), a.self)
}

// AddTo adds the field to an answer, the map or nil that begins at dst[at].
func (a *Accepted) AddTo(dst []byte, at int, refused Code) []byte {
	h := a.self.hello("", refused)
	return h.addTo(dst, at)
}

// Meet has both ends of a connection in memory check each other, as a request and its
// answer do. refusal is why the request is refused, and bad why the answer is not taken.
func Meet(d *Dialled, receiver *Self) (refusal *Refusal, bad error) {
	if receiver == nil {
		return nil, d.CheckAnswer()
	}
	a := Accepted{self: receiver}
	if d != nil {
		a.heard = d.self.hello(d.meant, Allowed)
	}
	_, refusal = a.CheckRequest()
	if d != nil {
		d.heard = receiver.hello("", refusal.code())
	}
	return refusal, d.CheckAnswer()
}
