package door

import (
	"container/list"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// Door keeps inbound connections within limits, and gives each a goroutine.
//
// A connection is unidentified until it has shown what it is: by a certificate, the
// key of a Mux or a whole request. At a limit an unidentified connection is evicted
// for whoever comes, the oldest of the host that has most of them; only if there is
// none, the newcomer is refused. So a crowd that keeps connections open without using
// them does not lock peers out: a peer's connection brings a request as soon as it
// stands.
type Door struct {
	// MaxConns limits connections, MaxPerHost those from one host, and
	// MaxUnidentified those that are unidentified. 0 and less is no limit.
	MaxConns, MaxPerHost, MaxUnidentified int
	Crowded                               error // what a connection is evicted with at MaxUnidentified

	Timeout time.Duration // to be identified; 0 is no limit
	Late    error         // what a connection ends with that was not

	Tasks    *tasks.Group // runs the goroutines
	Refusals *Refusals    // counts who does not get one

	closed  atomic.Pointer[error]
	running atomic.Int64 // goroutines of visits, with those that have no place any more

	mu           sync.Mutex // protects following
	visits       map[*Visit]struct{}
	hosts        map[string]*host
	unidentified int
	arrivals     int // so far
}

// host is where connections come from; that of the name "" is not known.
type host struct {
	name         string
	visits       int
	unidentified list.List // of *Visit, the oldest first
}

// maxLeaving is how many connections that have lost their place, or got none, may
// have a goroutine still: one that is told to hooks and the log, or in a method of
// the connection that does not return although that is closed.
const maxLeaving = 1024

// Visit is an inbound connection at a door. Each layer that it passes has a door, and
// makes a visit to the next one.
type Visit struct {
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

	// Closer closes the connection for whoever owns it; nil if nobody else needs to
	// know why it ends.
	Closer Closer

	door     *Door
	arrival  int // how many came before, and it
	timer    *time.Timer
	deadline time.Time
	why      atomic.Pointer[error] // why it was closed

	// protected by Door.mu
	host  *host         // nil without a place
	place *list.Element // in host.unidentified; nil if it is identified
}

// VerifyAgain calls Verify.
func (v *Visit) VerifyAgain() error {
	if v.Verify == nil {
		return nil
	}
	return v.Verify()
}

// Close closes a connection that has no place.
func (v *Visit) Close() {
	sock.Close(v.Conn)
	v.end()
}

func (v *Visit) end() {
	if v.Ended != nil {
		v.Ended()
	}
}

// Closer is a connection that ends with a reason. CloseAside waits for nothing: it
// calls closed when the connection was closed.
type Closer interface {
	CloseAside(why error, closed func())
}

// Admit gives v a goroutine, which runs handle. If there is no room for v, or none any
// more, it is closed first: handle says so, and calls Leave as for any other. Only if
// too many goroutines have not ended, or the tasks are closed, v is closed without.
// The accept loop calls Admit: it does not block.
func (d *Door) Admit(v *Visit, handle func()) {
	v.door = d
	if v.Peer == "" && sock.IsSocket(v.Conn) {
		v.Peer = sock.RemoteAddress(v.Conn)
	}
	evicted, why, ok := d.admit(v)
	if evicted != nil {
		evicted.CloseAside(why, func() {})
	}
	if !ok || !d.Tasks.Start(func() { d.run(v, handle) }) {
		v.Close()
	}
}

// admit finds a place for v. evicted has to be closed with why, and may be v itself.
// It returns false if v must not have a goroutine.
func (d *Door) admit(v *Visit) (evicted *Visit, why error, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if most := max(d.MaxConns, d.MaxUnidentified); most > 0 && d.running.Load() >= int64(most+maxLeaving) {
		d.Refusals.Add(TooManyConns)
		return nil, nil, false
	}
	d.running.Add(1)
	d.arrivals++
	v.arrival = d.arrivals
	if closed := d.closed.Load(); closed != nil {
		return v, *closed, true
	}
	isFull := d.MaxConns > 0 && len(d.visits) >= d.MaxConns
	if isFull && d.unidentified == 0 {
		return v, d.full().amongPeers(), true
	}
	if d.visits == nil {
		d.visits, d.hosts = make(map[*Visit]struct{}), make(map[string]*host)
	}
	d.visits[v] = struct{}{}
	if evicted, why = d.enter(v, hostName(v.Peer)); evicted != nil {
		return evicted, why, true
	}
	switch {
	case isFull:
		why = d.full().makesRoom()
	case d.MaxUnidentified > 0 && d.unidentified > d.MaxUnidentified:
		why = d.Crowded
	default:
		return nil, nil, true
	}
	evicted = d.oldestOfLargest()
	d.remove(evicted)
	return evicted, why, true
}

// hostName returns what connections from an address are counted to. The addresses of
// an IPv6 network of 64 bits are one host's: it may use any of them.
func hostName(address string) string {
	name := HostOf(address)
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return name
	}
	if ip = ip.Unmap(); ip.Is4() || ip.IsLoopback() {
		return ip.String()
	}
	network, _ := ip.Prefix(64)
	return network.String()
}

// oldestOfLargest returns the oldest unidentified visit from the host that has most.
// Those that are not located may be from any host. mu is held.
func (d *Door) oldestOfLargest() (oldest *Visit) {
	most := 0
	for name, h := range d.hosts {
		count := h.unidentified.Len()
		if name == "" || count == 0 || count < most {
			continue
		}
		if first := h.oldest(); count > most || first.arrival < oldest.arrival {
			most, oldest = count, first
		}
	}
	if h := d.hosts[""]; h != nil && h.unidentified.Len() > 0 && (oldest == nil || h.oldest().arrival < oldest.arrival) {
		return h.oldest()
	}
	return oldest
}

func (h *host) oldest() *Visit { return h.unidentified.Front().Value.(*Visit) }

// enter counts v to a host. evicted, perhaps v, has lost its place for that. mu is
// held.
func (d *Door) enter(v *Visit, name string) (evicted *Visit, why error) {
	h := d.hosts[name]
	if h == nil {
		h = &host{name: name}
		d.hosts[name] = h
	}
	v.host = h
	h.visits++
	if !v.Identified {
		v.place = h.add(v)
		d.unidentified++
	}
	if name == "" || d.MaxPerHost <= 0 || h.visits <= d.MaxPerHost {
		return nil, nil
	}
	full := limit{TooManyConnsOfHost, "more than %d inbound connections from one host", d.MaxPerHost, "MaxConnsPerHost"}
	if others := h.unidentified.Len(); others == 0 || others == 1 && v.place != nil {
		evicted, why = v, full.amongPeers()
	} else {
		evicted, why = h.oldest(), full.makesRoom()
	}
	d.remove(evicted)
	return evicted, why
}

// add puts v where it belongs by the order of arrival: visits are located in any.
func (h *host) add(v *Visit) *list.Element {
	at := h.unidentified.Back()
	for at != nil && at.Value.(*Visit).arrival > v.arrival {
		at = at.Prev()
	}
	if at == nil {
		return h.unidentified.PushFront(v)
	}
	return h.unidentified.InsertAfter(v, at)
}

func (d *Door) full() limit {
	return limit{TooManyConns, "more than %d inbound connections", d.MaxConns, "MaxConns"}
}

// limit is one of a transport's that was reached.
type limit struct {
	reason Reason
	format string
	max    int
	option string
}

// makesRoom is why an unidentified connection goes.
func (l limit) makesRoom() error {
	return Refuse(l.reason, l.format+", and this one has brought no request: raise %s if that is what you want", l.max, l.option)
}

// amongPeers is why a newcomer goes, which may well be a peer: the log says so,
// however many unidentified connections it has said it of.
func (l limit) amongPeers() error {
	refusal := Refuse(l.reason, l.format+", and all others have brought requests: raise %s if they are peers", l.max, l.option)
	refusal.Detail = "among peers"
	return refusal
}

// run is the goroutine of v. It asks for the address first if that may block: the
// connections of some listeners read it from a header.
func (d *Door) run(v *Visit, handle func()) {
	defer d.running.Add(-1)
	if d.Timeout > 0 {
		v.deadline = time.Now().Add(d.Timeout)
		v.timer = time.AfterFunc(d.Timeout, func() { v.CloseAside(d.Late, func() {}) })
		defer v.StopTimer()
	}
	if v.Peer == "" {
		v.Peer = sock.RemoteAddress(v.Conn)
		if evicted, why := d.locate(v); evicted != nil {
			evicted.CloseAside(why, func() {})
		}
	}
	handle()
}

// locate counts v to its host.
func (d *Door) locate(v *Visit) (evicted *Visit, why error) {
	name := hostName(v.Peer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.host == nil || name == "" {
		return nil, nil
	}
	d.leaveHost(v)
	return d.enter(v, name)
}

// StopTimer ends the time that the door gives v to be identified, for an owner who
// ends it himself. It returns when that time is over; zero is never.
func (v *Visit) StopTimer() (deadline time.Time) {
	if v.timer != nil {
		v.timer.Stop()
		v.timer = nil // most connections are idle: they keep little
	}
	return v.deadline
}

// Identify notes that v is identified. It returns why v was closed, if it was.
func (v *Visit) Identify() error {
	v.StopTimer()
	v.door.mu.Lock()
	defer v.door.mu.Unlock()
	v.Identified = true
	v.door.endUnidentified(v)
	return v.Why()
}

// endUnidentified is called with mu held.
func (d *Door) endUnidentified(v *Visit) {
	if v.place != nil {
		v.host.unidentified.Remove(v.place)
		v.place = nil
		d.unidentified--
	}
}

// Why returns why v was closed, or nil.
func (v *Visit) Why() error {
	if why := v.why.Load(); why != nil {
		return *why
	}
	return nil
}

// CloseAside implements [Closer].
func (v *Visit) CloseAside(why error, closed func()) {
	v.why.CompareAndSwap(nil, &why)
	if v.Closer != nil {
		v.Closer.CloseAside(why, closed)
		return
	}
	end := func() {
		sock.Close(v.Conn)
		closed()
	}
	if !v.door.Tasks.Start(end) {
		end()
	}
}

// Leave frees v's place, unless it was evicted. It is called once, when the connection
// was closed.
func (v *Visit) Leave() {
	v.door.mu.Lock()
	v.door.remove(v)
	v.door.mu.Unlock()
	v.end()
}

// remove is called with mu held.
func (d *Door) remove(v *Visit) {
	if v.host != nil {
		d.leaveHost(v)
		delete(d.visits, v)
	}
}

// leaveHost is called with mu held.
func (d *Door) leaveHost(v *Visit) {
	d.endUnidentified(v)
	if v.host.visits--; v.host.visits == 0 {
		delete(d.hosts, v.host.name)
	}
	v.host = nil
}

// Visits returns those who have a place.
func (d *Door) Visits() []*Visit {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.visits))
}

// Hosts returns how many visits come from each host.
func (d *Door) Hosts() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := make(map[string]int, len(d.hosts))
	for name, h := range d.hosts {
		counts[name] = h.visits
	}
	return counts
}

// Close makes the door close whoever comes from now on, with why.
func (d *Door) Close(why error) { d.closed.Store(&why) }

// CloseAll closes connections, each on a goroutine of its own so that none holds up
// the others. It waits until they are closed, for limit at most.
func CloseAll[C Closer](all []C, why error, limit time.Duration) {
	closed := make(chan struct{}, len(all))
	for _, c := range all {
		c.CloseAside(why, func() { closed <- struct{}{} })
	}
	if limit <= 0 {
		return
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	for range all {
		select {
		case <-closed:
		case <-patience.C:
			return
		}
	}
}
