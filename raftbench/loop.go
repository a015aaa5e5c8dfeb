package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/hashicorp/go-hclog"
)

// What the transports have in common.
const (
	loopback = "127.0.0.1:0"
	maxPool  = 3
)

var (
	silence = hclog.NewNullLogger()

	errAltered = errors.New("the request did not arrive as it was sent")
	errNoMore  = errors.New("nothing more is sent")
)

// A link is a transport that sends requests to another, which answers them.
type link interface {
	// call sends a request, waits for the answer and checks it.
	call() error
	pipeline() (pipeline, error)
	Close() error
}

// A pipeline is a link's pipeline, used by one goroutine that sends and one
// that receives.
type pipeline interface {
	send() error
	// receive waits for the next answer, checks it and tells when its request
	// was sent, or returns errNoMore if quit was closed.
	receive(quit <-chan struct{}) (start time.Time, err error)
	Close() error
}

// A tally checks that answers are successes and come in order.
type tally struct{ seen uint64 }

func (t *tally) check(success bool, lastLog uint64) error {
	if want := firstAnswer + t.seen; !success || lastLog != want {
		return fmt.Errorf("wrong answer: success %v, last log %d, where %d was due", success, lastLog, want)
	}
	t.seen++
	return nil
}

// opensLoop returns a rival's open, made of what opens its link.
func opensLoop(open func(setup) (link, error)) func(setup) (exchange, error) {
	return func(s setup) (exchange, error) {
		l, err := open(s)
		if err != nil {
			return nil, err
		}
		if s.window == oneByOne {
			return calls{l}, nil
		}
		p, err := l.pipeline()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		return &pipelined{link: l, pipeline: p}, nil
	}
}

// calls exchanges requests one by one.
type calls struct{ link }

func (c calls) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	for n := int64(1); ; n++ {
		start := time.Now()
		if err := c.call(); err != nil {
			return n, err
		}
		record(latency, time.Since(start))
		if stop.Load() {
			return n, nil
		}
	}
}

// pipelined exchanges requests through a pipeline.
type pipelined struct {
	link     link
	pipeline pipeline
}

func (p *pipelined) Close() error {
	return errors.Join(p.pipeline.Close(), p.link.Close())
}

func (p *pipelined) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	var (
		total atomic.Int64 // how many requests there are, once that is certain
		quit  = make(chan struct{})
		sent  = make(chan error, 1)
	)
	go func() {
		err := p.send(stop, &total)
		if err != nil {
			close(quit)
		}
		sent <- err
	}()
	n, err := p.receive(&total, quit, latency)
	if err != nil {
		p.pipeline.Close() // ends a send that waits for a place
	}
	sendErr := <-sent
	if sendErr != nil && errors.Is(err, errNoMore) {
		return n, sendErr
	}
	return n, err
}

// send sends until stop is set. It sets total before it sends the last
// request, so that whoever has received that one knows that it was the last.
func (p *pipelined) send(stop *atomic.Bool, total *atomic.Int64) error {
	for n := int64(1); ; n++ {
		last := stop.Load()
		if last {
			total.Store(n)
		}
		if err := p.pipeline.send(); err != nil || last {
			return err
		}
	}
}

func (p *pipelined) receive(total *atomic.Int64, quit <-chan struct{}, latency *hdrhistogram.Histogram) (int64, error) {
	var previous time.Time
	for n := int64(1); ; n++ {
		start, err := p.pipeline.receive(quit)
		if err != nil {
			return n, err
		}
		if start.Before(previous) {
			return n, errors.New("a future overtook an earlier one")
		}
		previous = start
		record(latency, time.Since(start))
		if n == total.Load() {
			return n, nil
		}
	}
}

func record(latency *hdrhistogram.Histogram, d time.Duration) {
	latency.RecordValue(min(int64(d), latency.HighestTrackableValue()))
}
