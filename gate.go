package raftwire

import (
	"cmp"
	"container/list"
	"fmt"
	"net"
	"slices"
	"sync"
)

// gate keeps the number of inbound connections within limits, in total and for
// each host that they come from.
//
// A connection is a stranger until it has brought a whole request. At a limit
// the stranger that came first makes room for whoever comes; only if there is
// none, the newcomer is refused. So a crowd that keeps connections open without
// using them does not lock peers out: a peer's connection brings a request as
// soon as it stands.
type gate struct {
	maxConns, maxPerHost int // negative: no limit

	mu        sync.Mutex // protects following
	conns     int
	perHost   map[string]int
	strangers list.List // of *place, the oldest first
}

// place is what an inbound connection occupies.
type place struct {
	conn *conn
	host string // where it comes from; "" if that is not known

	// protected by gate.mu
	stranger *list.Element // in gate.strangers; nil once it has brought a request
	left     bool
}

func newGate(maxConns, maxPerHost int) *gate {
	return &gate{maxConns: maxConns, maxPerHost: maxPerHost, perHost: make(map[string]int)}
}

// admit gives c a place, or none if it is refused. The caller closes c then, or
// else whoever was expelled, with why.
func (g *gate) admit(c *conn) (p *place, expelled *conn, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p = &place{conn: c, host: hostOf(c.peer)}
	if full := g.full(p.host); full != nil {
		if expelled = g.expel(p.host); expelled == nil {
			return nil, nil, full.amongPeers()
		}
		why = full.makesRoom()
	}
	g.conns++
	g.perHost[p.host]++
	p.stranger = g.strangers.PushBack(p)
	return p, expelled, why
}

// hostOf returns the host in an address, or "" if it has none.
func hostOf(addr ServerAddress) string {
	host, _, err := net.SplitHostPort(string(addr))
	if err != nil {
		return ""
	}
	return host
}

// limit is one on inbound connections that was reached.
type limit struct {
	reason reason
	text   string
	option string
}

// makesRoom is why a stranger goes.
func (l *limit) makesRoom() error {
	return &refusal{reason: l.reason, text: fmt.Sprintf("%s, and this one has brought no request: raise %s if that is what you want", l.text, l.option)}
}

// amongPeers is why a newcomer goes, which may well be a peer: the log says so,
// however many strangers it has said it of.
func (l *limit) amongPeers() error {
	return &refusal{reason: l.reason, detail: "among peers", text: fmt.Sprintf("%s, and all others have brought requests: raise %s if they are peers", l.text, l.option)}
}

// full returns which limit leaves no room for a connection from host, or nil.
// mu is held.
func (g *gate) full(host string) *limit {
	switch {
	case g.hostFull(host):
		return &limit{tooManyConnsOfHost, fmt.Sprintf("more than %d inbound connections from one host", g.maxPerHost), "MaxConnsPerHost"}
	case g.maxConns >= 0 && g.conns >= g.maxConns:
		return &limit{tooManyConns, fmt.Sprintf("more than %d inbound connections", g.maxConns), "MaxConns"}
	}
	return nil
}

// hostFull is called with mu held.
func (g *gate) hostFull(host string) bool {
	return host != "" && g.maxPerHost >= 0 && g.perHost[host] >= g.maxPerHost
}

// expel takes the oldest stranger's place, of those from host if that one is
// full. It returns nil if there is none. mu is held.
func (g *gate) expel(host string) *conn {
	ofHost := g.hostFull(host)
	for e := g.strangers.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*place); !ofHost || p.host == host {
			g.remove(p)
			return p.conn
		}
	}
	return nil
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

// recognize notes that a request has come: p's connection is no stranger.
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

// remove is called with mu held.
func (g *gate) remove(p *place) {
	if p.left {
		return
	}
	p.left = true
	g.endStrangeness(p)
	g.conns--
	if g.perHost[p.host]--; g.perHost[p.host] == 0 {
		delete(g.perHost, p.host)
	}
}
