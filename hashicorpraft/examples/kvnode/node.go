package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/prometheus/client_golang/prometheus"
)

// node is a Raft node and what it is made of.
type node struct {
	*raft.Raft
	options
	store   *store
	log     *wal.WAL
	logger  hclog.Logger
	metrics *prometheus.Registry
}

// startNode starts the node that o describes. What it has on disk it goes on
// with, so a node that was killed is started as a new one is.
func startNode(o options, logger hclog.Logger) (*node, error) {
	// First the port: a second node of the same name ends here, not in the data.
	metrics := prometheus.NewRegistry()
	transport, err := newTransport(o, logger, metrics)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	n := &node{options: o, store: newStore(logger), logger: logger, metrics: metrics}
	if err := n.start(transport); err != nil {
		return nil, errors.Join(err, n.closeLog(), transport.Close())
	}
	return n, nil
}

func (n *node) start(transport raft.Transport) error {
	folder := filepath.Join(n.data, string(n.id))
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(folder, 2, n.logger.Named("snapshots"))
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	if n.log, err = openLog(filepath.Join(folder, "log"), n.logger); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	n.Raft, err = raft.NewRaft(n.config(), n.store, n.log, n.log, snapshots, transport)
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	watchRaft(n.metrics, n.Raft)
	return n.join()
}

// segmentSize is in what steps, of bytes, the log grows and shrinks on disk.
var segmentSize = 16 << 20

// openLog opens Raft's log, which also keeps its term and its vote.
func openLog(folder string, logger hclog.Logger) (*wal.WAL, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	return wal.Open(folder, wal.WithLogger(logger.Named("log")), wal.WithSegmentSize(segmentSize))
}

func (n *node) config() *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = n.id
	config.Logger = n.logger.Named("raft")
	config.SnapshotThreshold = n.snapshotAfter
	config.TrailingLogs = n.snapshotAfter
	config.SnapshotInterval = 2 * time.Second // how often the threshold is looked at
	return config
}

// join makes the cluster if -bootstrap says so; other nodes hear of it from the
// leader. Several nodes may make it: from the same -peers they make the same. Raft
// refuses if a node that was faster has asked for a vote meanwhile.
func (n *node) join() error {
	switch {
	case n.LastIndex() > 0:
		return nil
	case !n.bootstrap:
		n.logger.Info("belongs to no cluster yet: waits for the node that is started with -bootstrap")
		return nil
	}
	err := n.BootstrapCluster(n.peers.configuration()).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("-bootstrap: %w", err)
	}
	return nil
}

// handOver makes another node the leader, if this one leads: that takes a round
// trip, an election that nobody asked for takes seconds.
func (n *node) handOver() {
	if n.State() != raft.Leader || len(n.peers) == 1 {
		return
	}
	if err := n.LeadershipTransfer().Error(); err != nil {
		n.logger.Warn("leaves without having handed over", "error", err)
	}
}

// stop ends the node, and its transport with it.
func (n *node) stop() error {
	stopped := make(chan error, 1)
	go func() { stopped <- n.Shutdown().Error() }()
	select {
	case err := <-stopped:
		return errors.Join(err, n.closeLog())
	case <-time.After(patience): // the log stays open: Raft may be writing to it
		return fmt.Errorf("raft has not stopped in %v", patience)
	}
}

func (n *node) closeLog() error {
	if n.log == nil {
		return nil
	}
	return n.log.Close()
}
