package raftwire

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// poolOf returns a pool with an idle connection to each of some addresses; each look
// at one is counted, and finds it as alive says.
func poolOf(addresses int, looks *int, alive *bool) (p *pool, closers *tasks.Group) {
	p, closers = &pool{maxPool: 3}, new(tasks.Group)
	for i := range addresses {
		raw, _ := net.Pipe()
		addr := ServerAddress(fmt.Sprint("peer-", i))
		p.connPoolLock.Lock()
		home, _ := p.peer(addr)
		c := newConn(raw, addr, 0, closers, new(Hooks), &home.traffic, false)
		c.home = home
		c.Peek = func() bool { *looks++; return *alive }
		err := p.addConn(c, 0)
		p.connPoolLock.Unlock()
		if err != nil || !p.push(c) {
			panic("the pool refuses a connection")
		}
	}
	return p, closers
}

// However many peers there are, a new one costs a look at a few connections. All come
// to their turn.
func TestPool_LooksAtFewConnectionsForANewAddress(t *testing.T) {
	const peers = 4000
	looks, alive := 0, true
	p, closers := poolOf(peers, &looks, &alive)
	for range 100 {
		looks = 0
		p.sweep()
		require.LessOrEqual(t, looks, sweepPeers)
	}
	alive = false
	require.NoError(t, closers.AwaitEnd()) // from now on connections end within sweep, in order
	for range peers / sweepPeers {
		p.sweep()
	}
	require.Empty(t, p.open)
	require.Empty(t, p.connPool)
	require.Zero(t, p.busy.Len())
	require.Len(t, p.peers, maxPeersKnown)
	require.NotNil(t, p.peers["peer-3999"], "those that were left last are remembered")
}

// What has a new address is found without a look at the others.
func TestPool_RetiresTheConnectionsOfOneAddress(t *testing.T) {
	looks, alive := 0, true
	p, _ := poolOf(100, &looks, &alive)
	inUse := p.pop("peer-7")
	p.retire("peer-7")
	require.True(t, inUse.retired)
	require.False(t, p.push(inUse))
	p.discard(inUse, errPeerGone)
	require.Zero(t, looks)
	require.Len(t, p.open, 99)
}

type oneAddress struct{}

func (oneAddress) ServerAddr(ServerID) (ServerAddress, error) { return "b", nil }

// What is known of servers is bounded, and so is what a failing call looks at.
func TestAddressBook_ForgetsServers(t *testing.T) {
	b := &addressBook{provider: oneAddress{}, logger: hclog.NewNullLogger(), tasks: new(tasks.Group), left: func(ServerAddress) {}}
	ask := func(id ServerID, addr ServerAddress) {
		b.mu.Lock()
		e := b.entry(id)
		e.asking = make(chan struct{})
		b.mu.Unlock()
		b.note(e, addr, nil)
	}
	for i := range 100_000 {
		ask(ServerID(fmt.Sprint("server-", i)), ServerAddress(fmt.Sprint("address-", i%50_000)))
	}
	require.Len(t, b.entries, maxServersKnown)
	require.Equal(t, maxServersKnown, b.recent.Len())
	require.Len(t, b.places, maxServersKnown)
	for i := range 2 * maxServersKnown {
		ask(ServerID(fmt.Sprint("server-", i)), "b")
	}
	require.Len(t, b.places, 1)
	require.Equal(t, addressPlace{servers: maxServersKnown, confirmed: maxServersKnown}, *b.places["b"])
	b.doubt("b")
	for _, e := range b.entries {
		require.GreaterOrEqual(t, e.age(), addressFor)
	}
	ask("server-2000", "b")
	require.Less(t, b.entries["server-2000"].age(), time.Duration(0))
	ask("server-2000", "elsewhere")
	require.Equal(t, maxServersKnown-1, b.places["b"].servers)
}

// A call that fails looks at none of the servers that are known, however many they are.
// So they may as well be out of its sight.
func TestAddressBook_DoubtsAnAddressWithoutALookAtServers(t *testing.T) {
	b := &addressBook{provider: oneAddress{}, noFallback: true, logger: hclog.NewNullLogger(), tasks: new(tasks.Group), left: func(ServerAddress) {}}
	note := func(id ServerID, addr ServerAddress, err error) *addressEntry {
		e := b.entry(id)
		e.asking = make(chan struct{})
		b.note(e, addr, err)
		return e
	}
	var there []*addressEntry
	for i := range 500 {
		there = append(there, note(ServerID(fmt.Sprint("there-", i)), "b", nil))
	}
	elsewhere, lost := note("elsewhere", "c", nil), note("lost", "d", nil)
	lost.asking = make(chan struct{})
	b.note(lost, "", errNoAddress)
	b.entries = nil
	b.recent.Init()

	require.NoError(t, b.mayDial("b"))
	require.ErrorIs(t, b.mayDial("d"), errNoAddress)
	b.doubt("b")
	for _, e := range there {
		require.GreaterOrEqual(t, e.age(), addressFor)
	}
	require.Less(t, elsewhere.age(), time.Duration(0))
}

// Whoever waits for an answer about a server gets it, also if the server has been
// forgotten meanwhile.
func TestAddressBook_AnswersAboutAServerThatWasForgotten(t *testing.T) {
	b := &addressBook{provider: oneAddress{}, logger: hclog.NewNullLogger(), tasks: new(tasks.Group), left: func(ServerAddress) {}}
	b.mu.Lock()
	e := b.entry("server")
	e.asking = make(chan struct{})
	for i := range maxServersKnown {
		b.entry(ServerID(fmt.Sprint("server-", i)))
	}
	b.mu.Unlock()
	require.NotContains(t, b.entries, ServerID("server"))
	answered := e.asking
	b.note(e, "b", nil)
	<-answered
	require.Equal(t, addressAnswer{addr: "b"}, b.answerOf(e))
	require.Empty(t, b.places)
}
