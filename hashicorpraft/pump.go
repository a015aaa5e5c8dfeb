package hashicorpraft

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

// The slow path: transports that offer nothing but Consumer, and requests that
// went there before a transport was wrapped. Somebody has to stand between their
// channels and the core's, because the types differ.

// pump moves the requests of a transport to the core and the answers back.
type pump struct {
	from raftwire.Transport
	open func(done <-chan struct{}) raftwire.Dispatcher

	lock    sync.Mutex     // protects following
	stopped bool           // nothing is started any more
	done    chan struct{}  // closed when stopped becomes true
	running sync.WaitGroup // the reader, and those who wait for an answer
}

func startPump(from raftwire.Transport, open func(<-chan struct{}) raftwire.Dispatcher) *pump {
	p := &pump{from: from, open: open, done: make(chan struct{})}
	p.start(p.read)
	return p
}

// read hands over one request after the other, in their order.
func (p *pump) read() {
	for {
		select {
		case rpc := <-p.from.Consumer():
			p.handOver(rpc, false)
		case <-p.done:
			return
		}
	}
}

func (p *pump) divertHeartbeats(divert bool) {
	if !divert {
		p.from.SetHeartbeatHandler(nil)
		return
	}
	p.from.SetHeartbeatHandler(func(rpc raftwire.RPC) { p.handOver(rpc, true) })
}

// handOver blocks until the core took the request, and leaves a goroutine
// waiting for the answer if that is not there yet.
func (p *pump) handOver(rpc raftwire.RPC, heartbeat bool) {
	begun := time.Now()
	answer := p.open(p.done).Dispatch(rpc.Command, rpc.Reader, heartbeat)
	if answer == nil {
		return
	}
	taken := time.Now()
	bringBack := func() {
		if a, ok := answer.Await(p.done); ok {
			emitPumped(rpc.Command, heartbeat, taken.Sub(begun), time.Since(taken))
			rpc.Respond(a.Response, a.Error)
		}
	}
	if answer.Ready() {
		bringBack()
		return
	}
	p.start(bringBack)
}

// start runs f on a goroutine that stop waits for; not at all after stop.
func (p *pump) start(f func()) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if !p.stopped {
		p.running.Go(f)
	}
}

// stop ends the pump's goroutines and waits for them.
func (p *pump) stop() {
	p.beginStop()
	p.running.Wait()
}

func (p *pump) beginStop() {
	p.lock.Lock()
	defer p.lock.Unlock()
	if !p.stopped {
		p.stopped = true
		close(p.done)
	}
}

// pumpedPipeline is a pipeline whose futures come from a Consumer.
type pumpedPipeline struct {
	*pipeline
	done    chan struct{} // closed by Close
	closing sync.Once
	running sync.WaitGroup
}

func (t *Transport) openPumpedPipeline(id raftwire.ServerID, target raftwire.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.inner.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, raftError(err)
	}
	p := &pumpedPipeline{pipeline: newPipeline(), done: make(chan struct{})}
	p.inner = inner
	p.running.Go(p.read)
	return p, nil
}

func (p *pumpedPipeline) read() {
	for {
		select {
		case future := <-p.inner.Consumer():
			p.deliver(future, p.done)
		case <-p.done:
			return
		}
	}
}

// Close ends the pipeline and its goroutine.
func (p *pumpedPipeline) Close() error {
	p.closing.Do(func() { close(p.done) })
	err := p.pipeline.Close()
	p.running.Wait()
	return err
}
