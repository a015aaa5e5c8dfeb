package layers

import (
	"fmt"
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/tasks"
)

// tellAgain is the time between two log lines about a load that takes long, or about
// loads that fail.
const tellAgain = 5 * time.Minute

// Loading: material is loaded at first, at each interval, and for each Reload. Files may
// be on a network mount, and Load may ask a remote store. So each load but the first
// has a goroutine of its own, and handshakes go on with what is in use.

// loaded is what a load has brought.
type loaded struct {
	material *material
	err      error
}

// reload waits for a load that begins after the call, for LoadTimeout at most.
func (i *identity) reload() error {
	patience := time.NewTimer(i.config.LoadTimeout)
	defer patience.Stop()
	over := make(chan error, 1)
	for requests := i.requests; ; {
		select {
		case requests <- over:
			requests = nil
		case err := <-over:
			return err
		case <-i.done:
			return net.ErrClosed
		case <-patience.C:
			return i.errSlow()
		}
	}
}

// run owns the loading, and warns of certificates that expire. When it ends, a load under
// way goes on and is not used.
func (i *identity) run() {
	look := i.nextLook()
	for !tasks.IsClosed(i.done) {
		wake, stop := tasks.Until(earlier(look, i.warnOfExpiry()))
		select {
		case <-wake:
			if !look.IsZero() && !time.Now().Before(look) {
				i.load(nil)
				look = i.nextLook()
			}
		case request := <-i.requests:
			i.load(i.withOthers(request))
			look = i.nextLook()
		case <-i.done:
		}
		stop()
	}
}

// nextLook returns when the files are looked at if nobody calls Reload before; zero is
// never.
func (i *identity) nextLook() time.Time {
	if i.config.ReloadInterval < 0 {
		return time.Time{}
	}
	return time.Now().Add(i.config.ReloadInterval)
}

// withOthers returns a request and those that wait as well.
func (i *identity) withOthers(request chan<- error) []chan<- error {
	all := []chan<- error{request}
	for {
		select {
		case request = <-i.requests:
			all = append(all, request)
		default:
			return all
		}
	}
}

// load loads for the requests so far. Those that come meanwhile wait for the next load.
// The load's goroutine may hang for ever, so it refers to nothing of the loader.
func (i *identity) load(requests []chan<- error) {
	now, result, source := time.Now(), make(chan loaded, 1), i.config.source()
	i.begun.Store(&now)
	go func() {
		material, err := source.load()
		result <- loaded{material, err}
	}()
	alarm := time.NewTimer(i.config.LoadTimeout)
	defer alarm.Stop()
	for {
		select {
		case got := <-result:
			i.end(got, requests)
			return
		case <-alarm.C:
			i.config.Logger.Warn("cannot look for new TLS certificates, going on with those in use", logs.KeyError, i.errSlow())
			i.warnOfExpiry()
			alarm.Reset(tellAgain)
		case <-i.done:
			return
		}
	}
}

// end uses what was loaded and tells those who wait. What Reload has asked for is used
// even if it is the same: whoever was verified by the old material, and is not
// accepted yet, is verified again.
func (i *identity) end(got loaded, requests []chan<- error) {
	switch {
	case tasks.IsClosed(i.done):
		return
	case got.err != nil:
		i.tellFailure(got.err)
	default:
		i.told = time.Time{}
		if old := i.material.Load(); requests != nil || !got.material.equal(old) {
			i.use(got.material)
		} else if i.config.Load != nil { // with another handle of the same key, or an OCSP staple
			got.material.ca = old.ca
			i.material.Store(got.material)
		}
	}
	i.begun.Store(nil)
	for _, request := range requests {
		request <- got.err
	}
}

// tellFailure tells of a failure at once, and now and then while it lasts.
func (i *identity) tellFailure(err error) {
	if now := time.Now(); i.told.IsZero() || now.Sub(i.told) >= tellAgain {
		i.told = now
		i.config.Logger.Error("cannot reload TLS certificates, going on with those in use", logs.KeyError, err)
	}
}

func (i *identity) use(material *material) {
	material.ca = material.findCA()
	if i.material.Swap(material) != nil {
		i.config.Logger.Info("TLS certificates reloaded", logs.KeyCert, material.names(), logs.KeyExpires, material.first().NotAfter)
	}
	i.ownExpiry.watch(material.first())
	i.caExpiry.watch(material.ca)
	name := i.config.ServerName
	for _, certificate := range material.certificates() {
		if leaf := certificate.Leaf; name != "" && !hasName(leaf, name) {
			i.config.Logger.Warn(fmt.Sprintf("this node's own certificate does not have the name %q: peers that ask for it will refuse this node", name), logs.KeyCert, namesIn(leaf))
		}
	}
}

func (i *identity) errSlow() error {
	begun := time.Now()
	if under := i.begun.Load(); under != nil {
		begun = *under
	}
	return errno.Timeout(fmt.Sprintf("loading them is under way since %s (%v): look at what %s waits for",
		begun.Format(time.RFC3339), time.Since(begun).Round(time.Millisecond), i.config.sourceName()))
}

// close ends the loading. It does not wait for a load under way.
func (i *identity) close() { i.closing.Do(func() { close(i.done) }) }
