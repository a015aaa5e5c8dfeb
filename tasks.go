package raftwire

import (
	"fmt"
	"sync"
	"time"
)

// closeWait is how long Close waits for goroutines that run other people's code, and
// do not return.
const closeWait = time.Second

// tasks counts the goroutines of a transport, so that Close can wait for them.
// Unlike a sync.WaitGroup it refuses to start more once it is closed, and the
// wait can be one case of a select. The zero value is ready for use.
type tasks struct {
	mu       sync.Mutex // protects following
	running  int
	closed   bool
	idle     chan struct{}          // closed when closed and nothing runs
	attached map[*pipeline]struct{} // may have a goroutine that only release ends
}

// attach makes close release p. It returns false once the tasks are closed.
func (t *tasks) attach(p *pipeline) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.attached == nil {
		t.attached = make(map[*pipeline]struct{})
	}
	t.attached[p] = struct{}{}
	return true
}

// detach undoes attach.
func (t *tasks) detach(p *pipeline) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.attached, p)
}

// start runs f on a goroutine of its own. It returns false, without running
// it, once the tasks are closed.
func (t *tasks) start(f func()) bool { return t.startTask(t.task(f)) }

// startTask is start for what is started often, and made into a task once: a
// goroutine then costs no allocation.
func (t *tasks) startTask(task func()) bool {
	if !t.begin() {
		return false
	}
	go task()
	return true
}

// task makes f into a function for startTask.
func (t *tasks) task(f func()) func() {
	return func() {
		defer t.end()
		f()
	}
}

func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.running++
	}
	return !t.closed
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	t.checkIdle()
}

// wait closes the tasks and waits until nothing runs, or for closeWait.
func (t *tasks) wait() error {
	idle := t.close()
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	select {
	case <-idle:
		return nil
	case <-patience.C:
		return fmt.Errorf("raftwire: closed, but %d goroutines have not ended: a heartbeat handler, a hook, a logger, a ServerAddressProvider, Authorize, or the Close of the StreamLayer or of a connection does not return", t.count())
	}
}

// close refuses further starts, releases the pipelines, and returns a channel
// that is closed when nothing runs any more. It may be called more than once.
func (t *tasks) close() <-chan struct{} {
	for p := range t.refuse() {
		p.release()
	}
	return t.idle
}

func (t *tasks) refuse() map[*pipeline]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.idle = make(chan struct{})
	t.checkIdle()
	attached := t.attached
	t.attached = nil
	return attached
}

// checkIdle is called with mu held.
func (t *tasks) checkIdle() {
	if t.closed && t.running == 0 {
		close(t.idle)
	}
}

// count returns how many goroutines run.
func (t *tasks) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}
