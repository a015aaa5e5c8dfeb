package raftwire

import (
	"context"
	"fmt"
	"time"

	"github.com/raftwire/raftwire/internal/logs"
)

// destination returns where to reach a server, for a call that begins at start. With
// an error it is target.
func (n *NetworkTransport) destination(id ServerID, target ServerAddress, start time.Time) (destination, error) {
	to := destination{id: id, addr: target, deadline: n.deadline(start)}
	if n.addresses.Provider == nil {
		return to, nil
	}
	known, err := n.addresses.Find(string(id), func() (context.Context, context.CancelFunc) { return n.lifeUntil(to.deadline) })
	switch {
	case err != nil:
		return to, err
	case known.Err == nil:
		to.addr = ServerAddress(known.Address)
	case !n.noAddressFallback:
		n.warnOfFallback(to, known.Err)
	default:
		to.unconfirmed = fmt.Errorf("address unknown, and NoAddressFallback is set: %w", known.Err)
		if known.Address == "" {
			return to, to.unconfirmed
		}
		to.addr = ServerAddress(known.Address) // for connections that stand
	}
	return to, nil
}

// lifeUntil returns a context that ends at the deadline and on Close.
func (n *NetworkTransport) lifeUntil(deadline time.Time) (context.Context, context.CancelFunc) {
	if deadline.IsZero() {
		return context.WithCancel(n.life)
	}
	return context.WithDeadline(n.life, deadline)
}

// recall returns the address of a server that nobody is about to dial.
func (n *NetworkTransport) recall(id ServerID, target ServerAddress) ServerAddress {
	if n.addresses.Provider == nil {
		return target
	}
	known, err := n.addresses.Recall(string(id), func() (context.Context, context.CancelFunc) { return n.lifeUntil(n.deadline(time.Now())) })
	if err != nil || known.Err != nil {
		return target
	}
	return ServerAddress(known.Address)
}

// warnOfFallback says that a call goes to an address that the provider has not
// confirmed: it may be another server's by now.
func (n *NetworkTransport) warnOfFallback(to destination, err error) {
	if skipped, due := n.fallbacks.Due(logs.Topic{Detail: string(to.id)}, time.Now()); due {
		n.logger.Warn("unable to get address for server, using fallback address", logs.WithSimilar(skipped, logs.KeyID, to.id, logs.KeyPeer, to.addr, logs.KeyError, err)...)
	}
}

func (n *NetworkTransport) addressChanged(id, address, before string) {
	n.logger.Info("a server has a new address", logs.KeyID, id, logs.KeyPeer, address, logs.KeyBefore, before)
	n.retire(ServerAddress(before))
}
