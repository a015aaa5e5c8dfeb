package raftwire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/stretchr/testify/require"
)

// as gives a transport an Identity: "cluster/node", with "!" at its end if it requires
// that of others, or "" for none.
func as(name string) option {
	return func(c *raftwire.NetworkTransportConfig) { c.Identity = identityOf(name) }
}

func identityOf(name string) raftwire.Identity {
	name, require := strings.CutSuffix(name, "!")
	cluster, node, _ := strings.Cut(name, "/")
	return raftwire.Identity{Cluster: cluster, Node: raftwire.ServerID(node), Require: require}
}

// onBothAs is onBothTransports for transports with identities.
func onBothAs(t *testing.T, nameA, nameB string, test func(t *testing.T, a, b caller)) {
	t.Helper()
	t.Run("network", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			test(t, listen(t, net, "a", as(nameA)), listen(t, net, "b", as(nameB)))
		})
	})
	t.Run("memory", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, _ *faultnet.Network) {
			a, b := inmemPair(t)
			a.SetIdentity(identityOf(nameA))
			b.SetIdentity(identityOf(nameB))
			test(t, a, b)
		})
	})
}

// headerOf is what a core with this ID gives in its requests.
func headerOf(id string) raftwire.RPCHeader {
	return raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte("a")}
}

// meaning are the requests that a core with the ID "n1" sends to the server with an ID at
// the address "b".
var meaning = map[string]func(trans caller, id raftwire.ServerID) error{
	"AppendEntries": func(trans caller, id raftwire.ServerID) error {
		args := appendRequest(1)
		args.RPCHeader = headerOf("n1")
		return trans.AppendEntries(id, "b", args, new(raftwire.AppendEntriesResponse))
	},
	"heartbeat": func(trans caller, id raftwire.ServerID) error {
		args := &raftwire.AppendEntriesRequest{RPCHeader: headerOf("n1"), Term: 7}
		return trans.AppendEntries(id, "b", args, new(raftwire.AppendEntriesResponse))
	},
	"RequestVote": func(trans caller, id raftwire.ServerID) error {
		args := &raftwire.RequestVoteRequest{RPCHeader: headerOf("n1"), Term: 7}
		return trans.RequestVote(id, "b", args, new(raftwire.RequestVoteResponse))
	},
	"RequestPreVote": func(trans caller, id raftwire.ServerID) error {
		args := &raftwire.RequestPreVoteRequest{RPCHeader: headerOf("n1"), Term: 7}
		return trans.RequestPreVote(id, "b", args, new(raftwire.RequestPreVoteResponse))
	},
	"TimeoutNow": func(trans caller, id raftwire.ServerID) error {
		args := &raftwire.TimeoutNowRequest{RPCHeader: headerOf("n1")}
		return trans.TimeoutNow(id, "b", args, new(raftwire.TimeoutNowResponse))
	},
	"InstallSnapshot": func(trans caller, id raftwire.ServerID) error {
		args := &raftwire.InstallSnapshotRequest{RPCHeader: headerOf("n1"), Term: 7, Size: 4 << 20}
		return trans.InstallSnapshot(id, "b", args, new(raftwire.InstallSnapshotResponse), io.LimitReader(zeros{}, args.Size))
	},
	pipelined: func(trans caller, id raftwire.ServerID) error {
		p, err := trans.AppendEntriesPipeline(id, "b")
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
		args := appendRequest(1)
		args.RPCHeader = headerOf("n1")
		f, err := p.AppendEntries(args, new(raftwire.AppendEntriesResponse))
		if err != nil {
			return err
		}
		return f.Error()
	},
}

func TestIdentity_LetsTheRightNodesTalk(t *testing.T) {
	for _, pair := range [][2]string{
		{"eu/n1", "eu/n2"}, {"eu/n1!", "eu/n2!"}, {"eu/n1", ""}, {"", "eu/n2"}, {"", ""},
	} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			onBothAs(t, pair[0], pair[1], func(t *testing.T, a, b caller) {
				b.SetHeartbeatHandler(accept)
				serve(t, b, accept)
				for name, call := range meaning {
					for _, id := range []raftwire.ServerID{"n2", "n2", "", "b"} { // the last ones claim nothing
						require.NoError(t, call(a, id), name)
					}
				}
			})
		})
	}
}

// Neither the core nor the heartbeat handler sees a request of the wrong peer.
func TestIdentity_RefusesAnotherPeer(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		id         raftwire.ServerID
		want       error
	}{
		{"another cluster", "us/n1", "eu/n2", "n2", raftwire.ErrWrongCluster},
		{"another cluster, any node", "us/n1", "eu/n2", "", raftwire.ErrWrongCluster},
		{"another cluster, an address", "us/n1", "eu/n2", "b", raftwire.ErrWrongCluster},
		{"another node", "eu/n1", "eu/n2", "n3", raftwire.ErrWrongNode},
		{"both", "us/n1!", "eu/n2!", "n3", raftwire.ErrWrongCluster},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBothAs(t, c.a, c.b, func(t *testing.T, a, b caller) {
				refuseAll(t, b)
				for name, call := range meaning {
					start := time.Now()
					err := call(a, c.id)
					require.Zero(t, time.Since(start), name)
					require.ErrorIs(t, err, c.want, name)
					requireOpError(t, err)
					for _, text := range []string{`"n1"`, `"n2"`, `"eu"`} {
						require.ErrorContains(t, err, text, name)
					}
				}
				if b, ok := b.(*raftwire.NetworkTransport); ok {
					synctest.Wait()
					refused := b.Refusals()
					require.Equal(t, uint64(len(meaning)), refused.WrongCluster+refused.WrongNode)
					require.Equal(t, c.want == raftwire.ErrWrongNode, refused.WrongNode > 0)
					require.Empty(t, b.Stats().Inbound)
				}
			})
		})
	}
}

// refuseAll fails the test if a request arrives.
func refuseAll(t *testing.T, trans raftwire.Transport) {
	t.Helper()
	arrived := func(rpc raftwire.RPC) {
		t.Errorf("the core got a %T", rpc.Command)
		accept(rpc)
	}
	trans.SetHeartbeatHandler(arrived)
	serve(t, trans, arrived)
}

// All of a pipeline's requests fail, and none arrives, however many were sent at once.
func TestIdentity_RefusesAPipelineAsAWhole(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", as("us/n1"), withWindow(16)), listen(t, net, "b", as("eu/n2"))
		refuseAll(t, b)
		p, err := a.AppendEntriesPipeline("n2", "b")
		require.NoError(t, err)
		defer func() { _ = p.Close() }()
		var futures []raftwire.AppendFuture
		for i := range uint64(10) {
			args := appendRequest(i)
			args.RPCHeader = headerOf("n1")
			f, err := p.AppendEntries(args, new(raftwire.AppendEntriesResponse))
			if err != nil { // the refusal was faster
				require.ErrorIs(t, err, raftwire.ErrWrongCluster)
				break
			}
			futures = append(futures, f)
		}
		synctest.Wait()
		requireFailed(t, futures, raftwire.ErrWrongCluster)
	})
}

// A sender without an Identity gets a text, whoever it is: hashicorp/raft, for example.
func TestIdentity_RequiredRefusesTheSilent(t *testing.T) {
	onBothAs(t, "", "eu/n2!", func(t *testing.T, a, b caller) {
		refuseAll(t, b)
		for name, call := range meaning {
			err := call(a, "n2")
			pause(time.Millisecond) // for the pool to see that the connection has ended
			var remote *raftwire.RemoteError
			require.ErrorAs(t, err, &remote, name)
			require.EqualError(t, err, `no identity: this is node "n2" of cluster "eu", and it requires that peers say who they are: set Identity at the peer, or end Require here`)
		}
		if b, ok := b.(*raftwire.NetworkTransport); ok {
			pass(testTimeout) // for the senders to hang up
			require.Equal(t, raftwire.Refusals{NoIdentity: uint64(len(meaning))}, b.Refusals())
			require.Empty(t, b.Stats().Inbound)
		}
	})
}

// The request has reached a silent peer's core. Its answer is not taken.
func TestIdentity_RequiredTakesNoAnswerOfTheSilent(t *testing.T) {
	onBothAs(t, "eu/n1!", "", func(t *testing.T, a, b caller) {
		var arrived atomic.Int32
		serve(t, b, func(rpc raftwire.RPC) { arrived.Add(1); accept(rpc) })
		for name, call := range meaning {
			require.ErrorIs(t, call(a, "n2"), raftwire.ErrNoIdentity, name)
		}
		want := len(meaning)
		if _, ok := b.(*raftwire.InmemTransport); ok {
			want-- // in memory, opening the pipeline fails
		}
		require.Equal(t, want, int(arrived.Load()))
		resp := raftwire.AppendEntriesResponse{Success: true}
		require.Error(t, a.AppendEntries("n2", "b", &raftwire.AppendEntriesRequest{}, &resp))
		require.Zero(t, resp)
	})
}

// answering makes b a raw peer that gives the same answer to everything.
func answering(t *testing.T, net *faultnet.Network, answer []byte) {
	layer := hostLayer(t, net, "b")
	var jobs sync.WaitGroup
	jobs.Go(func() {
		for {
			conn, err := layer.Accept()
			if err != nil {
				return
			}
			jobs.Go(func() {
				defer func() { _ = conn.Close() }()
				for buf := make([]byte, 8<<20); err == nil; _, err = conn.Write(answer) {
					_, err = conn.Read(buf)
				}
			})
		}
	})
	t.Cleanup(func() { _ = layer.Close(); jobs.Wait() })
}

// introduction is the field that a node sends.
func introduction(fields map[string]any) map[string]any { return map[string]any{"raftwire": fields} }

// The sender looks at the answer as well: a peer that took the request may be another.
func TestIdentity_ChecksAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer map[string]any
		want   error
		text   string
	}{
		{"another cluster", introduction(map[string]any{"Revision": 1, "Cluster": "us", "Node": "n2"}), raftwire.ErrWrongCluster,
			`wrong cluster: the peer is node "n2" of cluster "us"; this is node "n1" of cluster "eu", and means node "n2"`},
		{"another node", introduction(map[string]any{"Revision": 1, "Cluster": "eu", "Node": "n3"}), raftwire.ErrWrongNode,
			`wrong node: the peer is node "n3" of cluster "eu"; this is node "n1" of cluster "eu", and means node "n2"`},
		{"refused", introduction(map[string]any{"Revision": 1, "Cluster": "eu", "Node": "n2", "Refused": 2}), raftwire.ErrWrongNode,
			`wrong node: the peer refuses this node, and is node "n2" of cluster "eu"`},
		{"refused by nobody", introduction(map[string]any{"Refused": 1}), raftwire.ErrWrongCluster, "one that does not say who it is"},
		{"of a later revision", introduction(map[string]any{"Revision": 9, "Cluster": "eu", "Node": "n2", "Color": map[string]any{"raftwire": 1}}), nil, ""},
		{"for an unknown reason", introduction(map[string]any{"Revision": 9, "Cluster": "eu", "Node": "n2", "Refused": 9}), nil, ""},
		{"silent", map[string]any{"Other": 1}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				answering(t, net, appendMsgpack(appendMsgpack(nil, ""), c.answer))
				a := listen(t, net, "a", as("eu/n1"))
				for name, call := range meaning {
					err := call(a, "n2")
					if c.want == nil {
						require.NoError(t, err, name)
						continue
					}
					require.ErrorIs(t, err, c.want, name)
					require.ErrorContains(t, err, c.text, name)
				}
			})
		})
	}
}

// An error of the core is no refusal: the connection stays.
func TestIdentity_TravelsWithErrors(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, _ := observedAs(t, net, "eu/n1!", "eu/n2!")
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(nil, errors.New("not now")) })
		for range 3 {
			err := meaning["RequestVote"](a, "n2")
			var remote *raftwire.RemoteError
			require.ErrorAs(t, err, &remote)
			require.EqualError(t, err, "not now")
		}
		require.Len(t, atA.dialed, 1)
	})
}

func observedAs(t *testing.T, net *faultnet.Network, nameA, nameB string) (a, b *raftwire.NetworkTransport, atA, atB *events) {
	atA, atB = new(events), new(events)
	a = listen(t, net, "a", as(nameA), withHooks(atA.hooks()))
	b = listen(t, net, "b", as(nameB), withHooks(atB.hooks()))
	return a, b, atA, atB
}

// A connection that waits in the pool was made for another ID, perhaps.
func TestIdentity_IsSaidAgainForAnotherID(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b, atA, atB := observedAs(t, net, "eu/n1", "eu/n2")
		serve(t, b, accept)
		call := meaning["RequestVote"]
		require.NoError(t, call(a, "n2"))
		require.NoError(t, call(a, "b"))
		require.NoError(t, call(a, "n2"))
		require.Len(t, atA.dialed, 1)
		require.ErrorIs(t, call(a, "n3"), raftwire.ErrWrongNode)
		require.Len(t, atA.dialed, 1)
		require.NoError(t, call(a, "n2"))
		require.Len(t, atA.dialed, 2, "the refused connection has ended")
		synctest.Wait()
		require.Len(t, atB.refused, 1)
		require.Equal(t, "WrongNode", atB.refused[0].Reason)
		require.Equal(t, "a", atB.refused[0].Host)
	})
}

// A typo in Identity.Node fails here, and says so.
func TestIdentity_MustBeTheCoresID(t *testing.T) {
	onBothAs(t, "eu/n7", "eu/n2", func(t *testing.T, a, b caller) {
		refuseAll(t, b)
		for name, call := range meaning {
			err := call(a, "n2")
			require.ErrorContains(t, err, `nothing was sent: Identity.Node is "n7", and the request's header gives "n1" as its sender`, name)
			requireOpError(t, err)
		}
	})
}

// With protocols before 3 the core's ID is its address.
func TestIdentity_TakesACoreThatGoesByItsAddress(t *testing.T) {
	onBothAs(t, "eu/n1", "eu/n2", func(t *testing.T, a, b caller) {
		serve(t, b, accept)
		for _, id := range []string{"", "a"} {
			args := &raftwire.RequestVoteRequest{RPCHeader: headerOf(id)}
			require.NoError(t, a.RequestVote("b", "b", args, new(raftwire.RequestVoteResponse)))
		}
	})
}

// hashicorp/raft gives the address that its provider has for the node, and takes the
// transport's for its ID.
func TestIdentity_TakesACoreThatGoesByTheTransportsAddress(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		provider := providerFunc(func(id raftwire.ServerID) (raftwire.ServerAddress, error) {
			return "provided-" + raftwire.ServerAddress(id), nil
		})
		a, b := listen(t, net, "a", as("eu/n1"), withProvider(provider)), listen(t, net, "provided-b", as("eu/n2"))
		serve(t, b, accept)
		header := raftwire.RPCHeader{ID: []byte(a.LocalAddr()), Addr: a.EncodePeer("a", a.LocalAddr())}
		require.NotEqual(t, header.ID, header.Addr)
		require.NoError(t, a.RequestVote("b", "b", &raftwire.RequestVoteRequest{RPCHeader: header}, new(raftwire.RequestVoteResponse)))
	})
}

// The address of the call and the one that a provider gives both claim nothing.
func TestIdentity_TakesAnyAddressForAnID(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		provider := providerFunc(func(raftwire.ServerID) (raftwire.ServerAddress, error) { return "b", nil })
		a := listen(t, net, "a", as("eu/n1"), func(c *raftwire.NetworkTransportConfig) { c.ServerAddressProvider = provider })
		b := listen(t, net, "b", as("eu/n2"))
		serve(t, b, accept)
		for _, id := range []raftwire.ServerID{"old", "b"} {
			require.NoError(t, a.RequestVote(id, "old", &raftwire.RequestVoteRequest{}, new(raftwire.RequestVoteResponse)))
		}
		require.ErrorIs(t, a.RequestVote("other", "old", &raftwire.RequestVoteRequest{}, new(raftwire.RequestVoteResponse)), raftwire.ErrWrongNode)
	})
}

// A refused snapshot is not read, and its sender stops at once.
func TestIdentity_RefusesASnapshotBeforeItsBody(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a, b := listen(t, net, "a", as("us/n1")), listen(t, net, "b", as("eu/n2"))
		refuseAll(t, b)
		const size = 1 << 40
		args := &raftwire.InstallSnapshotRequest{RPCHeader: headerOf("n1"), Size: size}
		err := a.InstallSnapshot("n2", "b", args, new(raftwire.InstallSnapshotResponse), zeros{})
		require.ErrorIs(t, err, raftwire.ErrWrongCluster)
	})
}

// hashicorp/raft looks for the answer to a snapshot when it has sent the body.
func TestIdentity_RefusalReachesASenderThatReadsLast(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", as("eu/n2!"))
		refuseAll(t, b)
		conn := dialRaw(t, net, "a")
		say(t, conn, string(snapshotHeader(100_000)))
		for range 10 {
			pause(testTimeout / 20)
			say(t, conn, strings.Repeat("x", 10_000))
		}
		answer := make([]byte, 100)
		_, err := conn.Read(answer)
		require.NoError(t, err)
		require.Contains(t, string(answer), "no identity: ")
	})
}

// An Identity is no proof. Whoever connects can claim to be anyone, and a copy of a
// cluster, with its name and IDs, is the cluster.
func TestIdentity_BelievesWhatAPeerSays(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", as("eu/n2!"))
		arrived := make(chan any, 1)
		serve(t, b, func(rpc raftwire.RPC) { arrived <- rpc.Command; accept(rpc) })
		claim := introduction(map[string]any{"Cluster": "eu", "Node": "n2"}) // b itself
		say(t, dialRaw(t, net, "a"), "\x03"+string(appendMsgpack(nil, claim)))
		require.IsType(t, new(raftwire.TimeoutNowRequest), <-arrived)
	})
	onBothAs(t, "eu/n1!", "eu/n2!", func(t *testing.T, a, copyOfB caller) {
		serve(t, copyOfB, accept)
		for name, call := range meaning {
			require.NoError(t, call(a, "n2"), name)
		}
	})
}

// A sender that does not hang up has Timeout.
func TestIdentity_EndsTheConnectionOfOneThatStays(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", as("eu/n2!"))
		refuseAll(t, b)
		conn := dialRaw(t, net, "a")
		say(t, conn, "\x03\x80\x03\x80")
		for range 30 {
			pause(testTimeout / 20)
			_, _ = io.WriteString(conn, "\x03\x80")
		}
		require.Empty(t, b.Stats().Inbound)
	})
}

// Whoever closes the connection meanwhile, the refusal is told of.
func TestIdentity_CountsTheRefusalOfOneThatStays(t *testing.T) {
	for name, end := range map[string]func(b *raftwire.NetworkTransport){
		"CloseStreams": (*raftwire.NetworkTransport).CloseStreams,
		"Close":        func(b *raftwire.NetworkTransport) { _ = b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				var seen events
				b := listen(t, net, "b", as("eu/n2!"), withHooks(seen.hooks()))
				refuseAll(t, b)
				say(t, dialRaw(t, net, "a"), "\x03\x80")
				synctest.Wait()
				end(b)
				synctest.Wait()
				require.Equal(t, raftwire.Refusals{NoIdentity: 1}, b.Refusals())
				require.Len(t, seen.refused, 1)
			})
		})
	}
}

// Nobody takes a text for a granted pre-vote, whatever names it has.
func TestIdentity_TextsAreNoPreVote(t *testing.T) {
	onBothAs(t, "unexpected command/n1", "eu/unexpected command", func(t *testing.T, a, b caller) {
		refuseAll(t, b)
		err := meaning["RequestPreVote"](a, "unexpected command")
		require.ErrorIs(t, err, raftwire.ErrWrongCluster)
		require.NotContains(t, err.Error(), "unexpected command")
	})
	onBothAs(t, "", "eu/unexpected command!", func(t *testing.T, a, b caller) {
		require.NotContains(t, meaning["RequestPreVote"](a, "n2").Error(), "unexpected command")
	})
}

// Each host has its line, with both identities, and no more: up to eight hosts.
func TestIdentity_LogsRefusals(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		b := listen(t, net, "b", as("eu/n2"), withLog(&log))
		for i := range 10 {
			a := listen(t, net, fmt.Sprint("a", i), as("us/n1"))
			for range 5 {
				require.Error(t, meaning["RequestVote"](a, "n2"))
				synctest.Wait() // for b to tell of it
			}
			require.NoError(t, a.Close())
			synctest.Wait()
		}
		require.NoError(t, b.Close())
	})
	lines := linesWith(log.String(), "[WARN]")
	require.Len(t, lines, 8, log.String())
	require.Contains(t, lines[0], `connection refused: local=b peer=a0:40001 error="wrong cluster: the peer is node \"n1\" of cluster \"us\", and means node \"n2\"; this is node \"n2\" of cluster \"eu\""`)
}

func TestIdentity_ThatMakesNoSenseIsAnError(t *testing.T) {
	for _, c := range []struct{ identity, want string }{
		{"eu/", "set Cluster and Node, or leave all of it zero"},
		{"/n1", "set Cluster and Node, or leave all of it zero"},
		{"!", "set Cluster and Node, or leave all of it zero"},
		{"eu/" + strings.Repeat("n", 1025), "use at most 1024 for each"},
	} {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			a := listen(t, net, "a", as(c.identity))
			require.True(t, a.IsShutdown())
			err := meaning["RequestVote"](a, "n2")
			require.ErrorContains(t, err, "NetworkTransportConfig.Identity is {Cluster:")
			require.ErrorContains(t, err, c.want)
			_, inmem := raftwire.NewInmemTransport("")
			require.Panics(t, func() { inmem.SetIdentity(identityOf(c.identity)) })
		})
	}
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		a := listen(t, net, "a", as("eu/n1"))
		listen(t, net, "b", as("eu/n2"))
		id := raftwire.ServerID(strings.Repeat("n", 1025))
		require.ErrorContains(t, meaning["RequestVote"](a, id), "nothing was sent: the server's ID has 1025 bytes, and Identity takes at most 1024")
	})
}

// wireOf returns what a sends to b in two requests, and what b answers.
func wireOf(t *testing.T, nameA, nameB string, answer error) (sent, answered string) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		tap := &tappedLayer{StreamLayer: hostLayer(t, network, "b")}
		a, b := listen(t, network, "a", as(nameA)), transport(t, as(nameB), withStream(tap))
		serve(t, b, func(rpc raftwire.RPC) {
			if rpc.Respond(nil, answer); answer == nil {
				return
			}
		})
		for range 2 {
			args := &raftwire.TimeoutNowRequest{RPCHeader: raftwire.RPCHeader{ID: []byte("n1")}}
			_ = a.TimeoutNow("n2", "b", args, new(raftwire.TimeoutNowResponse))
			synctest.Wait() // a refused connection has ended before the next one
		}
		require.NoError(t, b.Close())
		sent, answered = hex.EncodeToString(tap.in.Bytes()), hex.EncodeToString(tap.out.Bytes())
	})
	return sent, answered
}

// tappedLayer keeps what comes in and goes out on what it accepts, one connection after another.
type tappedLayer struct {
	raftwire.StreamLayer
	in, out bytes.Buffer
}

func (l *tappedLayer) Accept() (net.Conn, error) {
	conn, err := l.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return &tappedConn{conn, l}, nil
}

type tappedConn struct {
	net.Conn
	to *tappedLayer
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.in.Write(p[:n])
	return n, err
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.to.out.Write(p)
	return c.Conn.Write(p)
}

// goldenIdentity reads testdata/golden/identity.txt: comments and lines "name hex".
func goldenIdentity(t *testing.T) map[string]string {
	text, err := os.ReadFile("testdata/golden/identity.txt")
	require.NoError(t, err)
	golden := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, digits, found := strings.Cut(strings.TrimSpace(line), " "); found && name != "#" {
			golden[name] = digits
		}
	}
	return golden
}

// Without an Identity no byte is another than hashicorp/raft's. With one, the first
// request and its answer have the field, and later ones do not.
func TestIdentity_GoldenBytes(t *testing.T) {
	golden := goldenIdentity(t)
	for _, c := range []struct {
		name, a, b string
		answer     error
	}{
		{"off", "", "", nil},
		{"off-here", "", "eu/n2", nil},
		{"off-there", "eu/n1", "", nil},
		{"on", "eu/n1", "eu/n2", nil},
		{"on-error", "eu/n1", "eu/n2", errors.New("no")},
		{"refused", "us/n1", "eu/n2", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent, answered := wireOf(t, c.a, c.b, c.answer)
			require.Equal(t, golden[c.name+"-requests"], sent)
			require.Equal(t, golden[c.name+"-answers"], answered)
		})
	}
	plain := string(requestFrame(&raftwire.TimeoutNowRequest{RPCHeader: raftwire.RPCHeader{ID: []byte("n1")}}))
	require.Equal(t, hex.EncodeToString([]byte(plain+plain)), golden["off-requests"])
	require.Equal(t, hex.EncodeToString([]byte("\xa0\xc0\xa0\xc0")), golden["off-answers"])
	require.Equal(t, golden["off-requests"], golden["off-here-requests"])
	require.Equal(t, golden["off-answers"], golden["off-here-answers"])
	require.Equal(t, golden["off-answers"], golden["off-there-answers"])
}

// hashicorp's codec reads the messages as if the field were not there.
func TestIdentity_IsSkippedByHashicorpsCodec(t *testing.T) {
	golden := goldenIdentity(t)
	request, err := hex.DecodeString(golden["on-requests"])
	require.NoError(t, err)
	var got raftwire.TimeoutNowRequest
	require.NoError(t, codec.NewDecoderBytes(request[1:], new(codec.MsgpackHandle)).Decode(&got))
	require.Equal(t, "n1", string(got.ID))
	for _, name := range []string{"on-answers", "on-error-answers", "refused-answers"} {
		answer, err := hex.DecodeString(golden[name])
		require.NoError(t, err)
		decoder := codec.NewDecoderBytes(answer, new(codec.MsgpackHandle))
		var text string
		var resp raftwire.TimeoutNowResponse
		require.NoError(t, decoder.Decode(&text))
		require.NoError(t, decoder.Decode(&resp))
		require.Zero(t, resp)
	}
}

// Once it is said, it costs no allocation.
func TestIdentity_CostsNoAllocationLater(t *testing.T) {
	allocs := func(nameA, nameB string) float64 {
		a, b := listenTCP(t, "127.0.0.1:0", as(nameA)), listenTCP(t, "127.0.0.1:0", as(nameB))
		serve(t, b, func(rpc raftwire.RPC) { rpc.Respond(nil, nil) })
		args, resp := &raftwire.AppendEntriesRequest{RPCHeader: headerOf("n1")}, new(raftwire.AppendEntriesResponse)
		target := b.LocalAddr()
		return leastAllocs(func() { _ = a.AppendEntries("n2", target, args, resp) })
	}
	off := allocs("", "")
	require.Equal(t, off, allocs("eu/n1!", "eu/n2!"))
}

// Every truncation of an introduced request ends the connection, and reaches no core.
func TestIdentity_TruncatedIsNoRequest(t *testing.T) {
	golden := goldenIdentity(t)
	all, err := hex.DecodeString(golden["on-requests"])
	require.NoError(t, err)
	plain := len(requestFrame(&raftwire.TimeoutNowRequest{RPCHeader: raftwire.RPCHeader{ID: []byte("n1")}}))
	for n := range len(all) - plain {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			b := listen(t, net, "b", as("eu/n2"))
			refuseAll(t, b)
			conn := dialRaw(t, net, "a")
			say(t, conn, string(all[:n]))
			require.NoError(t, conn.(*faultnet.Conn).CloseWrite())
			rest, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Empty(t, rest)
		})
	}
}

// Every truncation of an introduced answer is an error, and leaves no response.
func TestIdentity_TruncatedIsNoAnswer(t *testing.T) {
	answer := appendMsgpack(appendMsgpack(nil, ""), map[string]any{
		"Term": 7, "raftwire": map[string]any{"Revision": 1, "Cluster": "eu", "Node": "n2"},
	})
	for n := range len(answer) + 1 {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			layer := hostLayer(t, net, "b")
			defer func() { _ = layer.Close(); synctest.Wait() }() // for the peer below to close its end
			go func() {
				conn, err := layer.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write(answer[:n])
				_ = conn.Close()
			}()
			a := listen(t, net, "a", as("eu/n1!"))
			resp := raftwire.AppendEntriesResponse{Success: true}
			err := a.AppendEntries("n2", "b", &raftwire.AppendEntriesRequest{}, &resp)
			if n == len(answer) {
				require.NoError(t, err)
				require.Equal(t, raftwire.AppendEntriesResponse{Term: 7}, resp)
				return
			}
			require.Error(t, err)
			require.Zero(t, resp)
		})
	}
}
