package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// clients read and write until they are stopped, each beside a node that says
// that it leads: of two that do, any.
type clients struct {
	cluster *cluster
	history *history
	// verified lets them read without the log, but not hand leadership over.
	// The core counts an answer to a heartbeat as a confirmation even if the
	// heartbeat was sent before it was asked for one. Usually the lease makes
	// up for that; but a transfer does not wait for the lease to end.
	verified bool
	stop     func()
	running  sync.WaitGroup
}

const (
	clientCount = 3
	clientPause = 300 * time.Millisecond // at most, and half of that on average
	// burst is how many writes a client sometimes begins at once, so that
	// windows fill.
	burst = 4
)

// keys are few, so that clients meet.
var keys = []string{"x", "y"}

func startClients(c *cluster, h *history, seed int64, verified bool) *clients {
	ctx, stop := context.WithCancel(context.Background())
	all := &clients{cluster: c, history: h, verified: verified, stop: stop}
	for i := range clientCount {
		one := &client{
			clients: all,
			name:    fmt.Sprintf("client%d", i),
			random:  rand.New(rand.NewPCG(uint64(seed), clientStream+uint64(i))),
		}
		all.running.Go(func() { one.run(ctx) })
	}
	return all
}

// clientStream keeps what clients decide apart from what else the seed does.
const clientStream = 100

type client struct {
	*clients
	name   string
	random *rand.Rand
	writes int
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		if l := c.choose(); l != nil {
			c.act(l)
		}
		time.Sleep(time.Duration(c.random.Int64N(int64(clientPause)))) // sleep-ok: fake time
	}
}

// choose returns a node that says that it leads, or nil.
func (c *client) choose() *life {
	nodes := c.cluster.nodes
	for _, i := range c.random.Perm(len(nodes)) {
		if l := nodes[i].running(); l != nil && l.State() == raft.Leader {
			return l
		}
	}
	return nil
}

func (c *client) act(l *life) {
	key := keys[c.random.IntN(len(keys))]
	switch dice := c.random.IntN(100); {
	case dice < 25 && c.cluster.options.sabotage.stale:
		c.read(key, c.readAnywhere)
	case dice < 50:
		c.write(l, key, c.nextValue())
	case dice < 60:
		c.writeMany(l, key)
	case dice < 75:
		c.read(key, l.read)
	case dice < 80 && c.cluster.options.snapshots:
		_ = l.Snapshot().Error() // fails if there is nothing new
	case c.verified:
		c.read(key, l.readVerified)
	case dice < 81 && !c.cluster.options.mayLeaveUnanswered():
		_ = l.LeadershipTransfer().Error() // fails if there is nobody to take it
	}
}

func (c *client) writeMany(l *life, key string) {
	var writes sync.WaitGroup
	for range burst {
		value := c.nextValue()
		writes.Go(func() { c.write(l, key, value) })
	}
	writes.Wait()
}

// readAnywhere is how not to read.
func (c *client) readAnywhere(key string) (string, error) {
	nodes := c.cluster.nodes
	l := nodes[c.random.IntN(len(nodes))].running()
	if l == nil {
		return "", errDeposed
	}
	return l.machine.get(key), nil
}

func (c *client) nextValue() string {
	c.writes++
	return fmt.Sprintf("%s.%d", c.name[len("client"):], c.writes)
}

func (c *client) write(l *life, key, value string) {
	o := operation{client: c.name, key: key, value: value, begin: c.history.now()}
	var err error
	o.result, err = l.appendTo(key, value)
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return // before anything was done
	}
	o.end, o.unclear = c.history.now(), err != nil
	c.history.add(o)
}

func (c *client) read(key string, from func(key string) (string, error)) {
	o := operation{client: c.name, key: key, begin: c.history.now()}
	var err error
	if o.result, err = from(key); err == nil {
		o.end = c.history.now()
		c.history.add(o)
	}
}
