// Package addressbook remembers the addresses of servers: they are needed for every
// request, and whoever knows them may take its time.
package addressbook

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/tasks"
)

// freshFor is how long an answer is used. For as long again it is used while the
// provider is asked anew. Then, or once the server could not be reached, calls wait
// for the new answer.
const freshFor = time.Second

// maxServers is how many servers are remembered, those asked about last.
const maxServers = 1024

// Book asks about a server on one goroutine at a time. Its exported fields are set
// before it is used.
type Book struct {
	// Provider is asked for the address of a server. It may block.
	Provider func(id string) (address string, err error)
	// Changed is told of a server's new address, on the goroutine that has asked.
	Changed func(id, address, before string)
	Tasks   *tasks.Group
	// Done is closed before Tasks is. Then ErrClosed is returned.
	Done      <-chan struct{}
	ErrClosed error

	mu      sync.Mutex // protects following
	entries map[string]*entry
	recent  list.List // of *entry, the one used last at the back
}

type entry struct {
	Answer
	id     string
	until  time.Time     // when to ask again
	asking *question     // under way, or nil
	recent *list.Element // in Book.recent
}

// Answer is what is known of a server.
type Answer struct {
	Address string // the last one given, or ""
	Err     error  // why the last question had no answer
}

// question is one that the provider is asked.
type question struct {
	answered chan struct{} // closed when the answer is set
	answer   Answer
}

var errNoAddress = errors.New("the ServerAddressProvider gave no address")

// Find returns what is known of a server. It blocks only if that is old or in doubt,
// and then no longer than until, where zero is never, or than ctx lasts. With old an old answer is good enough:
// it blocks only if there was none yet. An error means that there was no time to ask.
func (b *Book) Find(ctx context.Context, id string, until time.Time, old bool) (Answer, error) {
	known, asking, err := b.look(id)
	if asking == nil || old && known != (Answer{}) {
		return known, err
	}
	expired, stop := tasks.Until(until)
	defer stop()
	select {
	case <-asking.answered:
		return asking.answer, nil
	case <-expired:
		return Answer{}, fmt.Errorf("the ServerAddressProvider does not answer: %w", errno.ErrTimeout)
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("the ServerAddressProvider does not answer: %w", context.Cause(ctx))
	case <-b.Done:
		return Answer{}, b.ErrClosed
	}
}

// look returns what is known of a server, and a question to wait for if that is
// not good enough. It has the provider asked when it is time.
func (b *Book) look(id string) (known Answer, asking *question, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(id)
	age := time.Since(e.until)
	if e.asking == nil && age >= 0 {
		if !b.Tasks.Start(func() { b.ask(e) }) {
			return e.Answer, nil, b.ErrClosed
		}
		e.asking = &question{answered: make(chan struct{})}
	}
	if age < freshFor {
		return e.Answer, nil, nil
	}
	return e.Answer, e.asking, nil
}

// entry is called with mu held.
func (b *Book) entry(id string) *entry {
	if e := b.entries[id]; e != nil {
		b.recent.MoveToBack(e.recent)
		return e
	}
	if b.entries == nil {
		b.entries = make(map[string]*entry)
	}
	e := &entry{id: id}
	e.recent = b.recent.PushBack(e)
	b.entries[id] = e
	if len(b.entries) > maxServers {
		oldest := b.recent.Remove(b.recent.Front()).(*entry)
		delete(b.entries, oldest.id)
	}
	return e
}

// ask asks the provider about a server, and ends the question.
func (b *Book) ask(e *entry) {
	address, err := b.Provider(e.id)
	if err == nil && address == "" {
		err = errNoAddress
	}
	if before := b.note(e, address, err); before != "" {
		b.Changed(e.id, address, before)
	}
}

// note writes an answer down. It returns the address that the server has left.
func (b *Book) note(e *entry, address string, err error) (before string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && e.Address != address {
		before, e.Address = e.Address, address
	}
	e.Err = err
	e.until = time.Now().Add(freshFor)
	e.asking.answer = e.Answer
	close(e.asking.answered)
	e.asking = nil
	return before
}

// Doubt makes the next calls to a server wait for the provider: it could not be
// reached.
func (b *Book) Doubt(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[id]; e != nil {
		e.until = time.Time{}
	}
}
