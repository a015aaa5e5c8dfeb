package raftwire

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire/internal/addressbook"
	"github.com/raftwire/raftwire/internal/logs"
)

// resolver finds out where servers are.
type resolver struct {
	book       addressbook.Book // unused without a Provider
	noFallback bool
	timeout    time.Duration // of calls; 0 means no limit
	logger     hclog.Logger
	fallbacks  logs.Limit                  // of lines about fallback addresses
	retire     func(address ServerAddress) // is told of addresses that a server has left
}

// destination is where a request goes, and until when there is time for it.
type destination struct {
	ctx         context.Context // of the call
	id          ServerID
	addr        ServerAddress
	target      ServerAddress // that the call names
	deadline    time.Time     // zero is never
	unconfirmed error         // why addr must not be dialled, or nil
}

// destination returns where to reach a server, for a call that begins at start. With
// an error it is target.
func (r *resolver) destination(ctx context.Context, id ServerID, target ServerAddress, start time.Time) (destination, error) {
	to := destination{ctx: ctx, id: id, addr: target, target: target, deadline: r.deadline(start)}
	if err := endOf(ctx); err != nil || r.book.Provider == nil {
		return to, err
	}
	return r.ask(to)
}

func (r *resolver) ask(to destination) (destination, error) {
	known, err := r.book.Find(to.ctx, string(to.id), to.deadline, false)
	switch {
	case err != nil:
		return to, err
	case known.Err == nil:
		to.addr = ServerAddress(known.Address)
	case !r.noFallback:
		r.warnOfFallback(to, known.Err)
	default:
		to.unconfirmed = fmt.Errorf("address unknown, and NoAddressFallback is set: %w", known.Err)
		if known.Address == "" {
			return to, to.unconfirmed
		}
		to.addr = ServerAddress(known.Address) // for connections that stand
	}
	return to, nil
}

// recall returns the address of a server that nobody is about to dial.
func (r *resolver) recall(id ServerID, target ServerAddress) ServerAddress {
	if r.book.Provider == nil {
		return target
	}
	known, err := r.book.Find(context.Background(), string(id), r.deadline(time.Now()), true)
	if err != nil || known.Err != nil {
		return target
	}
	return ServerAddress(known.Address)
}

// warnOfFallback says that a call goes to an address that the provider has not
// confirmed: it may be another server's by now.
func (r *resolver) warnOfFallback(to destination, err error) {
	if skipped, due := r.fallbacks.Due(logs.Topic{Detail: string(to.id)}, time.Now()); due {
		r.logger.Warn("unable to get address for server, using fallback address", logs.WithSimilar(skipped, logs.KeyID, to.id, logs.KeyPeer, to.addr, logs.KeyError, err)...)
	}
}

func (r *resolver) changed(id, address, before string) {
	r.logger.Info("a server has a new address", logs.KeyID, id, logs.KeyPeer, address, logs.KeyBefore, before)
	r.retire(ServerAddress(before))
}

// deadline returns when a call that begins at start must have ended; zero is
// never.
func (r *resolver) deadline(start time.Time) time.Time {
	if r.timeout <= 0 {
		return time.Time{}
	}
	return start.Add(r.timeout)
}
