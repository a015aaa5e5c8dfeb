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
		if r.takes(c) && (o.target == "" || r.isTransport()) {
			t.rivals = append(t.rivals, r)
		}
	}
	return t
}

// benchmark measures every task once a round. It ends early when ctx is done
// or a rival fails, and reports what is complete by then.
func benchmark(ctx context.Context, opts options, status *progress) (*Report, error) {
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
				content: contents[t.workload], window: t.window, followers: t.followers, timeout: opts.timeout,
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
		figures, err := measure(ctx, r, t.workload, s, opts.slice, opts.profile)
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
