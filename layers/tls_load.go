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
	told     time.Time     // when the log was told of a failure; zero after a success; owned by run
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
	for !tasks.IsClosed(l.done) {
		look, stop := tasks.After(l.config.ReloadInterval)
		select {
		case <-look:
			l.load(nil)
		case request := <-l.requests:
			l.load(l.withOthers(request))
		case <-l.done:
		}
		stop()
	}
}

// withOthers returns a request and those that wait as well.
func (l *loader) withOthers(request chan<- error) []chan<- error {
	all := []chan<- error{request}
	for {
		select {
		case request = <-l.requests:
			all = append(all, request)
		default:
			return all
		}
	}
}

// load loads for the requests so far. Those that come meanwhile wait for the next load.
// The load's goroutine may hang for ever, so it refers to nothing of the loader.
func (l *loader) load(requests []chan<- error) {
	now, result, source := time.Now(), make(chan loaded, 1), l.config.source()
	l.begun.Store(&now)
	go func() {
		material, err := source.load()
		result <- loaded{material, err}
	}()
	alarm := time.NewTimer(l.config.LoadTimeout)
	defer alarm.Stop()
	for {
		select {
		case got := <-result:
			l.end(got, requests)
			return
		case <-alarm.C:
			l.config.Logger.Warn("cannot look for new TLS certificates, going on with those in use", logs.KeyError, l.errSlow())
			alarm.Reset(tellAgain)
		case <-l.done:
			return
		}
	}
}

// end uses what was loaded and tells those who wait. What Reload has asked for is used
// even if it is the same: whoever was verified by the old material, and is not
// accepted yet, is verified again.
func (l *loader) end(got loaded, requests []chan<- error) {
	switch {
	case tasks.IsClosed(l.done):
		return
	case got.err != nil:
		l.tellFailure(got.err)
	default:
		l.told = time.Time{}
		if requests != nil || !got.material.equal(l.current()) {
			l.use(got.material)
		}
	}
	l.begun.Store(nil)
	for _, request := range requests {
		request <- got.err
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
