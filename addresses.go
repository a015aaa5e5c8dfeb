package raftwire

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/dialing"
	"github.com/raftwire/raftwire/internal/logs"
	"github.com/raftwire/raftwire/internal/tasks"
)

// addressFor is how long an answer of the ServerAddressProvider is used. For as
// long again it is used while the provider is asked anew. Then, or once a dial
// has failed, calls wait for the new answer.
const addressFor = time.Second

// maxServersKnown is how many servers are remembered, those asked about last.
const maxServersKnown = 1024

// addressBook remembers what a ServerAddressProvider says: addresses are needed
// for every request, and a provider may take its time. It is asked about a
// server by one goroutine at a time.
type addressBook struct {
	provider   ServerAddressProvider // nil: the addresses in the calls are used
	noFallback bool
	logger     hclog.Logger
	tasks      *tasks.Group
	left       func(ServerAddress) // is told of addresses that a server has left

	limit logs.Limit

	mu      sync.Mutex // protects following
	entries map[ServerID]*addressEntry
	recent  list.List // of the entries, the one used last at the back
	places  map[ServerAddress]*addressPlace
}

type addressEntry struct {
	addressAnswer
	id     ServerID
	until  time.Time     // when to ask again
	asking chan struct{} // closed when the question under way has ended, else nil
	doubts int           // of its place, at the last answer

	place  *addressPlace // nil without an address
	recent *list.Element // in addressBook.recent; nil once it is forgotten
}

type addressAnswer struct {
	addr ServerAddress // the last one given, or ""
	err  error         // why the last question had no answer
}

// addressPlace is what servers at the same address have in common.
type addressPlace struct {
	servers   int   // how many there are
	confirmed int   // how many of them the provider has confirmed when it was asked last
	err       error // why it has not confirmed another
	doubts    int   // how often the address could not be reached
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
	known, _, _, err := b.look(id)
	if known.addr == "" && known.err == nil && err == nil {
		known, err = b.known(id, begin)
	}
	if known.err != nil || err != nil {
		return target
	}
	return known.addr
}

// known returns what is known of a server. An error means that there was no
// time to ask.
func (b *addressBook) known(id ServerID, begin func() (context.Context, context.CancelFunc)) (addressAnswer, error) {
	known, e, answered, err := b.look(id)
	if answered == nil {
		return known, err
	}
	ctx, cancel := begin()
	defer cancel()
	select {
	case <-answered:
		return b.answerOf(e), nil
	case <-ctx.Done():
		return known, fmt.Errorf("the ServerAddressProvider does not answer: %w", dialing.Explain(ctx, ctx.Err()))
	}
}

// look returns what is known of a server, and a channel to wait for if that is
// not good enough. It has the provider asked when it is time.
func (b *addressBook) look(id ServerID) (known addressAnswer, e *addressEntry, answered <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e = b.entry(id)
	old := e.age()
	if e.asking == nil && old >= 0 {
		if !b.tasks.Start(func() { b.ask(e) }) {
			return e.addressAnswer, e, nil, ErrTransportShutdown
		}
		e.asking = make(chan struct{})
	}
	if old < addressFor {
		return e.addressAnswer, e, nil, nil
	}
	return e.addressAnswer, e, e.asking, nil
}

// age returns for how long it has been time to ask about a server again. If it could
// not be reached since, that is long.
func (e *addressEntry) age() time.Duration {
	if e.place != nil && e.doubts != e.place.doubts {
		return addressFor
	}
	return time.Since(e.until)
}

func (b *addressBook) answerOf(e *addressEntry) addressAnswer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.addressAnswer
}

// entry is called with mu held.
func (b *addressBook) entry(id ServerID) *addressEntry {
	if e := b.entries[id]; e != nil {
		b.recent.MoveToBack(e.recent)
		return e
	}
	if b.entries == nil {
		b.entries = make(map[ServerID]*addressEntry)
		b.places = make(map[ServerAddress]*addressPlace)
	}
	e := &addressEntry{id: id}
	e.recent = b.recent.PushBack(e)
	b.entries[id] = e
	if len(b.entries) > maxServersKnown {
		b.forget(b.recent.Front().Value.(*addressEntry))
	}
	return e
}

// forget is called with mu held. Whoever waits for an answer about the server gets
// it.
func (b *addressBook) forget(e *addressEntry) {
	b.leavePlace(e)
	b.recent.Remove(e.recent)
	e.recent = nil
	delete(b.entries, e.id)
}

// enterPlace counts a server where it is. mu is held.
func (b *addressBook) enterPlace(e *addressEntry) {
	if e.recent == nil || e.addr == "" {
		return
	}
	e.place = b.places[e.addr]
	if e.place == nil {
		e.place = new(addressPlace)
		b.places[e.addr] = e.place
	}
	e.doubts = e.place.doubts
	e.place.servers++
	if e.err == nil {
		e.place.confirmed++
	} else {
		e.place.err = e.err
	}
}

// leavePlace undoes enterPlace. mu is held.
func (b *addressBook) leavePlace(e *addressEntry) {
	if e.place == nil {
		return
	}
	if e.err == nil {
		e.place.confirmed--
	}
	if e.place.servers--; e.place.servers == 0 {
		delete(b.places, e.addr)
	}
	e.place = nil
}

// ask asks the provider about a server, and ends the question.
func (b *addressBook) ask(e *addressEntry) {
	addr, err := b.provider.ServerAddr(e.id)
	if err == nil && addr == "" {
		err = errNoAddress
	}
	if before := b.note(e, addr, err); before != "" {
		b.logger.Info("a server has a new address", logs.KeyID, e.id, logs.KeyPeer, addr, logs.KeyBefore, before)
		b.left(before)
	}
}

// note writes an answer down. It returns the address that the server has left.
func (b *addressBook) note(e *addressEntry, addr ServerAddress, err error) (before ServerAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leavePlace(e)
	if err == nil && e.addr != addr {
		before, e.addr = e.addr, addr
	}
	e.err = err
	e.until = time.Now().Add(addressFor)
	b.enterPlace(e)
	close(e.asking)
	e.asking = nil
	return before
}

// warn says that a call goes to an address that the provider has not confirmed:
// it may be another server's by now.
func (b *addressBook) warn(id ServerID, target ServerAddress, err error) {
	if skipped, due := b.limit.Due(logs.Topic{Detail: string(id)}, time.Now()); due {
		b.logger.Warn("unable to get address for server, using fallback address", logs.WithSimilar(skipped, logs.KeyID, id, logs.KeyPeer, target, logs.KeyError, err)...)
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
	if place := b.places[addr]; place != nil {
		place.doubts++
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
	place := b.places[addr]
	if place == nil || place.confirmed > 0 {
		return nil
	}
	return refusedFallback(place.err)
}
