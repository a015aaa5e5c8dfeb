package raftwire

import (
	"errors"
	"fmt"
	"io"

	"github.com/raftwire/raftwire/internal/door"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/sock"
)

// errBodyUnread ends a connection whose snapshot was answered before all that its
// sender had sent was read.
var errBodyUnread = &door.Refusal{Mild: true, Detail: "cut", Err: errors.New("snapshot was answered before it was read to its end")}

// serveSnapshot hands a snapshot over, with its body, which the consumer reads
// until it answers. The answer goes out at once. The connection ends with it: what
// else comes is no request, if the body was not read or is longer than Size.
func (s *session) serveSnapshot(request *InstallSnapshotRequest) error {
	if err := s.settleUp(); err != nil {
		return err
	}
	body := s.newBody(request)
	hook := s.conn.In.SetBefore(body.beforeRead)
	answer, err := s.lendBody(request, body)
	read, unread, failure := body.end()
	s.meter.readBody(read)
	if err != nil {
		return err
	}
	s.conn.In.SetBefore(hook)
	s.armed = true // body has set a deadline
	if err := s.replies.send(pendingReply{kind: rpcInstallSnapshot, said: s.said}, answer); err != nil {
		return err
	}
	_ = sock.CloseWrite(s.conn.Raw)
	if failure != nil {
		return failure // which the consumer has answered to
	}
	return s.discardRest(unread)
}

func (s *session) newBody(request *InstallSnapshotRequest) *snapshotBody {
	from := senderOf(s.conn, request)
	sock.RaiseUserTimeout(s.conn.Raw, s.server.snapshotPatience(request.Size))
	return &snapshotBody{
		conn:   s.conn,
		left:   request.Size,
		clock:  s.server.snapshots.bodyClock(func() bool { return s.server.waiting.others(from) }),
		report: newBodyProgress(s.conn, "", request.Size),
	}
}

// lendBody lends the connection's input to the consumer until it answers. It
// sees for itself if the caller goes.
func (s *session) lendBody(request *InstallSnapshotRequest, body *snapshotBody) (RPCResponse, error) {
	o, err := s.offer(rpcInstallSnapshot, request, body)
	if err != nil {
		return RPCResponse{}, err
	}
	s.meter.answered = o.serving // no other answer is pending
	answer, err := s.replies.collect(o, false)
	if err == nil {
		body.close()
	}
	return answer, err
}

// discardRest reads and throws away what still comes, until the sender ends the
// connection: one that looks for the answer only after its last byte would otherwise
// never see it. unread is what was left of the body.
func (s *session) discardRest(unread int64) error {
	buf := make([]byte, snapshotChunk)
	surplus := false
	for {
		n, err := s.conn.In.Read(buf)
		surplus = surplus || n > 0
		switch {
		case err == nil:
		case unread > 0 && errno.IsTimeout(err):
			return fmt.Errorf("%w; then: %w", errBodyUnread, err)
		case surplus:
			return errBodyUnread
		default:
			return io.EOF // as senders end
		}
	}
}
