package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A cluster is its nodes, of which the first leads. It is used by one goroutine.
type cluster struct {
	nodes   []*process // nil where one was killed
	setups  []nodeSetup
	limit   time.Duration // of a step
	start   nodeStarter
	context context.Context
}

// startCluster returns when the cluster has a leader.
func (o clusterOptions) startCluster(ctx context.Context, rival string, cell clusterCell, dir string, start nodeStarter) (*cluster, error) {
	c := &cluster{limit: 2 * o.timeout, start: start, context: ctx}
	for node := range int(cell.Nodes) {
		s := nodeSetup{
			Rival: rival, Node: node, Listen: loopback, Window: cell.Window, Timeout: o.timeout,
			Heartbeat: o.mode.heartbeat, Heap: o.heap, Path: o.path,
		}
		if cell.Log == onDisk {
			s.Dir = filepath.Join(dir, strconv.Itoa(node))
		}
		if cell.Wire == overTLS {
			s.Secret = o.secret
		}
		if o.profile != "" {
			s.Profile = filepath.Join(o.profile, cell.fileName(rival, node))
		}
		c.setups = append(c.setups, s)
	}
	c.nodes = make([]*process, len(c.setups))
	if err := errors.Join(c.open(), c.lead()); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// open starts all nodes at once.
func (c *cluster) open() error {
	errs := make([]error, len(c.setups))
	var opening sync.WaitGroup
	for node := range c.setups {
		opening.Go(func() { errs[node] = c.openNode(node) })
	}
	opening.Wait()
	return errors.Join(errs...)
}

// openNode starts a node, at the address that it had before if it had one.
func (c *cluster) openNode(node int) (err error) {
	if c.nodes[node], err = c.start(c.context); err != nil {
		return err
	}
	a, err := c.ask(node, nodeQuestion{Step: stepOpen, Open: c.setups[node]})
	if err != nil {
		return err
	}
	c.setups[node].Listen = a.Address
	return nil
}

func (c *cluster) lead() error {
	var addresses []string
	for _, s := range c.setups {
		addresses = append(addresses, s.Listen)
	}
	_, err := c.ask(0, nodeQuestion{Step: stepLead, Lead: addresses})
	return err
}

// ask has a node do a step. A node that takes too long is killed.
func (c *cluster) ask(node int, q nodeQuestion) (a nodeAnswer, err error) {
	p := c.nodes[node]
	defer time.AfterFunc(c.limit, p.kill).Stop()
	if err := p.ask(q, &a); err != nil {
		return a, fmt.Errorf("node %d, %s: %w", node, q.Step, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("node %d: %s", node, a.Error)
	}
	return a, nil
}

func (c *cluster) write(node int, l load) error {
	_, err := c.ask(node, nodeQuestion{Step: stepWrite, Load: l})
	return err
}

// read returns what each node has used and what was written to the first, since
// the last read.
func (c *cluster) read() (used []nodeUsage, written loadFigures, err error) {
	for node := range c.nodes {
		a, err := c.ask(node, nodeQuestion{Step: stepRead})
		if err != nil {
			return nil, loadFigures{}, err
		}
		used = append(used, a.Used)
		if node == 0 {
			written = a.Load
		}
	}
	if written.Error != "" {
		return nil, loadFigures{}, fmt.Errorf("an entry was not applied: %s", written.Error)
	}
	return used, written, nil
}

// kill ends a node as a failure of its machine would.
func (c *cluster) kill(node int) {
	c.nodes[node].kill()
	_ = c.nodes[node].end() // it was killed
	c.nodes[node] = nil
}

// end ends the first node first: the others would be missed.
func (c *cluster) end() error {
	var errs []error
	for _, p := range c.nodes {
		if p != nil {
			errs = append(errs, p.end())
		}
	}
	return errors.Join(errs...)
}
