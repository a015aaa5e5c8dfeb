package layers

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
)

// loader loads material, once and then again and again. Files may be on a
// network mount, and Load may ask a remote store: so each load but the first has
// a goroutine of its own, and nothing but Reload waits for one.
type loader struct {
	config   *TLSConfig
	material atomic.Pointer[material] // in use
	done     chan struct{}            // closed by close

	slow logs.Limit // of lines about loads that take long

	failed *logs.Limit // of lines about loads that fail; owned by the load under way

	mu        sync.Mutex // protects following
	underWay  *load      // or nil
	next      *load      // begins when that under way is over; or nil
	nextLook  *time.Timer
	nextAlarm *time.Timer // of the load under way
	closed    bool
}

// load is a load of material. One that never returns refers to nothing else
// of its layer once that is closed.
type load struct {
	loader atomic.Pointer[loader] // nil once that is closed
	anew   bool                   // what is loaded is used even if it is the same
	begun  time.Time              // set before it is run
	over   chan struct{}          // closed when it is over
	err    error                  // set before that
}

// start loads for the first time, and looks for something new each
// ReloadInterval from then on.
func (l *loader) start(config *TLSConfig) error {
	l.config, l.done, l.failed = config, make(chan struct{}), new(logs.Limit)
	material, err := config.load()
	if err != nil {
		return err
	}
	l.use(material)
	if config.ReloadInterval > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nextLook = time.AfterFunc(config.ReloadInterval, l.look)
	}
	return nil
}

// current returns the material for a handshake. It does not block.
func (l *loader) current() *material { return l.material.Load() }

// look begins a load unless one is under way.
func (l *loader) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.underWay == nil {
		l.begin(l.newLoad(false))
	}
	l.nextLook.Reset(l.config.ReloadInterval)
}

// reload loads the material and uses it, even if it is the same: whoever was
// verified by the old one and is not accepted yet is verified again.
func (l *loader) reload() error {
	load, err := l.request()
	if err != nil {
		return err
	}
	patience := time.NewTimer(l.config.LoadTimeout)
	defer patience.Stop()
	select {
	case <-load.over:
		return load.err
	case <-l.done:
		return net.ErrClosed
	case <-patience.C:
		return l.errSlow(l.begunAt())
	}
}

// request returns a load that has not begun before the call.
func (l *loader) request() (*load, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.next == nil {
		l.next = l.newLoad(true)
	}
	load := l.next
	l.beginNext()
	return load, nil
}

func (l *loader) newLoad(anew bool) *load {
	load := &load{anew: anew, over: make(chan struct{})}
	load.loader.Store(l)
	return load
}

// beginNext begins the load that was requested, if there is one and none is
// under way. mu is held.
func (l *loader) beginNext() {
	if next := l.next; next != nil && l.underWay == nil {
		l.next = nil
		l.begin(next)
	}
}

// begin is called with mu held.
func (l *loader) begin(load *load) {
	load.begun = time.Now()
	l.underWay = load
	l.nextAlarm = time.AfterFunc(l.config.LoadTimeout, func() { l.alarm(load) })
	go load.run(l.config.source())
}

func (l *load) run(source *TLSConfig) {
	material, err := source.load()
	if loader := l.loader.Load(); loader != nil {
		loader.end(l, material, err)
	}
}

// end uses what was loaded, if it is to be used, and tells those who wait.
func (l *loader) end(load *load, material *material, err error) {
	switch {
	case err != nil:
		l.tellFailure(err)
	case load.anew || !material.equal(l.current()):
		l.use(material)
	}
	if err == nil {
		l.failed = new(logs.Limit) // the next failure is news
	}
	load.err = err
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underWay = nil
	l.nextAlarm.Stop()
	close(load.over)
	if !l.closed {
		l.beginNext()
	}
}

// tellFailure tells of a failure at once, and now and then while it lasts.
func (l *loader) tellFailure(err error) {
	if skipped, due := l.failed.Due(logs.Topic{}, time.Now()); due {
		l.config.Logger.Error("cannot reload TLS certificates, going on with those in use", logs.WithSimilar(skipped, logs.KeyError, err)...)
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

// alarm tells of a load that takes long, for as long as it does.
func (l *loader) alarm(load *load) {
	if !l.isUnderWay(load) {
		return
	}
	if skipped, due := l.slow.Due(logs.Topic{}, time.Now()); due {
		l.config.Logger.Warn("cannot look for new TLS certificates, going on with those in use", logs.WithSimilar(skipped, logs.KeyError, l.errSlow(load.begun))...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay == load && !l.closed {
		l.nextAlarm.Reset(time.Minute)
	}
}

func (l *loader) isUnderWay(load *load) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.underWay == load && !l.closed
}

// begunAt returns when the load under way has begun.
func (l *loader) begunAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay == nil {
		return time.Now()
	}
	return l.underWay.begun
}

func (l *loader) errSlow(begun time.Time) error {
	return errno.Timeout(fmt.Sprintf("loading them is under way since %s (%v): look at what %s waits for",
		begun.Format(time.RFC3339), time.Since(begun).Round(time.Millisecond), l.config.sourceName()))
}

// close ends the looks. It does not wait for a load under way.
func (l *loader) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	if l.nextLook != nil {
		l.nextLook.Stop()
	}
	if l.underWay != nil {
		l.underWay.loader.Store(nil)
		l.nextAlarm.Stop()
	}
}
