package hashicorpraft

import (
	"bytes"
	"compress/flate"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// A program may compress a snapshot under way: then Size is that of what is
// compressed. It works with either kind of transport at either end.
func TestInstallSnapshot_MayBeCompressedUnderWay(t *testing.T) {
	type maker = func(*testing.T, *raft.NetworkTransportConfig) closer
	want := bytes.Repeat([]byte("snapshot "), 100_000)
	for name, kinds := range map[string][2]maker{
		"ours to ours":     {ours, ours},
		"ours to theirs":   {ours, theirs},
		"theirs to ours":   {theirs, ours},
		"theirs to theirs": {theirs, theirs},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := kinds[0](t, networkConfig()), kinds[1](t, networkConfig())
			defer from.Close()
			defer to.Close()
			defer serve(to, func(rpc raft.RPC) {
				got, err := io.ReadAll(flate.NewReader(rpc.Reader))
				rpc.Respond(&raft.InstallSnapshotResponse{Success: bytes.Equal(got, want)}, err)
			})()
			var body bytes.Buffer
			w, err := flate.NewWriter(&body, flate.BestSpeed)
			require.NoError(t, err)
			_, err = w.Write(want)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			var resp raft.InstallSnapshotResponse
			require.NoError(t, from.InstallSnapshot("id", to.LocalAddr(), &raft.InstallSnapshotRequest{Size: int64(len(want))}, &resp, &body))
			require.True(t, resp.Success)
		})
	}
}

// The power of a leader is cut while it sends a snapshot. The follower's core copies
// the body, which comes no more, and cannot vote meanwhile; its vote is needed.
func TestCluster_ElectsWhenItsLeaderGoesInTheMiddleOfASnapshot(t *testing.T) {
	const timeout = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New(1)
		arriving := make(chan struct{}, 1)
		c := newPatientCluster(t, time.Hour)
		for _, host := range []string{"a", "b", "c"} {
			layer, err := network.Host(host).Listen()
			require.NoError(t, err)
			c.add(WrapNetwork(raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
				Stream: layer, MaxPool: 3, Timeout: timeout, Logger: hclog.NewNullLogger(),
				Hooks: raftwire.Hooks{SnapshotProgress: func(e raftwire.SnapshotEvent) {
					if e.Inbound && e.Done > 0 {
						select {
						case arriving <- struct{}{}:
						default:
						}
					}
				}},
			})))
		}
		c.bootstrap(c.nodes...)
		leader := c.leader(c.nodes...)
		rest := without(c.nodes, leader)
		behind := rest[0]
		from, to := string(leader.transport.LocalAddr()), string(behind.transport.LocalAddr())

		network.Isolate(to)
		for range 20 {
			require.NoError(t, leader.Apply(bytes.Repeat([]byte("x"), 100<<10), patience).Error())
		}
		require.NoError(t, leader.Snapshot().Error())
		network.Link(from, to).SetBandwidth(200 << 10)
		network.Heal()
		<-arriving
		network.Host(from).PowerOff()

		cut := time.Now()
		c.leader(rest...)
		require.LessOrEqual(t, time.Since(cut), 3*timeout+5*raft.DefaultConfig().ElectionTimeout)
	})
}
