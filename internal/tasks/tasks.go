// Package tasks owns goroutines, so that whoever started them can wait for them.
package tasks

import (
	"fmt"
	"sync"
	"time"
)

// Group counts goroutines. Unlike a sync.WaitGroup it starts no more once it is
// closed, and its wait has a limit. The zero value is ready for use.
type Group struct {
	mu       sync.Mutex // protects following
	running  int
	closed   bool
	idle     chan struct{} // closed when closed and nothing runs
	attached map[Releaser]struct{}
}

// Releaser may have a goroutine that only Release ends.
type Releaser interface{ Release() }

// Attach makes Close release r. It returns false once the group is closed.
func (g *Group) Attach(r Releaser) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if g.attached == nil {
		g.attached = make(map[Releaser]struct{})
	}
	g.attached[r] = struct{}{}
	return true
}

// Detach undoes Attach.
func (g *Group) Detach(r Releaser) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.attached, r)
}

// Start runs f on a goroutine of its own. It returns false, without running
// it, once the group is closed.
func (g *Group) Start(f func()) bool { return g.StartTask(g.Task(f)) }

// StartTask is Start for what is started often, and made into a task once: a
// goroutine then costs no allocation.
func (g *Group) StartTask(task func()) bool {
	if !g.begin() {
		return false
	}
	go task()
	return true
}

// Task makes f into a function for StartTask.
func (g *Group) Task(f func()) func() {
	return func() {
		defer g.end()
		f()
	}
}

func (g *Group) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.running++
	}
	return !g.closed
}

func (g *Group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.checkIdle()
}

// Wait closes the group and waits until nothing runs, or for limit. It returns how
// many goroutines still run.
func (g *Group) Wait(limit time.Duration) (running int) {
	attached, _ := g.close()
	for r := range attached {
		r.Release()
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case <-g.idle:
		return 0
	case <-patience.C:
		_, running = g.close()
		return running
	}
}

// CloseWait is how long Close of a transport or layer waits for goroutines that run
// other people's code, and do not return.
const CloseWait = time.Second

// AwaitEnd closes the group and waits for its goroutines, for CloseWait at most.
func (g *Group) AwaitEnd() error {
	if running := g.Wait(CloseWait); running > 0 {
		return fmt.Errorf("raftwire: closed, but %d goroutines have not ended: a heartbeat handler, a hook, a logger, a ServerAddressProvider, Authorize, or the Close of the StreamLayer or of a connection does not return", running)
	}
	return nil
}

// close returns what was attached, the first time, and how many goroutines run.
func (g *Group) close() (attached map[Releaser]struct{}, running int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed = true
		g.idle = make(chan struct{})
		g.checkIdle()
	}
	attached, g.attached = g.attached, nil
	return attached, g.running
}

// checkIdle is called with mu held.
func (g *Group) checkIdle() {
	if g.closed && g.running == 0 {
		close(g.idle)
	}
}

// Pause waits; false means that done was closed meanwhile.
func Pause(pause time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// IsClosed reports whether done is closed.
func IsClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Until returns a channel that yields at a time; zero is never.
func Until(deadline time.Time) (expired <-chan time.Time, stop func() bool) {
	if deadline.IsZero() {
		return After(0)
	}
	return After(max(1, time.Until(deadline)))
}

// After is time.After with a stop; 0 or less is never.
func After(d time.Duration) (expired <-chan time.Time, stop func() bool) {
	if d <= 0 {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}
