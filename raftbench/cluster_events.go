package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

var (
	followerRestart = clusterMode{
		what:     "a follower is killed under load, and starts again a second later",
		figures:  []string{figureCatchUp, figureDip},
		compared: []string{figureCatchUp, figureDip},
		notes: "catch-up ms: from when the follower listens again until it has applied what the leader has; with the log in\n" +
			"memory it begins with nothing. lowest %: applies in the worst tenth of a second since the kill, relative to before,\n" +
			"or - if there was none.\n",
		needsMajority: true,
		heartbeat:     patient,
		measure:       measureRestart,
	}
	leaderElection = clusterMode{
		what:          "the leader is killed",
		figures:       []string{figureElection},
		compared:      []string{figureElection},
		notes:         "to apply ms: from the kill until an entry is applied at a new leader. Raft's timeouts (1 s) are most of it.\n",
		needsMajority: true,
		heartbeat:     time.Second, // Raft's default
		measure:       measureElection,
	}
)

// measureRestart kills the last node.
func measureRestart(ctx context.Context, o clusterOptions, cell clusterCell, c *cluster) (sample, error) {
	if err := c.write(0, o.load(cell)); err != nil {
		return nil, err
	}
	if err := pause(ctx, o.slice); err != nil {
		return nil, err
	}
	before, err := c.ask(0, nodeQuestion{Step: stepRead})
	if err != nil {
		return nil, err
	}
	last := len(c.setups) - 1
	c.kill(last)
	if err := pause(ctx, time.Second); err != nil {
		return nil, err
	}
	if err := c.openNode(last); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := c.catchUp(ctx, last); err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := c.ask(0, nodeQuestion{Step: stepRead})
	if err != nil {
		return nil, err
	}
	return restartSample(before.Load, after.Load, took)
}

// catchUp returns when a node has applied what the leader had applied shortly before.
func (c *cluster) catchUp(ctx context.Context, node int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*c.limit)
	defer cancel()
	for {
		leader, err := c.ask(0, nodeQuestion{Step: stepApplied})
		if err != nil {
			return err
		}
		follower, err := c.ask(node, nodeQuestion{Step: stepApplied})
		if err != nil || follower.Applied >= leader.Applied {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return errors.Join(errors.New("the node does not catch up"), err)
		}
	}
}

// restartSample compares tenths of a second: the last of each are not whole.
func restartSample(before, after loadFigures, took time.Duration) (sample, error) {
	if before.Error != "" || after.Error != "" {
		return nil, errors.New("an entry was not applied: " + before.Error + after.Error)
	}
	if len(before.PerTenth) < 3 || len(after.PerTenth) < 3 {
		return nil, errors.New("nothing was applied for too long")
	}
	usual := max(1, median(before.PerTenth[1:len(before.PerTenth)-1]))
	lowest := slices.Min(after.PerTenth[:len(after.PerTenth)-1])
	return sample{
		figureCatchUp: float64(took.Milliseconds()),
		figureDip:     lowest / usual * 100,
	}, nil
}

// measureElection kills the first node, which leads.
func measureElection(ctx context.Context, o clusterOptions, cell clusterCell, c *cluster) (sample, error) {
	if err := c.write(0, o.load(cell)); err != nil {
		return nil, err
	}
	for node := 1; node < len(c.setups); node++ {
		if err := c.write(node, load{Writers: 1, Size: int(cell.Size), Retry: true}); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, o.slice); err != nil {
		return nil, err
	}
	killed := time.Now()
	c.kill(0)
	first, err := c.firstApply(ctx)
	if err != nil {
		return nil, err
	}
	return sample{figureElection: float64(first.Sub(killed).Microseconds()) / 1e3}, nil
}

// firstApply returns when one of the nodes that are left has applied an entry
// of its writer.
func (c *cluster) firstApply(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*c.limit)
	defer cancel()
	for {
		for node := 1; node < len(c.setups); node++ {
			a, err := c.ask(node, nodeQuestion{Step: stepRead})
			if err != nil {
				return time.Time{}, err
			}
			if a.Load.FirstNano != 0 {
				return time.Unix(0, a.Load.FirstNano), nil
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return time.Time{}, errors.Join(errors.New("there is no new leader"), err)
		}
	}
}
