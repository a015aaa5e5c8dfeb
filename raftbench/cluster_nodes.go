package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A cluster is nodes of one rival, of which the first leads. Their processes
// stay from cell to cell, so that memory is what it is in a node that has run
// for a while: pages that are new to a process cost more than what is measured.
// A cluster is used by one goroutine.
type cluster struct {
	rival string
	limit time.Duration // of a step
	start func() (*process, error)

	processes []*process  // nil where one was killed
	setups    []nodeSetup // of the nodes that are open, in as many processes
}

// open starts all nodes at once, and returns when the first leads.
func (c *cluster) open(o clusterOptions, cell clusterCell, dir string) error {
	c.setups = nil
	for node := range int(cell.Nodes) {
		c.setups = append(c.setups, o.setup(c.rival, node, cell, dir))
	}
	for len(c.processes) < len(c.setups) {
		c.processes = append(c.processes, nil)
	}
	errs := make([]error, len(c.setups))
	var opening sync.WaitGroup
	for node := range c.setups {
		opening.Go(func() { errs[node] = c.openNode(node) })
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.lead()
}

func (o clusterOptions) setup(rival string, node int, cell clusterCell, dir string) nodeSetup {
	s := nodeSetup{
		Rival: rival, Node: node, Listen: loopback, Window: cell.Window, Entry: int(cell.Size), Timeout: o.timeout,
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
	return s
}

// openNode starts a node, at the address that it had before if it was killed.
func (c *cluster) openNode(node int) (err error) {
	if c.processes[node] == nil {
		if c.processes[node], err = c.start(); err != nil {
			return err
		}
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
	p := c.processes[node]
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
	for node := range c.setups {
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
	c.processes[node].kill()
	_ = c.processes[node].end() // it was killed
	c.processes[node] = nil
}

// close ends the nodes, the first one first: the others would be missed.
func (c *cluster) close() error {
	var errs []error
	for node := range c.setups {
		if c.processes[node] != nil {
			_, err := c.ask(node, nodeQuestion{Step: stepClose})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// end ends the processes.
func (c *cluster) end() error {
	var errs []error
	for _, p := range c.processes {
		if p != nil {
			errs = append(errs, p.end())
		}
	}
	return errors.Join(errs...)
}
