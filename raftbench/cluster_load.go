package main

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	hashicorp "github.com/hashicorp/raft"
)

// A load is what writers do to a cluster: each applies an entry, waits until it
// is applied, and goes on.
type load struct {
	Writers int     `json:"writers"`
	Size    int     `json:"size"`  // of an entry
	Rate    float64 `json:"rate"`  // entries a second of all writers together; 0 means as many as there can be
	Retry   bool    `json:"retry"` // where there is no leader, until there is one
}

// loadFigures are what came of a load, since they were asked for before.
type loadFigures struct {
	Applies   float64   `json:"applies"`
	P50       float64   `json:"p50_us"`
	P99       float64   `json:"p99_us"`
	P999      float64   `json:"p999_us"`
	PerTenth  []float64 `json:"per_tenth"` // applies in each tenth of a second
	FirstNano int64     `json:"first_ns"`  // when the first entry was applied, since 1970; 0 means never
	Error     string    `json:"error,omitempty"`
}

// running is a load that is running.
type running struct {
	load
	raft    *hashicorp.Raft
	timeout time.Duration
	pace    *pace

	quit    chan struct{} // closed by stop
	writing sync.WaitGroup

	lock    sync.Mutex // protects following
	began   time.Time
	latency *hdrhistogram.Histogram
	figures loadFigures
}

// start starts writers. They end with stop, or when an entry is refused.
func (l load) start(r *hashicorp.Raft, timeout time.Duration) *running {
	w := &running{load: l, raft: r, timeout: timeout, pace: newPace(l.Rate), quit: make(chan struct{})}
	w.read()
	for range l.Writers {
		w.writing.Go(w.write)
	}
	return w
}

func (w *running) stop() {
	close(w.quit)
	w.writing.Wait()
}

func (w *running) write() {
	entry := make([]byte, w.Size)
	for {
		start, ok := w.pace.next(w.quit)
		if !ok {
			return
		}
		err := w.apply(entry)
		w.record(time.Since(start), err)
		if err != nil {
			return
		}
	}
}

func (w *running) apply(entry []byte) error {
	for {
		err := w.raft.Apply(entry, w.timeout).Error()
		if err == nil || !w.Retry || !isWithoutLeader(err) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-w.quit:
			return err
		}
	}
}

func isWithoutLeader(err error) bool {
	return errors.Is(err, hashicorp.ErrNotLeader) || errors.Is(err, hashicorp.ErrLeadershipLost)
}

func (w *running) record(took time.Duration, err error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	now := time.Now()
	if err != nil {
		w.figures.Error = err.Error()
		return
	}
	if w.figures.FirstNano == 0 {
		w.figures.FirstNano = now.UnixNano()
	}
	record(w.latency, took)
	for tenth := int(now.Sub(w.began) / (time.Second / 10)); len(w.figures.PerTenth) <= tenth; {
		w.figures.PerTenth = append(w.figures.PerTenth, 0)
	}
	w.figures.PerTenth[len(w.figures.PerTenth)-1]++
}

// read returns the figures since the last read.
func (w *running) read() loadFigures {
	w.lock.Lock()
	defer w.lock.Unlock()
	f := w.figures
	if w.latency != nil {
		f.Applies = float64(w.latency.TotalCount())
		f.P50, f.P99, f.P999 = quantiles(w.latency)
	}
	w.began, w.latency, w.figures = time.Now(), newHistogram(), loadFigures{}
	return f
}
