package raftwire

import (
	"cmp"
	"container/list"
	"fmt"
	"slices"
	"sync"

	"github.com/raftwire/raftwire/internal/door"
)

// gate keeps the number of inbound connections within limits, in total and for
// each host that they come from.
//
// A connection is a stranger until it has brought a whole request, or its layer has
// identified the peer. At a limit
// the stranger that came first makes room for whoever comes; only if there is
// none, the newcomer is refused. So a crowd that keeps connections open without
// using them does not lock peers out: a peer's connection brings a request as
// soon as it stands.
//
// A connection is counted in total before it has a goroutine, and to its host when
// its address is known, which it may have to wait for.
type gate struct {
	maxConns, maxPerHost int // negative: no limit

	mu        sync.Mutex // protects following
	conns     int
	running   int // goroutines of connections, with those that have no place any more
	perHost   map[string]int
	strangers list.List // of *place, the oldest first
}

// place is what an inbound connection occupies.
type place struct {
	conn *netConn

	// protected by gate.mu
	host     string        // where it comes from; "" if that is not known
	stranger *list.Element // in gate.strangers; nil once it has brought a request
	left     bool
}

func newGate(maxConns, maxPerHost int) *gate {
	return &gate{maxConns: maxConns, maxPerHost: maxPerHost, perHost: make(map[string]int)}
}

// maxLeaving is how many connections that have lost their place, or got none, may
// have a goroutine still: one that is told to hooks and the log, or in a method of
// the connection that does not return although that is closed.
const maxLeaving = 1024

// admit counts c in total. expelled is a connection that the caller closes with why.
// If only why is returned, c is refused, and its goroutine says so. If there is
// nothing, too many goroutines have not ended: c must not have one. It does not
// block.
func (g *gate) admit(c *netConn) (p *place, expelled *netConn, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.maxConns >= 0 && g.running >= g.maxConns+maxLeaving {
		return nil, nil, nil
	}
	g.running++
	p = &place{conn: c}
	if g.maxConns >= 0 && g.conns >= g.maxConns {
		full := &limit{door.TooManyConns, fmt.Sprintf("more than %d inbound connections", g.maxConns), "MaxConns"}
		oldest := g.strangers.Front()
		if oldest == nil {
			p.left = true
			return p, nil, full.amongPeers()
		}
		expelled, why = oldest.Value.(*place).conn, full.makesRoom()
		g.remove(oldest.Value.(*place))
	}
	g.conns++
	g.perHost[p.host]++
	p.stranger = g.strangers.PushBack(p)
	return p, expelled, why
}

// locate counts p to its host. expelled is a connection that has to go then, which
// may be p's own, with why.
func (g *gate) locate(p *place, host string) (expelled *netConn, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.left || host == "" {
		return nil, nil
	}
	g.leaveHost(p)
	p.host = host
	g.perHost[host]++
	if g.maxPerHost < 0 || g.perHost[host] <= g.maxPerHost {
		return nil, nil
	}
	full := &limit{door.TooManyConnsOfHost, fmt.Sprintf("more than %d inbound connections from one host", g.maxPerHost), "MaxConnsPerHost"}
	oldest, others := g.oldestOf(host)
	why = full.makesRoom()
	if oldest == p && !others {
		why = full.amongPeers()
	}
	g.remove(oldest)
	return oldest.conn, why
}

// oldestOf returns the oldest stranger from host, where there is one, and whether
// there are others. mu is held.
func (g *gate) oldestOf(host string) (oldest *place, others bool) {
	for e := g.strangers.Front(); e != nil; e = e.Next() {
		p := e.Value.(*place)
		switch {
		case p.host != host:
		case oldest != nil:
			return oldest, true
		default:
			oldest = p
		}
	}
	return oldest, false
}

// limit is one on inbound connections that was reached.
type limit struct {
	reason door.Reason
	text   string
	option string
}

// makesRoom is why a stranger goes.
func (l *limit) makesRoom() error {
	return door.Refuse(l.reason, "%s, and this one has brought no request: raise %s if that is what you want", l.text, l.option)
}

// amongPeers is why a newcomer goes, which may well be a peer: the log says so,
// however many strangers it has said it of.
func (l *limit) amongPeers() error {
	return &door.Refusal{Reason: l.reason, Detail: "among peers", Err: fmt.Errorf("%s, and all others have brought requests: raise %s if they are peers", l.text, l.option)}
}

// stats returns how many connections come from each host, in order.
func (g *gate) stats() []HostStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	hosts := make([]HostStats, 0, len(g.perHost))
	for host, conns := range g.perHost {
		hosts = append(hosts, HostStats{host, conns})
	}
	slices.SortFunc(hosts, func(a, b HostStats) int { return cmp.Compare(a.Host, b.Host) })
	return hosts
}

// recognize notes that p's connection is no stranger.
func (g *gate) recognize(p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endStrangeness(p)
}

// endStrangeness is called with mu held.
func (g *gate) endStrangeness(p *place) {
	if p.stranger != nil {
		g.strangers.Remove(p.stranger)
		p.stranger = nil
	}
}

// leave frees a place, unless its connection was expelled from it.
func (g *gate) leave(p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(p)
}

// end notes that the goroutine of p's connection ends.
func (g *gate) end(p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(p)
	g.running--
}

// remove is called with mu held.
func (g *gate) remove(p *place) {
	if p.left {
		return
	}
	p.left = true
	g.endStrangeness(p)
	g.conns--
	g.leaveHost(p)
}

// leaveHost is called with mu held.
func (g *gate) leaveHost(p *place) {
	if g.perHost[p.host]--; g.perHost[p.host] == 0 {
		delete(g.perHost, p.host)
	}
}
