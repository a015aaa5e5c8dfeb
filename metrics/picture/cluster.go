package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cluster is three processes of kvnode.
type cluster struct {
	nodes []*node
	log   *os.File
}

type node struct {
	name       string
	raft, http string // addresses
	args       []string
	command    *exec.Cmd // nil while it does not run
}

func startCluster(ctx context.Context, folder string) (*cluster, error) {
	program := filepath.Join(folder, "kvnode")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/raftwire/raftwire/hashicorpraft/examples/kvnode")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building kvnode: %w\n%s", err, said)
	}
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return nil, err
	}
	c := &cluster{log: log}
	var peers []string
	for _, name := range []string{"a", "b", "c"} {
		n := &node{name: name, raft: freeAddress(), http: freeAddress()}
		c.nodes = append(c.nodes, n)
		peers = append(peers, name+"="+n.raft+"/"+n.http)
	}
	for i, n := range c.nodes {
		n.args = []string{program, "-id", n.name, "-peers", strings.Join(peers, ","), "-data", folder, fmt.Sprintf("-bootstrap=%v", i == 0)}
		if err := c.start(n); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, c.awaitLeader(ctx)
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // this machine has no loopback
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start returns when the node says that it listens.
func (c *cluster) start(n *node) error {
	command := exec.Command(n.args[0], n.args[1:]...)
	command.Stderr = c.log
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	n.command = command
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

// kill ends a node without a word.
func (n *node) kill() error {
	if n.command == nil {
		return nil
	}
	command := n.command
	n.command = nil
	if err := command.Process.Kill(); err != nil {
		return err
	}
	_ = command.Wait() // it was killed, and says so
	return nil
}

func (c *cluster) stop() error {
	err := c.log.Close()
	for _, n := range c.nodes {
		err = errors.Join(err, n.kill())
	}
	return err
}

func (c *cluster) awaitLeader(ctx context.Context) error {
	for ; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		if c.leader(ctx) != nil {
			return nil
		}
	}
	return context.Cause(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// leader returns the node that says it leads, or nil.
func (c *cluster) leader(ctx context.Context) *node {
	for _, n := range c.nodes {
		if figures, err := n.scrape(ctx); err == nil && figures.Sum("raft_leader") == 1 {
			return n
		}
	}
	return nil
}

// tell lets things happen to the cluster.
func (c *cluster) tell(ctx context.Context, r *record) error {
	pause(ctx, 8*time.Second)
	leader := c.leader(ctx)
	if leader == nil {
		return errors.New("there is no leader")
	}
	r.note("a web crawler calls at the Raft port of " + leader.name)
	leader.crawl(ctx)

	follower := c.nodes[0]
	if follower == leader {
		follower = c.nodes[1]
	}
	pause(ctx, 4*time.Second)
	r.note("follower " + follower.name + " is killed")
	if err := follower.kill(); err != nil {
		return err
	}
	pause(ctx, 7*time.Second)
	r.note(follower.name + " is started again")
	if err := c.start(follower); err != nil {
		return err
	}

	pause(ctx, 9*time.Second)
	r.note("leader " + leader.name + " freezes")
	if err := freeze(leader.command.Process); err != nil {
		return err
	}
	pause(ctx, 10*time.Second)
	r.note(leader.name + " goes on")
	return thaw(leader.command.Process)
}

// crawl is somebody who takes the Raft port for a web server's.
func (n *node) crawl(ctx context.Context) {
	client := &http.Client{Timeout: time.Second}
	for range 40 {
		if answer, err := client.Get("http://" + n.raft + "/"); err == nil {
			_ = answer.Body.Close()
		}
		pause(ctx, 100*time.Millisecond)
	}
}
