package labels

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/stretchr/testify/require"
)

func TestDirection(t *testing.T) {
	require.Equal(t, "inbound", Direction(true))
	require.Equal(t, "outbound", Direction(false))
}

func TestSnapshotPeer(t *testing.T) {
	require.Equal(t, "peer:1", SnapshotPeer(raftwire.SnapshotEvent{Peer: "peer:1"}))
	require.Equal(t, "n1", SnapshotPeer(raftwire.SnapshotEvent{ID: "n1", Peer: "peer:1"}))
	require.Equal(t, "n\uFFFD", SnapshotPeer(raftwire.SnapshotEvent{ID: "n\xff", Peer: "peer:1"}))
	require.Equal(t, "10.0.0.1", SnapshotPeer(raftwire.SnapshotEvent{Peer: "10.0.0.1:54321", Inbound: true}))
	require.Equal(t, "@", SnapshotPeer(raftwire.SnapshotEvent{Peer: "@", Inbound: true}))
}

func TestOutcome(t *testing.T) {
	for want, errs := range map[string][]error{
		"ok":       {nil},
		"refused":  {&raftwire.RemoteError{Text: "no"}},
		"timeout":  {onTheWay(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded},
		"shutdown": {raftwire.ErrTransportShutdown, raftwire.ErrPipelineShutdown},
		"failed":   {onTheWay(io.EOF), errors.New("anything")},
	} {
		for _, err := range errs {
			require.Equal(t, want, Outcomes[Outcome(err)], "%v", err)
		}
	}
}

func TestCloseReason(t *testing.T) {
	for want, errs := range map[string][]error{
		"peer":     {io.EOF},
		"timeout":  {fmt.Errorf("read: %w", os.ErrDeadlineExceeded)},
		"shutdown": {raftwire.ErrTransportShutdown},
		"cut":      {fmt.Errorf("read: %w", errno.Reset), fmt.Errorf("write: %w", errno.BrokenPipe), io.ErrUnexpectedEOF},
		"local":    {errors.New("the pool is full"), nil},
	} {
		for _, err := range errs {
			require.Equal(t, want, CloseReason(err), "%v", err)
		}
	}
}

func onTheWay(cause error) error {
	return &raftwire.OpError{Op: "AppendEntries", Peer: "peer:1", Err: cause}
}
