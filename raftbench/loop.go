package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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

// A stack makes transports of one implementation.
type stack struct {
	// listen returns a transport that answers what it receives.
	listen func(address string, s setup) (receiver, error)
	// dial returns a transport that sends.
	dial func(setup) (sender, error)
}

type receiver interface {
	address() string
	Close() error
}

type sender interface {
	// link returns a way to send the setup's requests to one receiver.
	link(target string, s setup) link
	Close() error
}

// A link belongs to its sender, which closes what it opens.
type link interface {
	// call sends a request, waits for the answer and checks it.
	call() error
	pipeline() (pipeline, error)
	// snapshot sends a snapshot of that size and waits until it is installed.
	snapshot(body io.Reader, size int64) error
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
type tally struct {
	due uint64 // last log index of the next answer; 0 means any
}

// tally returns one for the answers of a receiver, which is as new as its
// sender unless it is elsewhere and has been asked before.
func (s setup) tally() tally {
	if s.target != "" {
		return tally{}
	}
	return tally{due: firstAnswer}
}

func (t *tally) check(success bool, lastLog uint64) error {
	if t.due == 0 {
		t.due = lastLog
	}
	if !success || lastLog != t.due {
		return fmt.Errorf("wrong answer: success %v, last log %d, where %d was due", success, lastLog, t.due)
	}
	t.due++
	return nil
}

// A session is the exchanges of one sender with its followers. If they are in
// this process it owns them.
type session struct {
	sender    sender
	receivers []receiver
	loops     []exchange // one for each follower
}

// open is a rival's open.
func (t stack) open(s setup) (exchange, error) {
	sender, err := t.dial(s)
	if err != nil {
		return nil, err
	}
	x := &session{sender: sender}
	for range max(1, s.followers) {
		if err := x.connect(t, s); err != nil {
			return nil, errors.Join(err, x.Close())
		}
	}
	return x, nil
}

func (x *session) connect(t stack, s setup) error {
	target := s.target
	if target == "" {
		r, err := t.listen(loopback, s)
		if err != nil {
			return err
		}
		x.receivers = append(x.receivers, r)
		target = r.address()
	}
	loop, err := newLoop(x.sender.link(target, s), s.window, s.rate)
	if err != nil {
		return err
	}
	x.loops = append(x.loops, loop)
	return nil
}

func newLoop(l link, w window, rate float64) (exchange, error) {
	if w == oneByOne {
		return calls{l, rate}, nil
	}
	p, err := l.pipeline()
	if err != nil {
		return nil, err
	}
	return &pipelined{p, rate}, nil
}

func (x *session) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	if len(x.loops) == 1 {
		return x.loops[0].run(stop, latency)
	}
	var (
		ended     sync.WaitGroup
		counts    = make([]int64, len(x.loops))
		errs      = make([]error, len(x.loops))
		latencies = make([]*hdrhistogram.Histogram, len(x.loops))
	)
	for i, loop := range x.loops {
		latencies[i] = newHistogram()
		ended.Go(func() { counts[i], errs[i] = loop.run(stop, latencies[i]) })
	}
	ended.Wait()
	var total int64
	for i, n := range counts {
		total += n
		latency.Merge(latencies[i])
	}
	return total, errors.Join(errs...)
}

// Close ends the sender before the receivers, whose connections end with it.
func (x *session) Close() error {
	var errs []error
	for _, loop := range x.loops {
		errs = append(errs, loop.Close())
	}
	errs = append(errs, x.sender.Close())
	for _, r := range x.receivers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// calls exchanges requests one by one.
type calls struct {
	link link
	rate float64 // see newPace
}

func (calls) Close() error { return nil }

func (c calls) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	pace := newPace(c.rate)
	for n := int64(1); ; n++ {
		start, _ := pace.next(nil)
		if err := c.link.call(); err != nil {
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
	pipeline pipeline
	rate     float64 // see newPace
}

func (p *pipelined) Close() error { return p.pipeline.Close() }

func (p *pipelined) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	var (
		total atomic.Int64 // how many requests there are, once that is certain
		quit  = make(chan struct{})
		sent  = make(chan error, 1)
		pace  = newPace(p.rate)
	)
	go func() {
		err := p.send(stop, &total, pace)
		if err != nil {
			close(quit)
		}
		sent <- err
	}()
	n, err := p.receive(&total, quit, latency, pace)
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
func (p *pipelined) send(stop *atomic.Bool, total *atomic.Int64, pace *pace) error {
	for n := int64(1); ; n++ {
		pace.next(nil)
		last := stop.Load()
		if last {
			total.Store(n)
		}
		if err := p.pipeline.send(); err != nil || last {
			return err
		}
	}
}

func (p *pipelined) receive(total *atomic.Int64, quit <-chan struct{}, latency *hdrhistogram.Histogram, pace *pace) (int64, error) {
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
		if pace.open() {
			start = pace.at(n - 1)
		}
		record(latency, time.Since(start))
		if n == total.Load() {
			return n, nil
		}
	}
}

func record(latency *hdrhistogram.Histogram, d time.Duration) {
	latency.RecordValue(min(int64(d), latency.HighestTrackableValue()))
}

// advertised returns an address under which to listen at all addresses, which
// transports refuse without one, or nil. Nobody asks for it here.
func advertised(listen string) net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil || (addr.IP != nil && !addr.IP.IsUnspecified()) {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: addr.Port}
}
