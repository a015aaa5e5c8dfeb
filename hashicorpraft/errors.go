package hashicorpraft

import (
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
)

// raftError returns hashicorp/raft's own sentinel in place of raftwire's: its
// core compares one of them by identity, and applications the others. Every
// other error, a *raftwire.RemoteError for one, passes unchanged.
func raftError(err error) error {
	switch err {
	case raftwire.ErrTransportShutdown:
		return raft.ErrTransportShutdown
	case raftwire.ErrPipelineShutdown:
		return raft.ErrPipelineShutdown
	case raftwire.ErrPipelineReplicationNotSupported:
		return raft.ErrPipelineReplicationNotSupported
	default:
		return err
	}
}
