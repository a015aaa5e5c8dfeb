package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Figures are what was measured of a rival in a cell, in one round or as
// medians over rounds. 0 means that there is no such figure.
type Figures struct {
	RPCs             float64 `json:"rpcs"`
	Seconds          float64 `json:"seconds"`
	RPCsPerSecond    float64 `json:"rpcs_per_second"`
	EntriesPerSecond float64 `json:"entries_per_second"`
	MBPerSecond      float64 `json:"mb_per_second"` // 10^6 bytes of payload
	P50Micros        float64 `json:"p50_us,omitempty"`
	P99Micros        float64 `json:"p99_us,omitempty"`
	P999Micros       float64 `json:"p999_us,omitempty"`  // at a rate, where latency counts from the intended start
	AllocsPerRPC     float64 `json:"allocs_per_rpc"`     // both ends
	AllocBytesPerRPC float64 `json:"alloc_b_per_rpc"`    // both ends
	CPUSecsPerMRPC   float64 `json:"cpu_s_per_million"`  // both ends, user and system
	Spent            Spent   `json:"spent_ns,omitempty"` // with -profile
}

// measure opens an exchange, warms it up for an eighth of the slice, and
// measures it for the slice. It ends early, without figures, when ctx is done.
func measure(ctx context.Context, r rival, w workload, s setup, slice time.Duration, profile bool) (figures Figures, err error) {
	runtime.GC()
	x, err := r.open(s)
	if err != nil {
		return Figures{}, err
	}
	defer func() {
		if err == nil || !errors.Is(err, errStuck) {
			err = errors.Join(err, within(2*s.timeout, "closing", x.Close))
		}
	}()
	latency := newHistogram()
	if _, err := runFor(ctx, x, slice/8, s.timeout, latency); err != nil {
		return Figures{}, fmt.Errorf("warming up: %w", err)
	}
	latency.Reset()
	var n int64
	var used usage
	run := func() (err error) {
		before := readUsage()
		n, err = runFor(ctx, x, slice, s.timeout, latency)
		used = readUsage().since(before)
		return err
	}
	var spent Spent
	if profile {
		spent, err = profiled(run)
	} else {
		err = run()
	}
	if err != nil {
		return Figures{}, err
	}
	figures = newFigures(w, n, used, latency)
	if s.rate == 0 {
		figures.P999Micros = 0 // too few calls, in a short slice
	}
	figures.Spent = spent
	return figures, nil
}

// newHistogram covers latencies up to a minute with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute), 3)
}

// runFor runs an exchange for a time.
func runFor(ctx context.Context, x exchange, d, timeout time.Duration, latency *hdrhistogram.Histogram) (int64, error) {
	var stop atomic.Bool
	defer time.AfterFunc(d, func() { stop.Store(true) }).Stop()
	defer context.AfterFunc(ctx, func() { stop.Store(true) })()
	var n int64
	err := within(d+2*timeout, "running", func() (err error) {
		n, err = x.run(&stop, latency)
		return err
	})
	if err != nil {
		return 0, err // n may still be written
	}
	return n, ctx.Err()
}

var errStuck = errors.New("stuck although requests have a timeout")

// within calls f. If f does not return in time it is left behind.
func within(limit time.Duration, step string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("%s for %v: %w", step, limit, errStuck)
	}
}

func newFigures(w workload, n int64, used usage, latency *hdrhistogram.Histogram) Figures {
	rpcs, seconds := float64(n), used.at.Seconds()
	f := Figures{
		RPCs:             rpcs,
		Seconds:          seconds,
		RPCsPerSecond:    rpcs / seconds,
		EntriesPerSecond: rpcs / seconds * float64(w.entries),
		MBPerSecond:      rpcs / seconds * float64(w.payload()) / 1e6,
		AllocsPerRPC:     float64(used.allocs) / rpcs,
		AllocBytesPerRPC: float64(used.allocBytes) / rpcs,
		CPUSecsPerMRPC:   used.cpu.Seconds() / rpcs * 1e6,
	}
	if latency.TotalCount() > 0 {
		f.P50Micros, f.P99Micros, f.P999Micros = quantiles(latency)
	}
	return f
}

// quantiles returns the 50th, 99th and 99.9th percentile in microseconds.
func quantiles(latency *hdrhistogram.Histogram) (p50, p99, p999 float64) {
	at := func(q float64) float64 { return float64(latency.ValueAtQuantile(q)) / 1e3 }
	return at(50), at(99), at(99.9)
}

// usage is what the process has used at a time, or between two times.
type usage struct {
	at                 time.Duration // since the program started
	cpu                time.Duration
	allocs, allocBytes uint64
}

var programStart = time.Now()

// readUsage stops the world for a moment, so it is not called while the clock runs.
func readUsage() usage {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return usage{
		at:         time.Since(programStart),
		cpu:        cpuTime(),
		allocs:     mem.Mallocs,
		allocBytes: mem.TotalAlloc,
	}
}

func (u usage) since(earlier usage) usage {
	return usage{
		at:         u.at - earlier.at,
		cpu:        u.cpu - earlier.cpu,
		allocs:     u.allocs - earlier.allocs,
		allocBytes: u.allocBytes - earlier.allocBytes,
	}
}
