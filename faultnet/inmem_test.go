package faultnet_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// callTimeout is longer than a connection and a call on it take over links with
// the longest latency and jitter of a random plan.
const callTimeout = 10 * time.Second

// voters are the nodes of a cluster that vote for everybody.
type voters struct {
	faultnet.Target
	open func(host string) raftwire.Transport

	running map[string]raftwire.Transport
	stops   map[string]chan struct{}
}

func newVoters(target faultnet.Target, open func(host string) raftwire.Transport) *voters {
	v := &voters{target, open, make(map[string]raftwire.Transport), make(map[string]chan struct{})}
	for _, host := range trio {
		v.start(host)
	}
	return v
}

func votersOverTheNetwork(t *testing.T) *voters {
	n := faultnet.New(1)
	return newVoters(n, func(host string) raftwire.Transport {
		layer, err := n.Host(host).Listen()
		require.NoError(t, err)
		return raftwire.NewNetworkTransportWithConfig(&raftwire.NetworkTransportConfig{
			Stream: layer, MaxPool: 3, Timeout: callTimeout, Logger: hclog.NewNullLogger(),
		})
	})
}

func votersInMemory() *voters {
	n := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: callTimeout})
	return newVoters(faultnet.Inmem(n), func(host string) raftwire.Transport { return n.Add(raftwire.ServerAddress(host)) })
}

func (v *voters) start(host string) {
	transport, stop := v.open(host), make(chan struct{})
	v.running[host], v.stops[host] = transport, stop
	go func() {
		for {
			select {
			case rpc := <-transport.Consumer():
				rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
			case <-stop:
				return
			}
		}
	}()
}

func (v *voters) stop(t *testing.T, host string) {
	require.NoError(t, v.running[host].(raftwire.WithClose).Close())
	close(v.stops[host])
	delete(v.running, host)
}

// run runs a plan, and returns which node reaches which after each step.
func (v *voters) run(t *testing.T, plan faultnet.Plan) string {
	var text strings.Builder
	require.NoError(t, plan.Run(t.Context(), v, func(s faultnet.Step) {
		switch s.Action {
		case faultnet.Crash:
			v.stop(t, s.Hosts[0])
		case faultnet.Restart:
			v.start(s.Hosts[0])
		}
		fmt.Fprintf(&text, "%v: %v\n", s, v.reached())
	}))
	for host := range v.running {
		v.stop(t, host)
	}
	return text.String()
}

// reached returns the pairs of nodes of which the first can call the second.
func (v *voters) reached() (pairs []string) {
	results := make(map[string]chan error)
	for from, transport := range v.running {
		for _, to := range trio {
			result := make(chan error, 1)
			results[from+to] = result
			go func() {
				var resp raftwire.RequestVoteResponse
				result <- transport.RequestVote("", raftwire.ServerAddress(to), &raftwire.RequestVoteRequest{}, &resp)
			}()
		}
	}
	for _, from := range trio {
		for _, to := range trio {
			if result := results[from+to]; from != to && result != nil && <-result == nil {
				pairs = append(pairs, from+to)
			}
		}
	}
	return pairs
}

func TestInmem_ReachesWhatTheNetworkReaches(t *testing.T) {
	var all string
	for seed := range int64(20) {
		plan := faultnet.RandomPlan(seed, trio, time.Hour,
			faultnet.Cut, faultnet.Partition, faultnet.Isolate, faultnet.Latency, faultnet.Jitter, faultnet.Crash)
		run := func(open func(t *testing.T) *voters) (text string) {
			synctest.Test(t, func(t *testing.T) { text = open(t).run(t, plan) })
			return text
		}
		network := run(votersOverTheNetwork)
		require.Equal(t, network, run(func(*testing.T) *voters { return votersInMemory() }))
		all += network
	}
	require.Contains(t, all, "[ab ac ba bc ca cb]\n", "no plan lets everything through")
	require.Contains(t, all, "[]\n", "no plan lets nothing through")
}

func TestInmem_DelaysWhatTheNetworkDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := votersInMemory()
		plan, err := faultnet.ParsePlan("1s latency a b 300ms\n2s latency b a 500ms\n3s jitter a b 0s\n4s latency a b 0s")
		require.NoError(t, err)
		var waits []time.Duration
		require.NoError(t, plan.Run(t.Context(), v, func(faultnet.Step) { waits = append(waits, took(func() { v.reached() })) }))
		require.Equal(t, []time.Duration{300 * time.Millisecond, 800 * time.Millisecond, 800 * time.Millisecond, 500 * time.Millisecond}, waits)
		for host := range v.running {
			v.stop(t, host)
		}
	})
}

func TestInmem_RefusesFaultsOfConnectionsAndBytes(t *testing.T) {
	target := faultnet.Inmem(raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{}))
	require.EqualError(t, target.Apply(faultnet.Fault{Action: faultnet.Slice, Hosts: []string{"a", "b"}, Bytes: 1}),
		`faultnet: an InmemNetwork has no fault "slice": it has messages, no connections and bytes`)
	require.EqualError(t, target.Apply(faultnet.Fault{Action: faultnet.Cut}), "faultnet: cut names 2 hosts, not 0")
}

func TestInmem_CrashClosesTheTransport(t *testing.T) {
	n := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	crashed := n.Add("a")
	require.NoError(t, faultnet.Inmem(n).Apply(faultnet.Fault{Action: faultnet.Crash, Hosts: []string{"a"}}))
	require.Equal(t, raftwire.ErrTransportShutdown, crashed.TimeoutNow("", "a", &raftwire.TimeoutNowRequest{}, &raftwire.TimeoutNowResponse{}))
}
