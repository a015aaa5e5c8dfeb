package door

import "net"

// Source is a stream layer that hands its connections on, instead of being accepted
// from: they have passed an accept loop, and need no other.
type Source interface {
	// HandTo makes the layer call take for each connection from now on. take does not
	// block. After stop, connections wait for Accept again.
	HandTo(take func(Handover)) (stop func())
}

// Handover is a connection that somebody has accepted.
type Handover struct {
	Conn net.Conn
	Peer string // its remote address; "" if that is to be asked for

	// Identified says that the peer has said who it is, or what it wants.
	Identified bool

	// Verify asks once more whether the peer is still let in. It may block. The
	// layer has reported its error. It may be nil.
	Verify func() error

	// Ended is called when the connection was closed, perhaps more than once. It may
	// be nil.
	Ended func()
}
