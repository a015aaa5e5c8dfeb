package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
)

// A task is a cell with the rivals that can be measured in it.
type task struct {
	cell
	rivals []rival
}

// tasks returns the cells of a run, those without a rival left out.
func (o options) tasks() []task {
	var tasks []task
	for _, workload := range o.workloads {
		for _, window := range o.windows {
			for _, followers := range o.followers {
				t := o.task(cell{workload, window, followers})
				if len(t.rivals) > 0 {
					tasks = append(tasks, t)
				}
			}
		}
	}
	return tasks
}

func (o options) task(c cell) task {
	t := task{cell: c}
	for _, r := range o.rivals {
		if r.takes(c) && (r.isTransport() || (o.target == "" && o.rate == 0)) {
			t.rivals = append(t.rivals, r)
		}
	}
	return t
}

// benchmark measures every task once a round. It ends early when ctx is done
// or a rival fails, and reports what is complete by then.
func benchmark(ctx context.Context, opts options, status *progress) (*Report, error) {
	if opts.with != "" {
		this, other, end, err := startBoth(ctx, opts.with)
		if err != nil {
			return newReport(opts), err
		}
		defer func() { _ = end() }() // an error of theirs is in an answer
		opts.rivals, opts.with = compareBuilds(opts.rivals, this, other), ""
	}
	ballast := liveHeap(opts.heap)
	defer runtime.KeepAlive(ballast)
	tasks := opts.tasks()
	report := newReport(opts)
	defer report.summarize()
	contents := make(map[workload]*content)
	for _, w := range opts.workloads {
		contents[w] = newContent(w)
	}
	status.begin(measurements(opts, tasks))
	defer status.end()
	for round := range opts.rounds {
		for _, t := range tasks {
			s := setup{
				content: contents[t.workload], window: t.window, followers: t.followers, rate: opts.rate, timeout: opts.timeout,
				target: opts.target, credentials: opts.credentials,
			}
			if err := runTask(ctx, opts, t, s, round, report, status); err != nil {
				return report, err
			}
		}
	}
	return report, nil
}

func measurements(opts options, tasks []task) (n int) {
	for _, t := range tasks {
		n += opts.rounds * len(t.rivals)
	}
	return n
}

// runTask measures the rivals of a task, one after the other.
func runTask(ctx context.Context, opts options, t task, s setup, round int, report *Report, status *progress) error {
	for _, r := range turn(t.rivals, round) {
		status.show(round, opts.rounds, fmt.Sprintf("%-9s %-6s  %-19s", t.workload, t.lane(), r))
		figures, err := measureRival(ctx, r, t.cell, s, opts)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted in round %d of %d", round+1, opts.rounds)
		}
		if err != nil {
			return fmt.Errorf("%s at %s, window %s: %w", r, t.workload, t.lane(), err)
		}
		report.add(t.cell, r, figures)
		status.measured(figures.RPCsPerSecond, "RPC/s")
	}
	return nil
}

// measureRival measures a rival, in the process of a build if it has one.
func measureRival(ctx context.Context, r rival, c cell, s setup, opts options) (Figures, error) {
	if r.build == nil {
		return measure(ctx, r, c.workload, s, opts.slice, opts.profile)
	}
	return r.build.measure(buildQuestion{
		Rival: r.asks, Workload: c.workload, Window: c.window, Followers: c.followers,
		Rate: opts.rate, Slice: opts.slice, Timeout: opts.timeout, Heap: opts.heap, TLS: opts.credentials != nil, Profile: opts.profile,
	})
}

// turn returns rivals in the order of a round. The second of two rounds has
// the order of the first reversed (A B, B A), so that everybody comes before and
// after everybody else; the next two begin with another rival.
func turn[T any](rivals []T, round int) []T {
	first := round / 2 % len(rivals)
	order := slices.Concat(rivals[first:], rivals[:first])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
