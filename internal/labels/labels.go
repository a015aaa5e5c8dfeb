// Package labels chooses the label values of metrics, which are few and the
// same for every metrics library.
package labels

import (
	"errors"
	"io"
	"net"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/errno"
)

// Kind returns the label for a request: bare heartbeats have one of their own.
func Kind(kind string, heartbeat bool) string {
	if heartbeat {
		return "Heartbeat"
	}
	return kind
}

// Direction returns the label for a connection, or what goes over it.
func Direction(inbound bool) string {
	if inbound {
		return "inbound"
	}
	return "outbound"
}

// SnapshotPeer returns the address that a snapshot goes to, or the host that it
// comes from: the port is another one each time.
func SnapshotPeer(e raftwire.SnapshotEvent) string {
	if e.Inbound {
		if host, _, err := net.SplitHostPort(string(e.Peer)); err == nil {
			return host
		}
	}
	return string(e.Peer)
}

// Outcome returns the label for how a request or a dial ended: "ok", "refused"
// by the peer's answer, "timeout", "shutdown" on this side, or else "failed".
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var remote *raftwire.RemoteError
	switch {
	case errors.As(err, &remote):
		return "refused"
	case isTimeout(err):
		return "timeout"
	case isShutdown(err):
		return "shutdown"
	}
	return "failed"
}

// CloseReason returns the label for why a connection was closed: "peer" closed
// it, it was "cut" off, "timeout", "shutdown" on this side, or else "local",
// which is everyday life: the pool is full, a snapshot was sent.
func CloseReason(err error) string {
	switch {
	case err == io.EOF:
		return "peer"
	case isTimeout(err):
		return "timeout"
	case isShutdown(err):
		return "shutdown"
	case isCut(err):
		return "cut"
	}
	return "local"
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func isShutdown(err error) bool {
	return errors.Is(err, raftwire.ErrTransportShutdown) || errors.Is(err, raftwire.ErrPipelineShutdown)
}

func isCut(err error) bool {
	return errno.IsCut(err) || errors.Is(err, io.ErrUnexpectedEOF)
}
