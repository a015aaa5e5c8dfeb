// Package dialing dials with stream layers, which may have no way to end a dial.
package dialing

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sock"
)

// Dialer is the dialling half of a stream layer. It may have a DialContext as well,
// which is used instead.
type Dialer[A ~string] interface {
	Dial(address A, timeout time.Duration) (net.Conn, error)
}

type contextDialer[A ~string] interface {
	DialContext(ctx context.Context, address A) (net.Conn, error)
}

// Stream dials with a stream layer, and gives up when ctx is done.
func Stream[A ~string](ctx context.Context, layer Dialer[A], address A) (net.Conn, error) {
	raw, err := sock.CheckConn(dial(ctx, layer, address))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, Explain(ctx, err)
	case err != nil:
		return nil, err
	}
	return raw, nil
}

func dial[A ~string](ctx context.Context, layer Dialer[A], address A) (net.Conn, error) {
	if d, ok := layer.(contextDialer[A]); ok {
		return d.DialContext(ctx, address)
	}
	var timeout time.Duration
	if deadline, ok := ctx.Deadline(); ok {
		if timeout = time.Until(deadline); timeout <= 0 {
			return nil, errno.ErrTimeout
		}
	}
	if ctx.Value(ownGoroutine{}) != nil {
		return layer.Dial(address, timeout)
	}
	return aside(ctx, layer, address, timeout)
}

// aside runs a Dial that cannot be cancelled on a goroutine of its own, so that the
// call ends with ctx whatever Dial does. What it brings then is closed.
func aside[A ~string](ctx context.Context, layer Dialer[A], address A, timeout time.Duration) (net.Conn, error) {
	type result struct {
		raw net.Conn
		err error
	}
	results := make(chan result)
	go func() {
		raw, err := sock.CheckConn(layer.Dial(address, timeout))
		select {
		case results <- result{raw, err}:
		case <-ctx.Done():
			if err == nil {
				_ = raw.Close()
			}
		}
	}()
	select {
	case r := <-results:
		return r.raw, r.err
	case <-ctx.Done():
		return nil, Explain(ctx, ctx.Err())
	}
}

// ownGoroutine is the key of a context's value that says that nobody waits for the
// goroutine that dials.
type ownGoroutine struct{}

// OnOwnGoroutine returns a context for a goroutine that nobody waits for: a Dial that
// does not return may keep it.
func OnOwnGoroutine(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownGoroutine{}, true)
}

// Within makes a Dial of a DialContext.
func Within[A ~string](dial func(context.Context, A) (net.Conn, error), address A, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	conn, err := dial(ctx, address)
	if err != nil && ctx.Err() != nil {
		err = Explain(ctx, err)
	}
	return conn, err
}

// Explain returns what err means now that ctx is done.
func Explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errno.ErrTimeout
	}
	return err
}

// Cancels is the answer of a layer that is put over another to whether its dials end
// with their context.
type Cancels bool

// CanCancel reports whether dials of layer end with their context. Layers of this
// module that are put over others have a method CanCancelDials and end theirs as
// those do.
func CanCancel[A ~string](layer Dialer[A]) bool {
	if over, ok := layer.(interface{ CanCancelDials() Cancels }); ok {
		return bool(over.CanCancelDials())
	}
	_, ok := layer.(contextDialer[A])
	return ok
}
