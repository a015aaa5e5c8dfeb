package door

import (
	"net"

	"github.com/raftwire/raftwire/internal/sock"
)

// Source is a listener of this module. Its connections have passed a door, so nobody
// has to run another accept loop for them.
type Source interface {
	// HandTo makes the source hand each connection to a taker, until it is closed,
	// instead of returning it from Accept. HandTo returns false, and does nothing, if
	// listener is not the source itself but has it embedded: such a listener may have
	// an Accept of its own.
	HandTo(listener net.Listener, to Taker) bool
}

// Taker takes connections from a Source. Its functions do not block.
type Taker struct {
	Take   func(Handover)
	Closed func() // the source was closed, perhaps by the taker, or before it was asked
}

// HandTo makes a listener hand its connections to a taker if it is a Source.
func HandTo(listener net.Listener, to Taker) bool {
	source, ok := listener.(Source)
	return ok && source.HandTo(listener, to)
}

// Handover is a connection that has passed a door.
type Handover struct {
	Conn net.Conn
	Peer string // its remote address; "" if that is to be asked for

	// Identified says that the peer has shown a certificate or the key of a layer.
	Identified bool

	// Verify verifies the peer again if what it was verified by has changed. It may
	// block. Its error has been reported, and is for the caller to close Conn with.
	// nil means that there is nothing to verify.
	Verify func() error

	// Ended is called when Conn has been closed. It may be nil.
	Ended func()
}

// VerifyAgain calls Verify.
func (h *Handover) VerifyAgain() error {
	if h.Verify == nil {
		return nil
	}
	return h.Verify()
}

// Close closes the connection.
func (h *Handover) Close() {
	sock.Close(h.Conn)
	h.End()
}

// End calls Ended.
func (h *Handover) End() {
	if h.Ended != nil {
		h.Ended()
	}
}
