package door

import "net"

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
	Take   func(*Visit)
	Closed func() // the source was closed, perhaps by the taker, or before it was asked
}

// HandTo makes a listener hand its connections to a taker if it is a Source.
func HandTo(listener net.Listener, to Taker) bool {
	source, ok := listener.(Source)
	return ok && source.HandTo(listener, to)
}
