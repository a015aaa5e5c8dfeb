package raftwire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// addressFor is how long an answer of the ServerAddressProvider is used. For as
// long again it is used while the provider is asked anew. Then, or once a dial
// has failed, calls wait for the new answer.
const addressFor = time.Second

// addressBook remembers what a ServerAddressProvider says: addresses are needed
// for every request, and a provider may take its time. It is asked about a
// server by one goroutine at a time.
type addressBook struct {
	provider   ServerAddressProvider // nil: the addresses in the calls are used
	noFallback bool
	logger     hclog.Logger
	tasks      *tasks
	left       func(ServerAddress) // is told of addresses that a server has left

	limit logLimit

	mu      sync.Mutex // protects following
	entries map[ServerID]*addressEntry
}

type addressEntry struct {
	addr   ServerAddress // the last one given, or ""
	err    error         // why the last question had no answer
	until  time.Time     // when to ask again; zero means that the next call waits for it
	asking chan struct{} // closed when the question under way has ended, else nil
}

var errNoAddress = errors.New("the ServerAddressProvider gave no address")

// find returns the address of a server, or target. It blocks only if what is
// known is old or in doubt, and then no longer than the context of begin.
func (b *addressBook) find(id ServerID, target ServerAddress, begin func() (context.Context, context.CancelFunc)) (ServerAddress, error) {
	if b.provider == nil {
		return target, nil
	}
	known, err := b.known(id, begin)
	switch {
	case err != nil:
		return target, err
	case known.err == nil:
		return known.addr, nil
	case !b.noFallback:
		b.warn(id, target, known.err)
		return target, nil
	case known.addr != "":
		return known.addr, nil // for connections that stand; see mayDial
	}
	return target, refusedFallback(known.err)
}

// recall is find for an address that nobody is about to dial: an old answer is
// good enough. It blocks only if there was none yet.
func (b *addressBook) recall(id ServerID, target ServerAddress, begin func() (context.Context, context.CancelFunc)) ServerAddress {
	if b.provider == nil {
		return target
	}
	e, _, err := b.look(id)
	if e.addr == "" && e.err == nil && err == nil {
		e, err = b.known(id, begin)
	}
	if e.err != nil || err != nil {
		return target
	}
	return e.addr
}

// known returns what is known of a server. An error means that there was no
// time to ask.
func (b *addressBook) known(id ServerID, begin func() (context.Context, context.CancelFunc)) (addressEntry, error) {
	e, answered, err := b.look(id)
	if answered == nil {
		return e, err
	}
	ctx, cancel := begin()
	defer cancel()
	select {
	case <-answered:
		return b.current(id), nil
	case <-ctx.Done():
		return e, fmt.Errorf("the ServerAddressProvider does not answer: %w", contextError(ctx, ctx.Err()))
	}
}

// look returns what is known of a server, and a channel to wait for if that is
// not good enough. It has the provider asked when it is time.
func (b *addressBook) look(id ServerID) (known addressEntry, answered <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(id)
	now := time.Now()
	if e.asking == nil && !now.Before(e.until) {
		if !b.tasks.start(func() { b.ask(id) }) {
			return *e, nil, ErrTransportShutdown
		}
		e.asking = make(chan struct{})
	}
	if now.Sub(e.until) < addressFor {
		return *e, nil, nil
	}
	return *e, e.asking, nil
}

func (b *addressBook) current(id ServerID) addressEntry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.entry(id)
}

// entry is called with mu held.
func (b *addressBook) entry(id ServerID) *addressEntry {
	e := b.entries[id]
	if e == nil {
		if b.entries == nil {
			b.entries = make(map[ServerID]*addressEntry)
		}
		e = new(addressEntry)
		b.entries[id] = e
	}
	return e
}

// ask asks the provider about a server, and ends the question.
func (b *addressBook) ask(id ServerID) {
	addr, err := b.provider.ServerAddr(id)
	if err == nil && addr == "" {
		err = errNoAddress
	}
	if before := b.note(id, addr, err); before != "" {
		b.logger.Info("a server has a new address", keyID, id, keyPeer, addr, keyBefore, before)
		b.left(before)
	}
}

// note writes an answer down. It returns the address that the server has left.
func (b *addressBook) note(id ServerID, addr ServerAddress, err error) (before ServerAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(id)
	if err == nil && e.addr != addr {
		before, e.addr = e.addr, addr
	}
	e.err = err
	e.until = time.Now().Add(addressFor)
	close(e.asking)
	e.asking = nil
	return before
}

// warn says that a call goes to an address that the provider has not confirmed:
// it may be another server's by now.
func (b *addressBook) warn(id ServerID, target ServerAddress, err error) {
	if skipped, due := b.limit.due(topic{detail: string(id)}, time.Now()); due {
		b.logger.Warn("unable to get address for server, using fallback address", withSimilar(skipped, keyID, id, keyPeer, target, keyError, err)...)
	}
}

func refusedFallback(err error) error {
	return fmt.Errorf("address unknown, and NoAddressFallback is set: %w", err)
}

// doubt makes the next calls to a server wait for the provider: it could not
// be reached at addr.
func (b *addressBook) doubt(addr ServerAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.addr == addr {
			e.until = time.Time{}
		}
	}
}

// mayDial returns an error if addr was a server's, the provider does not say so
// any more, and that is not to be ignored.
func (b *addressBook) mayDial(addr ServerAddress) error {
	if !b.noFallback {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, e := range b.entries {
		switch {
		case e.addr == addr && e.err == nil:
			return nil
		case e.addr == addr:
			err = refusedFallback(e.err)
		}
	}
	return err
}
