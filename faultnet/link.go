package faultnet

import (
	"bytes"
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/raftwire/raftwire/internal/faults"
)

// Link carries bytes from one host to another, in one direction. Its methods
// do not block.
type Link struct {
	net      *Network
	from, to *Host

	// protected by net.mu
	random    *rand.Rand
	cut       bool
	latency   time.Duration
	jitter    time.Duration
	bandwidth int64     // bytes a second, or 0
	busy      time.Time // what was sent so far takes until then to leave
	slice     int64     // or 0
	corrupt   int64     // one bit in about so many bytes, or 0
	intact    int64     // bytes before the next such bit
	fuse      fuse
}

// Cut makes the link hold everything that is sent, until [Link.Heal], and nobody is
// told. Writers continue until the connection's buffer is full; dials wait. If one
// direction is cut, requests may arrive while answers do not.
func (l *Link) Cut() { l.apply(Cut) }

// Heal ends Cut. What was held arrives, in order, after the link's latency.
func (l *Link) Heal() { l.apply(HealLink) }

// Drop loses bytes that are on the way over the link, and all bytes that its present
// connections will send over it: nobody is told, and nothing ends it. Close the other
// end, and the connection is half-open. Connections that are dialled later are whole.
func (l *Link) Drop() { l.apply(Drop) }

// SetLatency sets how long bytes travel that are sent from now on. As with TCP, a
// connection moves at most one buffer in a round trip.
func (l *Link) SetLatency(d time.Duration) { l.applyTime(Latency, d) }

// SetJitter adds a random time of at most d to the latency of each piece that
// is sent from now on. The order within a connection stays.
func (l *Link) SetJitter(d time.Duration) { l.applyTime(Jitter, d) }

// SetBandwidth sets how many bytes a second leave from now on, over all connections;
// 0 or less means no limit. Bytes arrive steadily, not all at the end.
func (l *Link) SetBandwidth(bytes int64) { l.applyBytes(Bandwidth, bytes) }

// Slice makes each Read at the end of the link return a random number of bytes, at
// most limit, as if the bytes had been written in small pieces. 0 or less ends it.
func (l *Link) Slice(limit int) { l.applyBytes(Slice, int64(limit)) }

// Corrupt flips bits of what is sent from now on, at random places: about one bit in
// the given number of bytes. 0 or less ends it.
func (l *Link) Corrupt(bytes int64) { l.applyBytes(Corrupt, bytes) }

// ResetAfter lets n more bytes over the link. Then it breaks, once, the connection
// whose write would exceed them: the bytes before arrive, and both ends are reset. A
// negative n ends it.
func (l *Link) ResetAfter(n int64) { l.applyBytes(ResetAfter, n) }

func (l *Link) apply(a Action) { l.net.must(Fault{Action: a, Hosts: l.ends()}) }

func (l *Link) applyTime(a Action, d time.Duration) {
	l.net.must(Fault{Action: a, Hosts: l.ends(), Time: d})
}

func (l *Link) applyBytes(a Action, n int64) {
	l.net.must(Fault{Action: a, Hosts: l.ends(), Bytes: n})
}

func (l *Link) ends() []string { return []string{l.from.name, l.to.name} }

// What follows is called with net.mu held.

// blocked reports whether nothing gets through.
func (l *Link) blocked() bool {
	return l.cut || l.from.state == hostOff || l.to.state == hostOff
}

// instant reports whether what is sent is there at once.
func (l *Link) instant() bool {
	return l.latency <= 0 && l.jitter <= 0 && l.bandwidth <= 0 && !l.blocked()
}

func (l *Link) setCut(cut bool) {
	if l.cut != cut {
		l.cut = cut
		l.reopen()
	}
}

// reopen sends what was held on its way again.
func (l *Link) reopen() {
	l.busy = time.Time{}
	for _, c := range l.senders() {
		c.peer.resend()
	}
	l.net.changed.Broadcast()
}

// senders returns the sending ends of the link's connections, in the order of
// their making. Either end may be closed already, and then it is not among its
// host's: a closed sender's last bytes travel, a closed receiver answers with
// a reset.
func (l *Link) senders() []*Conn {
	senders := make(map[*Conn]struct{})
	for c := range l.from.conns {
		if c.out == l {
			senders[c] = struct{}{}
		}
	}
	for c := range l.to.conns {
		if c.peer.out == l {
			senders[c.peer] = struct{}{}
		}
	}
	return ordered(senders)
}

func (l *Link) drop() {
	for _, c := range l.senders() {
		c.drop()
	}
}

// due is when a piece arrives that is sent now, after those before it.
func (l *Link) due(bytes int) time.Time {
	leaves := time.Now()
	if l.bandwidth > 0 {
		if leaves.Before(l.busy) {
			leaves = l.busy
		}
		leaves = leaves.Add(time.Duration(float64(bytes) / float64(l.bandwidth) * float64(time.Second)))
		l.busy = leaves
	}
	return leaves.Add(faults.Delay(l.latency, l.jitter, l.random))
}

// pieces cuts data into what leaves within a hundredth of a second, or single
// bytes, so that a slow link makes progress.
func (l *Link) pieces(data []byte) [][]byte {
	if l.bandwidth <= 0 || len(data) == 0 {
		return [][]byte{data}
	}
	piece := min(max(l.bandwidth/100, 1), int64(len(data)))
	return slices.Collect(slices.Chunk(data, int(piece)))
}

// sliced returns how many of n bytes a Read at the end of the link returns.
func (l *Link) sliced(n int) int {
	if l.slice <= 0 {
		return n
	}
	return int(min(int64(n), 1+l.random.Int64N(l.slice)))
}

func (l *Link) setCorrupt(bytes int64) {
	l.corrupt = bytes
	l.choosePlace()
}

func (l *Link) choosePlace() {
	if l.corrupt > 0 {
		l.intact = l.random.Int64N(2 * l.corrupt)
	}
}

// spoil returns data, or a copy with some bits flipped.
func (l *Link) spoil(data []byte) []byte {
	if l.corrupt <= 0 {
		return data
	}
	if l.intact < int64(len(data)) {
		data = bytes.Clone(data)
	}
	rest := data
	for l.intact < int64(len(rest)) {
		rest[l.intact] ^= 1 << l.random.IntN(8)
		rest = rest[l.intact+1:]
		l.choosePlace()
	}
	l.intact -= int64(len(rest))
	return data
}

// ordered returns connections in the order of their making, so that a fault
// treats them in the same order each time.
func ordered(conns map[*Conn]struct{}) []*Conn {
	return slices.SortedFunc(maps.Keys(conns), func(a, b *Conn) int { return cmp.Compare(a.number, b.number) })
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
