package door

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire/internal/tasks"
	"github.com/stretchr/testify/require"
)

// come admits a visit from an address, and returns who was evicted for it.
func come(d *Door, address string) (v, evicted *Visit, why error) {
	v = &Visit{door: d, Peer: address}
	evicted, why, _ = d.admit(v)
	return v, evicted, why
}

// Whoever has gone leaves nothing behind: hosts are as many as an attacker
// likes.
func TestDoor_ForgetsWhoHasGone(t *testing.T) {
	d := &Door{MaxConns: 10, MaxPerHost: 1}
	for i := range 1000 {
		v, _, _ := come(d, "")
		v.Peer = fmt.Sprintf("host-%d:1", i)
		evicted, _ := d.locate(v)
		require.Nil(t, evicted)
		if i%4 == 0 {
			require.NoError(t, v.Identify())
		}
		if i%2 == 0 {
			v.Leave()
		} // the others are evicted, but for the last ten
	}
	require.Len(t, d.visits, 10)
	require.Len(t, d.hosts, 10)
	for _, v := range d.Visits() {
		v.Leave()
		v.Leave()
	}
	require.Empty(t, d.visits)
	require.Empty(t, d.hosts)
	require.Zero(t, d.unidentified)
}

// Hosts are told apart by what stands before the port; where there is none,
// only the limit in total holds. An IPv6 network of 64 bits is one host.
func TestDoor_TellsHostsApart(t *testing.T) {
	for address, want := range map[string]struct{ host, name string }{
		"10.0.0.1:8300":               {"10.0.0.1", "10.0.0.1"},
		"[::ffff:10.0.0.1]:8300":      {"::ffff:10.0.0.1", "10.0.0.1"},
		"[2001:db8:1:2:3:4:5:6]:8300": {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		"[fe80::1%eth0]:8300":         {"fe80::1%eth0", "fe80::/64"},
		"[::1]:8300":                  {"::1", "::1"},
		"node:8300":                   {"node", "node"},
		"@":                           {},
		"/run/raft.sock":              {},
		"unknown":                     {},
	} {
		require.Equal(t, want.host, HostOf(address))
		require.Equal(t, want.name, hostName(address))
	}
	d := &Door{MaxConns: 3, MaxPerHost: 1}
	for range 3 {
		_, evicted, _ := come(d, "@")
		require.Nil(t, evicted)
	}
	_, evicted, why := come(d, "@")
	require.NotNil(t, evicted)
	require.ErrorContains(t, why, "more than 3 inbound connections")
}

// The host that has most unidentified connections makes room, however old those of
// others are; of several such hosts, the one whose oldest came first.
func TestDoor_EvictsTheOldestOfTheLargestHost(t *testing.T) {
	for name, d := range map[string]*Door{
		"at MaxConns":        {MaxConns: 4},
		"at MaxUnidentified": {MaxUnidentified: 4, Crowded: errors.New("crowded")},
	} {
		t.Run(name, func(t *testing.T) {
			old, _, _ := come(d, "10.0.0.1:1")
			first, _, _ := come(d, "[2001:db8::1]:1")
			second, _, _ := come(d, "[2001:db8::2]:1")
			third, evicted, _ := come(d, "[2001:db8::3]:1")
			require.Nil(t, evicted)
			for i, want := range []*Visit{first, second, old} {
				_, evicted, why := come(d, fmt.Sprintf("10.0.1.%d:1", i))
				require.Same(t, want, evicted, i)
				require.Error(t, why)
			}
			require.Len(t, d.visits, 4)
			require.NotNil(t, third.host)
		})
	}
}

// Who is not located may be of the host that has most: the older of both is evicted.
func TestDoor_EvictsWhoIsNotLocatedByAge(t *testing.T) {
	d := &Door{MaxConns: 4}
	first, _, _ := come(d, "10.0.0.1:1")
	second, _, _ := come(d, "")
	come(d, "")
	third, _, _ := come(d, "10.0.0.1:1")
	for i, want := range []*Visit{first, second} {
		_, evicted, _ := come(d, "10.0.0.1:1")
		require.Same(t, want, evicted, i)
	}
	require.NotNil(t, third.host)
}

// Visits whose address had to be awaited are evicted in the order in which they came.
func TestDoor_EvictsInTheOrderOfArrival(t *testing.T) {
	d := &Door{MaxPerHost: 3}
	var all []*Visit
	for range 4 {
		v, _, _ := come(d, "")
		all = append(all, v)
	}
	for _, i := range []int{2, 0, 1} {
		all[i].Peer = "10.0.0.1:1"
		evicted, _ := d.locate(all[i])
		require.Nil(t, evicted)
	}
	all[3].Peer = "10.0.0.1:1"
	evicted, _ := d.locate(all[3])
	require.Same(t, all[0], evicted)
}

func TestDoor_RefusesTheNewcomerAmongPeers(t *testing.T) {
	for name, d := range map[string]*Door{"in total": {MaxConns: 2}, "per host": {MaxPerHost: 2}} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				v, _, _ := come(d, "10.0.0.1:1")
				require.NoError(t, v.Identify())
			}
			v, evicted, why := come(d, "10.0.0.1:1")
			require.Same(t, v, evicted)
			require.ErrorContains(t, why, "all others have brought requests")
			require.Len(t, d.visits, 2)
		})
	}
}

// pipeAt is a connection from an address that is known at once.
func pipeAt(address string) *Visit {
	conn, _ := net.Pipe()
	return &Visit{Conn: conn, Peer: address}
}

func TestDoor_ClosesWhoIsNotIdentifiedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group tasks.Group
		late := errors.New("late")
		d := &Door{Timeout: time.Second, Late: late, Tasks: &group}
		read := func(v *Visit) error {
			defer v.Leave()
			_, err := v.Conn.Read(make([]byte, 1))
			return err
		}
		slow, known := pipeAt("10.0.0.1:1"), pipeAt("10.0.0.1:2")
		d.Admit(slow, func() { _ = read(slow) })
		d.Admit(known, func() { _ = known.Identify(); _ = read(known) })
		<-time.NewTimer(time.Hour).C
		require.Same(t, late, slow.Why())
		require.NoError(t, known.Why())
		require.Equal(t, []*Visit{known}, d.Visits())
		CloseAll(d.Visits(), net.ErrClosed, time.Second)
		synctest.Wait()
		require.Empty(t, d.visits)
		require.Zero(t, d.running.Load())
	})
}

// Goroutines of visits that are evicted, and do not end, are bounded.
func TestDoor_BoundsTheGoroutinesThatDoNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group tasks.Group
		var refusals Refusals
		release := make(chan struct{})
		d := &Door{MaxConns: 1, Tasks: &group, Refusals: &refusals}
		for range maxLeaving + 3 {
			v := pipeAt("10.0.0.1:1")
			d.Admit(v, func() { <-release; v.Leave() })
		}
		require.EqualValues(t, maxLeaving+1, d.running.Load())
		require.EqualValues(t, 2, Counts[struct{ TooManyConns uint64 }](&refusals).TooManyConns)
		close(release)
		synctest.Wait()
		require.Zero(t, d.running.Load())
	})
}

func TestDoor_ClosedLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group tasks.Group
		d := &Door{Tasks: &group}
		d.Close(net.ErrClosed)
		v := pipeAt("10.0.0.1:1")
		d.Admit(v, v.Leave)
		synctest.Wait()
		require.ErrorIs(t, v.Why(), net.ErrClosed)
		require.Empty(t, d.visits)
	})
}
