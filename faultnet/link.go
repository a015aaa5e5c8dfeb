package faultnet

import "time"

// Link carries bytes from one host to another, in one direction. Its methods
// do not block.
type Link struct {
	net      *Network
	from, to *Host

	// protected by net.mu
	cut     bool
	latency time.Duration
	fuse    fuse
}

// Cut makes the link a black hole: what is sent is held until [Link.Heal], and
// nobody is told. Writers go on until the connection's buffer is full, dials
// wait. With one direction cut, requests may arrive while answers do not.
func (l *Link) Cut() {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.cut = true
}

// Heal ends Cut. What was held arrives, in order, after the link's latency.
func (l *Link) Heal() {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.cut = false
	l.reopen()
}

// SetLatency sets how long a byte travels, for what is sent from now on. As
// with TCP, a connection moves at most one buffer in a round trip.
func (l *Link) SetLatency(d time.Duration) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.latency = d
}

// ResetAfter lets n more bytes over the link and then breaks, once, the
// connection whose write would exceed them: the bytes before arrive, both ends
// are reset. A negative n ends it.
func (l *Link) ResetAfter(n int64) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.fuse.light(n)
}

// blocked reports whether nothing gets through.
func (l *Link) blocked() bool {
	return l.cut || l.from.state == hostOff || l.to.state == hostOff
}

// reopen sends what was held on its way again. It is called under mu.
func (l *Link) reopen() {
	if l.blocked() {
		return
	}
	// Either end may be closed already, and then it is not among its host's:
	// a closed sender's last bytes travel, a closed receiver answers with a reset.
	for _, c := range l.from.ordered() {
		if c.peer.host == l.to {
			c.peer.resend(l.latency)
		}
	}
	for _, c := range l.to.ordered() {
		if c.peer.host == l.from {
			c.resend(l.latency)
		}
	}
	l.net.changed.Broadcast()
}

// packet is a step in the life of a connection on its way to the other end.
type packet struct {
	kind packetKind
	data []byte
	read int // bytes that the other end has read, for packetAck
	due  time.Time
}

type packetKind uint8

const (
	packetData packetKind = iota
	packetAck
	packetFin
	packetReset
)

// fuse counts bytes down to a reset.
type fuse struct {
	lit  bool
	left int64
}

func (f *fuse) light(n int64) { f.lit, f.left = n >= 0, n }

// burn takes n bytes off and returns how many of them get through before the
// fuse blows.
func (f *fuse) burn(n int) (through int, blown bool) {
	if !f.lit {
		return n, false
	}
	if int64(n) <= f.left {
		f.left -= int64(n)
		return n, false
	}
	f.lit = false
	return int(f.left), true
}
