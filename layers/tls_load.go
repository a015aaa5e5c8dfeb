package layers

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/tasks"
)

// tellAgain is the time between two log lines about a load that takes long, or about
// loads that fail.
const tellAgain = 5 * time.Minute

// loader loads material: at first, at each interval, and for each Reload. Files may
// be on a network mount, and Load may ask a remote store. So each load but the first
// has a goroutine of its own, and handshakes go on with what is in use.
type loader struct {
	config   *TLSConfig
	material atomic.Pointer[material]  // in use
	begun    atomic.Pointer[time.Time] // when the load under way began; nil if there is none
	requests chan chan<- error         // by reload; each is told how a load ended
	closing  sync.Once
	done     chan struct{} // closed by close

	// The others are owned by run.
	look    <-chan time.Time
	alarm   *time.Timer    // when the load under way takes long
	result  <-chan loaded  // of the load under way; nil if there is none
	waiting []chan<- error // requests that it serves
	next    []chan<- error // requests that came after it had begun
	told    time.Time      // when the log was told of a failure; zero after a success
}

// loaded is what a load has brought.
type loaded struct {
	material *material
	err      error
}

// newLoader loads for the first time, and blocks for as long as that takes.
func newLoader(config *TLSConfig) (*loader, error) {
	first, err := config.load()
	if err != nil {
		return nil, err
	}
	l := &loader{config: config, requests: make(chan chan<- error), done: make(chan struct{})}
	l.use(first)
	go l.run()
	return l, nil
}

// current returns the material for a handshake. It does not block.
func (l *loader) current() *material { return l.material.Load() }

// reload waits for a load that begins after the call, for LoadTimeout at most.
func (l *loader) reload() error {
	patience := time.NewTimer(l.config.LoadTimeout)
	defer patience.Stop()
	over := make(chan error, 1)
	for requests := l.requests; ; {
		select {
		case requests <- over:
			requests = nil
		case err := <-over:
			return err
		case <-l.done:
			return net.ErrClosed
		case <-patience.C:
			return l.errSlow()
		}
	}
}

// run owns the loading. When it ends, a load under way goes on and is not used.
func (l *loader) run() {
	if l.config.ReloadInterval > 0 {
		looks := time.NewTicker(l.config.ReloadInterval)
		defer looks.Stop()
		l.look = looks.C
	}
	l.alarm = time.NewTimer(tellAgain)
	l.alarm.Stop()
	for !tasks.IsClosed(l.done) {
		l.step()
	}
	l.alarm.Stop()
}

// step waits for one event.
func (l *loader) step() {
	select {
	case <-l.look:
		l.begin()
	case request := <-l.requests:
		l.next = append(l.next, request)
		l.begin()
	case result := <-l.result:
		l.end(result)
	case <-l.alarm.C:
		l.config.Logger.Warn("cannot look for new TLS certificates, going on with those in use", logs.KeyError, l.errSlow())
		l.alarm.Reset(tellAgain)
	case <-l.done:
	}
}

// begin begins a load for the requests so far, unless one is under way. The load's
// goroutine may hang for ever, so it refers to nothing of the loader.
func (l *loader) begin() {
	if l.result != nil {
		return
	}
	now, result, source := time.Now(), make(chan loaded, 1), l.config.source()
	l.begun.Store(&now)
	l.result, l.waiting, l.next = result, l.next, nil
	l.alarm.Reset(l.config.LoadTimeout)
	go func() {
		material, err := source.load()
		result <- loaded{material, err}
	}()
}

// end uses what was loaded and tells those who wait. What Reload has asked for is used
// even if it is the same: whoever was verified by the old material, and is not
// accepted yet, is verified again.
func (l *loader) end(result loaded) {
	if tasks.IsClosed(l.done) {
		return
	}
	l.alarm.Stop()
	switch {
	case result.err != nil:
		l.tellFailure(result.err)
	default:
		l.told = time.Time{}
		if l.waiting != nil || !result.material.equal(l.current()) {
			l.use(result.material)
		}
	}
	l.begun.Store(nil)
	for _, waiting := range l.waiting {
		waiting <- result.err
	}
	l.result = nil
	if l.next != nil {
		l.begin()
	}
}

// tellFailure tells of a failure at once, and now and then while it lasts.
func (l *loader) tellFailure(err error) {
	if now := time.Now(); l.told.IsZero() || now.Sub(l.told) >= tellAgain {
		l.told = now
		l.config.Logger.Error("cannot reload TLS certificates, going on with those in use", logs.KeyError, err)
	}
}

func (l *loader) use(material *material) {
	if l.material.Swap(material) != nil {
		l.config.Logger.Info("TLS certificates reloaded", logs.KeyCert, material.describe(), logs.KeyExpires, material.expires())
	}
	name := l.config.ServerName
	for _, certificate := range material.certificates() {
		if leaf := certificate.Leaf; name != "" && leaf.VerifyHostname(name) != nil {
			l.config.Logger.Warn(fmt.Sprintf("this node's own certificate does not have the name %q: peers that ask for it will refuse this node", name), logs.KeyCert, describe(leaf))
		}
	}
}

func (l *loader) errSlow() error {
	begun := time.Now()
	if under := l.begun.Load(); under != nil {
		begun = *under
	}
	return errno.Timeout(fmt.Sprintf("loading them is under way since %s (%v): look at what %s waits for",
		begun.Format(time.RFC3339), time.Since(begun).Round(time.Millisecond), l.config.sourceName()))
}

// close ends the loading. It does not wait for a load under way.
func (l *loader) close() { l.closing.Do(func() { close(l.done) }) }
