package raftwire

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever has gone leaves nothing behind: hosts are as many as an attacker
// likes.
func TestTheGateForgetsWhoHasGone(t *testing.T) {
	g := newGate(10, 1)
	for i := range 1000 {
		p, _, _ := g.admit(new(netConn))
		_, why := g.locate(p, fmt.Sprintf("host-%d", i))
		require.NoError(t, why)
		if i%4 == 0 {
			g.recognize(p)
		}
		if i%2 == 0 {
			g.leave(p)
		} // the others are expelled, but for the last ten
	}
	require.Equal(t, 10, g.conns)
	require.Len(t, g.perHost, 10)
	for e := g.strangers.Front(); e != nil; e = g.strangers.Front() {
		g.leave(e.Value.(*place))
		g.leave(e.Value.(*place))
	}
	require.Zero(t, g.conns)
	require.Empty(t, g.perHost)
}

// Hosts are told apart by what stands before the port; where there is none,
// only the limit in total holds.
func TestTheGateTellsHostsApart(t *testing.T) {
	for addr, host := range map[ServerAddress]string{
		"10.0.0.1:8300":       "10.0.0.1",
		"[fe80::1%eth0]:8300": "fe80::1%eth0",
		"node:8300":           "node",
		"@":                   "",
		"/run/raft.sock":      "",
		"unknown":             "",
	} {
		require.Equal(t, host, hostOf(addr))
	}
	g := newGate(3, 1)
	for range 3 {
		_, expelled, _ := g.admit(&netConn{peer: "@"})
		require.Nil(t, expelled)
	}
	_, expelled, why := g.admit(&netConn{peer: "@"})
	require.NotNil(t, expelled)
	require.ErrorContains(t, why, "more than 3 inbound connections")
}
