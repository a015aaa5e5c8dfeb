package raftwire_test

import (
	"fmt"
	"io"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

func TestInmemNetwork_ConnectsEveryTransportWithEveryOther(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		all := []*raftwire.InmemTransport{x.a, x.b, x.c, x.Add("")}
		for _, to := range all {
			serve(t, to, accept)
		}
		for _, from := range all {
			for _, to := range all {
				require.Zero(t, elapsed(func() { require.NoError(t, appendOnce(from, to.LocalAddr())) }))
			}
		}
		require.ErrorContains(t, appendOnce(x.a, "nobody"), "failed to connect to peer: nobody")
	})
}

// A lost call ends by its timeout. The receiver sees the request unless that was lost.
// Afterwards calls work.
func TestInmemNetwork_LosesEveryCallInEveryWay(t *testing.T) {
	losses := map[string]struct {
		begin   func(x *inmemRig)
		arrives bool
	}{
		"cut":                     {func(x *inmemRig) { x.Link("a", "b").Cut() }, false},
		"cut back":                {func(x *inmemRig) { x.Link("b", "a").Cut() }, true},
		"partition":               {func(x *inmemRig) { x.Partition("a", "b") }, false},
		"isolation":               {func(x *inmemRig) { x.Isolate("b") }, false},
		"isolation of the others": {func(x *inmemRig) { x.Isolate("a", "c") }, false},
		"loss":                    {func(x *inmemRig) { x.Link("a", "b").SetLoss(1) }, false},
		"loss back":               {func(x *inmemRig) { x.Link("b", "a").SetLoss(1) }, true},
		"slow":                    {func(x *inmemRig) { x.Link("a", "b").SetLatency(time.Hour) }, false},
		"slow back":               {func(x *inmemRig) { x.Link("b", "a").SetLatency(time.Hour) }, true},
	}
	for loss, l := range losses {
		for kind, call := range inmemCalls() {
			t.Run(loss+", "+kind, func(t *testing.T) {
				inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
					seen := 0
					answer := func(rpc raftwire.RPC) { seen++; accept(rpc) }
					serve(t, x.b, answer)
					serve(t, x.a, accept)

					l.begin(x)
					var err error
					took := elapsed(func() { err = call(x.a, "b") })
					requireTimeout(t, err)
					require.Equal(t, lostAfter(kind, l.arrives), took)
					synctest.Wait()
					require.Equal(t, l.arrives && kind != "AppendEntriesPipeline", seen > 0)
					require.NoError(t, call(x.c, "a"), "the others are not concerned")

					x.mend()
					require.NoError(t, call(x.a, "b"))
				})
			})
		}
	}
}

// A lost answer leaves no trace in the response.
func TestInmemNetwork_LeavesTheResponseOfALostAnswerZero(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		serve(t, x.b, accept)
		x.Link("b", "a").Cut()
		resp := staleAppend()
		requireTimeout(t, x.a.AppendEntries("b", "b", appendRequest(1), resp))
		require.Zero(t, *resp)
	})
}

// With a one-way cut a reaches nobody, and b's requests reach a, but no answer comes
// back.
func TestInmemNetwork_CutsOneDirection(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		x.Link("a", "b").Cut()
		results := make(chan error, 2)
		go func() { results <- appendOnce(x.a, "b") }()
		go func() { results <- appendOnce(x.b, "a") }()
		rpc := <-x.a.Consumer()
		accept(rpc)
		requireTimeout(t, <-results)
		requireTimeout(t, <-results)
		select {
		case <-x.b.Consumer():
			t.Fatal("a request came through the cut")
		default:
		}
	})
}

func TestInmemNetwork_IsolatesAGroup(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		d := x.Add("d")
		for _, trans := range []*raftwire.InmemTransport{x.a, x.b, x.c, d} {
			serve(t, trans, accept)
		}
		x.Isolate("a", "b")
		require.NoError(t, appendOnce(x.a, "b"))
		require.NoError(t, appendOnce(d, "c"))
		for _, outside := range []raftwire.ServerAddress{"c", "d"} {
			requireTimeout(t, appendOnce(x.a, outside))
			requireTimeout(t, appendOnce(x.b, outside))
		}
		requireTimeout(t, appendOnce(x.c, "b"))
	})
}

// What is in flight when the cut comes is lost, although the link heals before it
// would have arrived. What is sent afterwards arrives.
func TestInmemNetwork_CutsWhatIsInFlight(t *testing.T) {
	const latency = 100 * time.Millisecond
	for name, cutAt := range map[string]time.Duration{"request": latency / 2, "answer": latency * 3 / 2} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, raftwire.InmemNetworkConfig{Latency: latency}, func(t *testing.T, x *inmemRig) {
				seen := 0
				serve(t, x.b, func(rpc raftwire.RPC) { seen++; accept(rpc) })
				first := make(chan error, 1)
				go func() { first <- appendOnce(x.a, "b") }()
				pause(cutAt)
				x.Partition("a", "b")
				x.Heal()
				require.Equal(t, 2*latency, elapsed(func() { require.NoError(t, appendOnce(x.a, "b")) }))
				requireTimeout(t, <-first)
				synctest.Wait()
				require.Equal(t, map[string]int{"request": 1, "answer": 2}[name], seen)
			})
		})
	}
}

// A cut takes nothing back that the receiver has already.
func TestInmemNetwork_AnswersAfterACutThatIsOver(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		first := make(chan error, 1)
		go func() { first <- appendOnce(x.a, "b") }()
		rpc := <-x.b.Consumer()
		x.Partition("a", "b")
		x.Heal()
		accept(rpc)
		require.NoError(t, <-first)
	})
}

// A pipeline goes on after a cut during which nothing was sent. After a lost message
// it stalls and fails by the timeout: nothing overtakes the lost message.
func TestInmemNetwork_StallsAPipelineThatHasLostAMessage(t *testing.T) {
	for name, way := range map[string][2]raftwire.ServerAddress{"request": {"a", "b"}, "answer": {"b", "a"}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, raftwire.InmemNetworkConfig{Latency: time.Millisecond}, func(t *testing.T, x *inmemRig) {
				var seen []uint64
				serve(t, x.b, func(rpc raftwire.RPC) {
					seen = append(seen, rpc.Command.(*raftwire.AppendEntriesRequest).PrevLogEntry)
					accept(rpc)
				})
				p := openPipeline(t, x.a, "b")
				x.Partition("a", "b")
				pause(time.Hour)
				x.Heal()
				require.NoError(t, send(t, p, 1)[0].Error())

				x.Link(way[0], way[1]).Cut()
				lost := send(t, p, 1)
				pause(10 * time.Millisecond)
				x.Heal()
				later := send(t, p, 2)
				require.Equal(t, testTimeout-10*time.Millisecond, elapsed(func() { requireTimeout(t, lost[0].Error()) }))
				requireFailed(t, append(lost, later...), nil)
				synctest.Wait()
				if name == "request" {
					require.Equal(t, []uint64{0}, seen)
				} else {
					require.Equal(t, []uint64{0, 0, 0, 1}, seen)
				}
				require.NoError(t, openPipelineOnce(x.a, "b"), "a new one is whole")
			})
		})
	}
}

// Requests of a pipeline travel at the same time, and in order.
func TestInmemNetwork_HasLatency(t *testing.T) {
	const latency, jitter = 100 * time.Millisecond, 50 * time.Millisecond
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		x.Link("a", "b").SetLatency(latency)
		serve(t, x.b, accept)
		require.Equal(t, latency, elapsed(func() { require.NoError(t, appendOnce(x.a, "b")) }))
		x.Link("b", "a").SetLatency(latency / 2)
		require.Equal(t, latency*3/2, elapsed(func() { require.NoError(t, heartbeat(x.a, "b")) }))

		var p raftwire.AppendPipeline
		require.Equal(t, latency*3/2, elapsed(func() { p = openPipeline(t, x.a, "b") }))
		require.Equal(t, latency*3/2, elapsed(func() {
			send(t, p, 10)
			require.NoError(t, consumeInOrder(p, 10))
		}))
		x.Link("a", "b").SetJitter(jitter)
		seen := make(map[time.Duration]bool)
		for range 100 {
			took := elapsed(func() {
				send(t, p, 10)
				require.NoError(t, consumeInOrder(p, 10))
			})
			require.GreaterOrEqual(t, took, latency*3/2)
			require.LessOrEqual(t, took, latency*3/2+jitter)
			seen[took] = true
		}
		require.Greater(t, len(seen), 50)
	})
}

// The same seed loses and delays the same messages. Another seed or another link
// chooses others.
func TestInmemNetwork_RepeatsItsDecisions(t *testing.T) {
	config := raftwire.InmemNetworkConfig{Seed: 7, Latency: time.Millisecond, Jitter: 100 * time.Millisecond, Loss: 0.2}
	run := func(to raftwire.ServerAddress) (text string) {
		inBubble(t, config, func(t *testing.T, x *inmemRig) {
			serve(t, x.b, accept)
			serve(t, x.c, accept)
			for range 50 {
				text += fmt.Sprintln(elapsed(func() { _ = appendOnce(x.a, to) }))
			}
		})
		return text
	}
	first := run("b")
	require.Equal(t, first, run("b"))
	require.NotEqual(t, first, run("c"))
	config.Seed++
	require.NotEqual(t, first, run("b"))
}

func TestInmemNetwork_LosesItsShare(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{Seed: 1}, func(t *testing.T, x *inmemRig) {
		x.Link("a", "b").SetLoss(0.25)
		serve(t, x.b, accept)
		lost := 0
		for range 1000 {
			if appendOnce(x.a, "b") != nil {
				lost++
			}
		}
		require.InDelta(t, 250, lost, 50)
	})
}

// A closed peer refuses after a round trip, if the link lets the message through.
func TestInmemNetwork_TellsOfAClosedPeer(t *testing.T) {
	const latency = 10 * time.Millisecond
	inBubble(t, raftwire.InmemNetworkConfig{Latency: latency}, func(t *testing.T, x *inmemRig) {
		p := openPipeline(t, x.a, "b")
		futures := send(t, p, 2)
		call := make(chan error, 1)
		go func() { call <- appendOnce(x.a, "b") }()
		snapshot := make(chan error, 1)
		go func() { _, err := install(x.a, 1<<20, zeros{}); snapshot <- err }()
		pause(2 * latency)
		require.Equal(t, latency, elapsed(func() {
			require.NoError(t, x.b.Close())
			require.EqualError(t, <-call, "AppendEntries to b: the peer was closed")
			require.ErrorContains(t, <-snapshot, "the peer was closed")
		}))
		synctest.Wait()
		requireFailed(t, futures, nil)
		require.ErrorContains(t, futures[1].Error(), "the peer was closed")
		require.Equal(t, 2*latency, elapsed(func() {
			require.ErrorContains(t, appendOnce(x.a, "b"), "failed to connect to peer: b")
		}))
		require.Equal(t, 2*latency, elapsed(func() {
			_, err := x.a.AppendEntriesPipeline("b", "b")
			require.ErrorContains(t, err, "failed to connect to peer: b")
		}))
		require.Equal(t, 2*latency, elapsed(func() {
			_, err := install(x.a, 1<<20, zeros{})
			require.ErrorContains(t, err, "failed to connect to peer: b")
		}))
		x.Link("b", "a").Cut()
		requireTimeout(t, appendOnce(x.a, "b"))
	})
}

// Answers arrive before the news that their sender has closed.
func TestInmemNetwork_BringsTheLastAnswersOfAClosedPeer(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{Latency: time.Millisecond}, func(t *testing.T, x *inmemRig) {
		for range 20 {
			p := openPipeline(t, x.a, "b")
			futures := send(t, p, 3)
			for range futures {
				accept(<-x.b.Consumer())
			}
			synctest.Wait()
			require.NoError(t, x.b.Close())
			require.NoError(t, consumeInOrder(p, len(futures)))
			x.b = x.Add("b")
		}
	})
}

func TestInmemNetwork_DoesNotTellOfAPeerClosedBehindACut(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		p := openPipeline(t, x.a, "b")
		futures := send(t, p, 1)
		call := make(chan error, 1)
		go func() { call <- appendOnce(x.a, "b") }()
		synctest.Wait()
		x.Isolate("b")
		require.NoError(t, x.b.Close())
		require.Equal(t, testTimeout, elapsed(func() { requireTimeout(t, <-call) }))
		synctest.Wait()
		requireFailed(t, futures, nil)
		requireTimeout(t, futures[0].Error())
	})
}

// A transport that is added at an address replaces the old one and keeps its links.
// Calls on the old one do not affect it.
func TestInmemNetwork_RestartsANode(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		x.Link("a", "b").SetLatency(time.Millisecond)
		p := openPipeline(t, x.a, "b")
		old := x.b
		x.b = x.Add("b")
		require.Error(t, send(t, p, 1)[0].Error(), "the old pipeline led to the old transport")
		require.True(t, appendOnce(old, "a") == raftwire.ErrTransportShutdown)

		old = x.b
		x.Crash("b")
		require.ErrorContains(t, appendOnce(x.a, "b"), "failed to connect to peer: b")
		serve(t, x.Add("d"), accept)
		x.b = x.Add("b")
		old.DisconnectAll()
		old.Connect("a", x.c)
		require.NoError(t, appendOnce(x.b, "d"))
		serve(t, x.b, accept)
		require.Equal(t, time.Millisecond, elapsed(func() { require.NoError(t, appendOnce(x.a, "b")) }))
		serve(t, x.a, accept)
		require.NoError(t, appendOnce(x.b, "a"))

		x.Isolate("b")
		x.b = x.Add("b")
		requireTimeout(t, appendOnce(x.b, "a"))
	})
}

// A request reaches the transport that is there when it arrives.
func TestInmemNetwork_RequestsOutliveARestart(t *testing.T) {
	const latency = 10 * time.Millisecond
	inBubble(t, raftwire.InmemNetworkConfig{Latency: latency}, func(t *testing.T, x *inmemRig) {
		call := make(chan error, 1)
		go func() { call <- appendOnce(x.a, "b") }()
		pause(latency / 2)
		serve(t, x.Add("b"), accept)
		require.NoError(t, <-call)
	})
}

// Disconnect and Connect cut and mend the network's links.
func TestInmemNetwork_Disconnects(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{Latency: time.Millisecond}, func(t *testing.T, x *inmemRig) {
		serve(t, x.b, accept)
		serve(t, x.a, accept)
		call := make(chan error, 1)
		go func() { call <- appendOnce(x.a, "c") }()
		synctest.Wait()
		x.a.DisconnectAll()
		require.Zero(t, elapsed(func() {
			require.ErrorContains(t, <-call, "disconnected")
			require.ErrorContains(t, appendOnce(x.a, "b"), "failed to connect to peer: b")
		}))
		x.Heal()
		require.Error(t, appendOnce(x.a, "b"), "Heal ends cuts only")
		require.NoError(t, appendOnce(x.b, "a"), "the other direction, with its answers")
		x.a.Connect("b", x.b)
		require.Equal(t, 2*time.Millisecond, elapsed(func() { require.NoError(t, appendOnce(x.a, "b")) }))
	})
}

// A lost chunk stalls a snapshot. The sender, which gets no other answer either, gives
// up, and the reader of the body fails.
func TestInmemNetwork_StallsASnapshotThatHasLostAChunk(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{Latency: time.Millisecond}, func(t *testing.T, x *inmemRig) {
		read := make(chan error, 1)
		serve(t, x.b, func(rpc raftwire.RPC) {
			_, err := io.CopyN(io.Discard, rpc.Reader, 500_000)
			x.Link("a", "b").Cut()
			start := time.Now()
			if err == nil {
				_, err = io.Copy(io.Discard, rpc.Reader)
			}
			require.LessOrEqual(t, time.Since(start), 3*testTimeout)
			read <- err
		})
		_, err := install(x.a, 1<<20, zeros{})
		requireTimeout(t, err)
		require.Error(t, <-read)
	})
}

// A body ends when its sender closes, also while a chunk is in flight.
func TestInmemNetwork_SnapshotEndsWithItsSender(t *testing.T) {
	const latency = 10 * time.Millisecond
	inBubble(t, raftwire.InmemNetworkConfig{Latency: latency}, func(t *testing.T, x *inmemRig) {
		go func() { _, _ = install(x.a, 1<<20, zeros{}) }()
		rpc := <-x.b.Consumer()
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, rpc.Reader)
			read <- err
		}()
		pause(latency * 5 / 2)
		require.Zero(t, elapsed(func() {
			require.NoError(t, x.a.Close())
			require.ErrorIs(t, <-read, io.ErrUnexpectedEOF)
		}))
	})
}

// An early answer ends the body at once, before the sender knows of it.
func TestInmemNetwork_BodyEndsWithTheAnswer(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{Latency: time.Millisecond}, func(t *testing.T, x *inmemRig) {
		read := make(chan error, 1)
		serve(t, x.b, func(rpc raftwire.RPC) {
			rpc.Respond(nil, io.ErrNoProgress)
			synctest.Wait()
			_, err := rpc.Reader.Read(make([]byte, 1))
			read <- err
		})
		require.Equal(t, 2*time.Millisecond, elapsed(func() {
			_, err := install(x.a, 1<<30, zeros{})
			require.EqualError(t, err, io.ErrNoProgress.Error())
		}))
		require.ErrorContains(t, <-read, "after it was answered")
	})
}

// Without a timeout a lost call ends when its sender closes.
func TestInmemNetwork_WithoutATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Timeout: -1})
		a, b := network.Add("a"), network.Add("b")
		network.Link("a", "b").Cut()
		ended := make(chan error, 1)
		go func() { ended <- appendOnce(a, "b") }()
		pause(24 * time.Hour)
		require.NoError(t, b.Close())
		synctest.Wait()
		require.Empty(t, ended)
		require.NoError(t, network.Close())
		require.True(t, <-ended == raftwire.ErrTransportShutdown)
	})
}

func TestInmemNetwork_HasTheDefaultTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
		a := network.Add("a")
		network.Add("b")
		require.Equal(t, 500*time.Millisecond, elapsed(func() { requireTimeout(t, appendOnce(a, "b")) }))
		require.NoError(t, network.Close())
	})
}

// A typing error in a test must not make it pass.
func TestInmemNetwork_RefusesUnknownAddresses(t *testing.T) {
	inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
		for name, slip := range map[string]func(){
			"Link":      func() { x.Link("nobody", "a") },
			"Link to":   func() { x.Link("a", "nobody") },
			"Partition": func() { x.Partition("a", "nobody") },
			"Isolate":   func() { x.Isolate("a", "b", "c", "nobody") },
			"Crash":     func() { x.Crash("nobody") },
		} {
			require.PanicsWithValue(t, `raftwire: this InmemNetwork has nothing at the address "nobody": Add it first`, slip, name)
		}
	})
}

func TestInmemNetwork_RefusesWhatMakesNoSense(t *testing.T) {
	made := func(config raftwire.InmemNetworkConfig) func(*inmemRig) {
		return func(*inmemRig) { raftwire.NewInmemNetwork(config) }
	}
	for text, slip := range map[string]func(x *inmemRig){
		"InmemNetworkConfig.Loss is 5: use a share from 0 to 1":                      made(raftwire.InmemNetworkConfig{Loss: 5}),
		"InmemNetworkConfig.Loss is NaN: use a share from 0 to 1":                    made(raftwire.InmemNetworkConfig{Loss: math.NaN()}),
		"InmemNetworkConfig.Latency is -1s: use 0 for none, or a positive duration":  made(raftwire.InmemNetworkConfig{Latency: -time.Second}),
		"InmemNetworkConfig.Jitter is -1ns: use 0 for none, or a positive duration":  made(raftwire.InmemNetworkConfig{Jitter: -1}),
		"the loss for SetLoss is 2: use a share from 0 to 1":                         func(x *inmemRig) { x.Link("a", "b").SetLoss(2) },
		"the loss for SetLoss is -0.1: use a share from 0 to 1":                      func(x *inmemRig) { x.Link("a", "b").SetLoss(-0.1) },
		"the latency for SetLatency is -1ns: use 0 for none, or a positive duration": func(x *inmemRig) { x.Link("a", "b").SetLatency(-1) },
		"the jitter for SetJitter is -1ns: use 0 for none, or a positive duration":   func(x *inmemRig) { x.Link("a", "b").SetJitter(-1) },
		`Partition("a", "a") of an InmemNetwork: name two addresses`:                 func(x *inmemRig) { x.Partition("a", "a") },
		`Add("d") to an InmemNetwork that is closed: make a new network`:             func(x *inmemRig) { _ = x.Close(); x.Add("d") },
	} {
		inBubble(t, raftwire.InmemNetworkConfig{}, func(t *testing.T, x *inmemRig) {
			require.PanicsWithValue(t, "raftwire: "+text, func() { slip(x) })
		})
	}
}

// What a failing test prints is enough to repeat the run.
func TestInmemNetwork_TellsItsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{Seed: 7, Loss: 0.1})
		network.Add("a")
		network.Add("b")
		network.Add("c")
		pause(1500 * time.Millisecond)
		network.Isolate("a", "b")
		network.Partition("a", "b")
		network.Heal()
		l := network.Link("a", "b")
		l.Cut()
		l.Heal()
		l.SetLatency(20 * time.Millisecond)
		l.SetJitter(time.Millisecond)
		l.SetLoss(0.5)
		network.Crash("b")
		require.NoError(t, network.Close())
		require.Equal(t, `raftwire.InmemNetwork{Seed:7 Timeout:0s Latency:0s Jitter:0s Loss:0.1}, and then
0s add a
0s add b
0s add c
1.5s isolate a b
1.5s partition a b
1.5s heal
1.5s cut a b
1.5s heallink a b
1.5s latency a b 20ms
1.5s jitter a b 1ms
1.5s loss a b 0.5
1.5s crash b
`, network.String())
	})
}

// The set-up of a transport is over before a peer's first request arrives.
func TestInmemNetwork_PreparesBeforePeersReachIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
		a := network.Add("a")
		serve(t, network.Add("b", func(*raftwire.InmemTransport) { require.ErrorContains(t, appendOnce(a, "b"), "failed to connect") }), accept)
		require.NoError(t, appendOnce(a, "b"))
		require.NoError(t, network.Close())
	})
}

// If several transports are added at one address at the same time, one stays and the
// others are closed.
func TestInmemNetwork_ReplacesWhatIsAddedAtTheSameTime(t *testing.T) {
	for range 200 {
		network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
		added := make(chan *raftwire.InmemTransport)
		const count = 4
		for range count {
			go func() { added <- network.Add("a") }()
		}
		var all []*raftwire.InmemTransport
		for range count {
			all = append(all, <-added)
		}
		require.NoError(t, network.Close())
		for _, one := range all {
			require.Equal(t, raftwire.ErrTransportShutdown, appendOnce(one, "a"))
		}
	}
}

// When the receiver closes, the reader of the body fails, although a chunk is in
// flight or lost.
func TestInmemSnapshotBody_EndsWithItsTransport(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut %v", cut), func(t *testing.T) {
			inBubble(t, raftwire.InmemNetworkConfig{Latency: testTimeout / 10}, func(t *testing.T, x *inmemRig) {
				sent := make(chan error)
				go func() {
					_, err := install(x.a, 1<<20, zeros{})
					sent <- err
				}()
				rpc := <-x.b.Consumer()
				_, err := rpc.Reader.Read(make([]byte, 1))
				require.NoError(t, err)
				read := make(chan error)
				go func() {
					_, err := io.Copy(io.Discard, rpc.Reader)
					read <- err
				}()
				pause(testTimeout / 20)
				if cut {
					x.Partition("a", "b")
				}
				require.NoError(t, x.b.Close())
				require.ErrorIs(t, <-read, io.ErrUnexpectedEOF)
				require.Error(t, <-sent)
			})
		})
	}
}

// inBubble runs test on fake time with a network of the transports a, b and c.
func inBubble(t *testing.T, config raftwire.InmemNetworkConfig, test func(t *testing.T, x *inmemRig)) {
	t.Helper()
	config.Timeout = testTimeout
	synctest.Test(t, func(t *testing.T) {
		x := &inmemRig{InmemNetwork: raftwire.NewInmemNetwork(config)}
		x.a, x.b, x.c = x.Add("a"), x.Add("b"), x.Add("c")
		t.Cleanup(func() { require.NoError(t, x.Close()) })
		test(t, x)
	})
}

type inmemRig struct {
	*raftwire.InmemNetwork
	a, b, c *raftwire.InmemTransport
}

// mend ends every fault between a and b.
func (x *inmemRig) mend() {
	x.Heal()
	for _, l := range []*raftwire.InmemLink{x.Link("a", "b"), x.Link("b", "a")} {
		l.SetLoss(0)
		l.SetLatency(0)
	}
}

// inmemCalls are the calls, and everything else that one transport sends to another.
func inmemCalls() map[string]func(trans caller, target raftwire.ServerAddress) error {
	all := maps.Clone(calls)
	all["heartbeat"] = func(trans caller, target raftwire.ServerAddress) error { return heartbeat(trans, target) }
	all["AppendEntriesPipeline"] = func(trans caller, target raftwire.ServerAddress) error { return openPipelineOnce(trans, target) }
	return all
}

// lostAfter is when a lost call ends. For a snapshot that is later.
func lostAfter(kind string, arrived bool) time.Duration {
	if kind == "InstallSnapshot" && arrived {
		return 10 * testTimeout
	}
	return testTimeout
}
