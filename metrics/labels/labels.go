// Package labels chooses the label values of metrics, which are few and the
// same for every metrics library. It is for modules that give the hooks and stats
// of raftwire to such a library, as those beside it do. Programs use the modules.
package labels

import (
	"errors"
	"io"
	"net"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/errno"
)

// Direction returns the label for a connection, or what goes over it.
func Direction(inbound bool) string {
	if inbound {
		return "inbound"
	}
	return "outbound"
}

// SnapshotPeer returns the label of the peer that a snapshot goes to, or the host
// that it comes from: the port is another one each time.
func SnapshotPeer(e raftwire.SnapshotEvent) string {
	peer := string(e.Peer)
	if e.ID != "" {
		peer = string(e.ID)
	} else if host, _, err := net.SplitHostPort(peer); e.Inbound && err == nil {
		peer = host
	}
	return validLabel(peer)
}

// Outcomes are the labels for how a request or a dial ended, in the order of their
// numbers: well, with an error that the peer answered, with a timeout, with the end
// of this transport, or else.
var Outcomes = [...]string{"ok", "refused", "timeout", "shutdown", "failed"}

// Outcome returns the number of an outcome.
func Outcome(err error) int {
	if err == nil {
		return 0
	}
	var remote *raftwire.RemoteError
	switch {
	case errors.As(err, &remote):
		return 1
	case errno.IsTimeout(err):
		return 2
	case isShutdown(err):
		return 3
	}
	return 4
}

// CloseReason returns the label for why a connection was closed: "peer" closed
// it, it was "cut" off, "timeout", "shutdown" on this side, or else "local",
// which is everyday life: the pool is full, a snapshot was sent.
func CloseReason(err error) string {
	switch {
	case err == io.EOF:
		return "peer"
	case errno.IsTimeout(err):
		return "timeout"
	case isShutdown(err):
		return "shutdown"
	case errno.IsCut(err) || errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	}
	return "local"
}

func isShutdown(err error) bool {
	return errors.Is(err, raftwire.ErrTransportShutdown) || errors.Is(err, raftwire.ErrPipelineShutdown)
}
