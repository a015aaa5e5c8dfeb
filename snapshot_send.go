package raftwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/raftwire/raftwire/internal/conn"
	"github.com/raftwire/raftwire/internal/errno"
	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/tasks"
)

// A snapshot travels as a request, the body, and an answer. Size is what the request
// says of the body's length. No receiver reads more than that; a body that is shorter
// travels as it is: some programs compress a body under way.

// emptyReads is how many reads of a snapshot may in a row yield neither bytes
// nor an error.
const emptyReads = 100

// InstallSnapshot implements [Transport]; see InstallSnapshotContext.
func (n *NetworkTransport) InstallSnapshot(id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return n.InstallSnapshotContext(context.Background(), id, target, args, resp, data)
}

// InstallSnapshotContext implements [WithContext]. It uses a new connection, so that
// nothing has to be tried twice, and closes it afterwards. If the peer answers before
// it has got everything, sending stops, and the call returns that answer. At most Size
// bytes are sent: no peer reads more, and hashicorp/raft would take the rest for
// requests. After a shorter body the sending side of the connection is closed, if the
// connection can do that: then a peer that waits for the rest fails at once. If ctx ends
// during a Read of data, the call ends when that Read returns.
func (n *NetworkTransport) InstallSnapshotContext(ctx context.Context, id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return n.request(ctx, id, target, rpcInstallSnapshot, args, resp, func(to destination, start time.Time) (sizes, error) {
		data, err := orEmpty(data, args.Size)
		if err != nil {
			return sizes{}, err
		}
		return n.sendSnapshot(to, start, args, resp, data)
	})
}

// orEmpty returns data, or a reader of nothing if it is nil and may be.
func orEmpty(data io.Reader, size int64) (io.Reader, error) {
	switch {
	case !sock.IsNil(data):
		return data, nil
	case size > 0:
		return nil, fmt.Errorf("nil reader: data must yield the %d bytes of Size", size)
	}
	return strings.NewReader(""), nil
}

func (n *NetworkTransport) sendSnapshot(to destination, start time.Time, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) (sizes, error) {
	if n.IsShutdown() {
		return sizes{}, n.down()
	}
	c, err := n.dial(to)
	if err != nil {
		return sizes{}, err
	}
	c.beginCall(to, start)
	defer n.discard(c, errSnapshotOver)
	defer c.closeAfter(to.ctx)()
	sock.RaiseUserTimeout(c.Raw, n.snapshotPatience(args.Size))
	sock.LimitWrites(c.Raw, n.stallLimits.stall)
	n.snapshotPace.enter()
	defer n.snapshotPace.leave()
	clock := n.stallLimits.sendClock(c.traffic.lastAnswered)
	s := snapshotSender{
		conn:     c,
		pacer:    &n.snapshotPace,
		clock:    clock,
		answered: make(chan struct{}),
		report:   newBodyProgress(c, to.id, args.Size),
	}
	if args.Size > conn.LargeMessage {
		c.SetLarge()
	}
	if err := c.send(to.deadline, rpcInstallSnapshot, n.newTime, args); err != nil {
		return c.last, c.hangUp(err)
	}
	if !n.tasks.Start(func() { s.awaitAnswer(clock) }) {
		return c.last, n.down()
	}
	s.sendBody(data, args.Size)
	err = s.finish(n.restoreLimit(args.Size), resp)
	if err == nil {
		c.traffic.answered(start)
	}
	return s.sizes(), err
}

// snapshotSender sends one snapshot. The caller's goroutine writes, since it
// owns the reader; another waits for the answer, which may come early.
type snapshotSender struct {
	conn    *netConn
	pacer   *pacer
	clock   progress.Clock // owned by the writer, as the following
	report  bodyProgress
	failure error // of sendBody
	lost    bool  // a write failed, though the connection was not closed here

	writing atomic.Bool // a write is under way

	// Set by awaitAnswer before it closes answered.
	answered chan struct{}
	resp     InstallSnapshotResponse
	err      error
}

// errSnapshotOver ends the connection of a snapshot.
var errSnapshotOver = errors.New("snapshot answered")

// awaitAnswer reads the answer, and closes the connection: that ends a write which
// the peer will not read any more. Meanwhile it looks whether the writer makes
// progress. Over TLS the writer cannot: TLS does not go on where a look has
// interrupted a write.
func (s *snapshotSender) awaitAnswer(clock progress.Clock) {
	defer close(s.answered)
	check := func() error { return clock.Check(clock.Grew(s.conn.Sent()) || !s.writing.Load()) }
	if err := s.conn.awaitSteadily(&clock, check); err != nil {
		s.err = s.conn.hangUp(err)
		return
	}
	s.err = s.conn.receive(rpcInstallSnapshot, &s.resp)
	_ = s.conn.Close(errSnapshotOver)
}

// errSendingOver ends copyBody when awaitAnswer knows how the snapshot ends.
var errSendingOver = errors.New("answered")

func (s *snapshotSender) sendBody(data io.Reader, size int64) {
	sent, err := copyBody(data, size, s.write)
	switch {
	case err == nil && sent < size:
		_ = sock.CloseWrite(s.conn.Raw)
	case err != nil && err != errSendingOver:
		// Without half-closing, and with the last piece unsent: the peer must not
		// take what it has for the whole.
		s.failure = err
		_ = s.conn.Close(err)
	}
	s.conn.EndWriteDeadline()
	s.report.end()
}

// copyBody gives what data yields to write, up to limit bytes, and returns how many
// were written. What a Read yields is held back until the next one: if that fails, no
// follower may have got the whole body. So a reader that checks what it has read can
// still report that at its end.
func copyBody(data io.Reader, limit int64, write func(piece []byte) error) (sent int64, err error) {
	data = &restlessReader{Reader: data}
	size := min(max(limit, 1), snapshotChunk)
	held, next := make([]byte, 0, size), make([]byte, size)
	for {
		n, err := data.Read(next)
		if err != nil && err != io.EOF {
			return sent, fmt.Errorf("reading the snapshot: %w", err)
		}
		if failed := write(held); failed != nil {
			return sent, failed
		}
		sent += int64(len(held))
		held, next = next[:min(int64(n), limit-sent)], held[:size]
		switch {
		case err == io.EOF:
			if err = write(held); err == nil {
				sent += int64(len(held))
			}
			return sent, err
		case n > 0 && len(held) == 0:
			return sent, nil // the rest would be over the limit
		}
	}
}

// restlessReader ends with io.ErrNoProgress where its reader yields nothing again
// and again.
type restlessReader struct {
	io.Reader
	empty int
}

func (r *restlessReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.empty++; n > 0 {
		r.empty = 0
	}
	if r.empty >= emptyReads && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// write writes a piece, when it is its turn. Without a piece it, too, says whether to go
// on.
func (s *snapshotSender) write(piece []byte) error {
	if s.conn.Failure() != nil {
		return errSendingOver
	}
	for len(piece) > 0 {
		now, wait := s.pacer.reserve(int64(len(piece)))
		if wait > 0 {
			tasks.Pause(wait, s.answered)
		}
		if err := s.explain(s.writeNow(piece[:now])); err != nil {
			return err
		}
		piece = piece[now:]
	}
	return nil
}

func (s *snapshotSender) writeNow(piece []byte) error {
	before := s.conn.Sent()
	s.writing.Store(true)
	s.clock.Restart(time.Now())
	err := s.conn.WriteSteadily(piece, &s.clock)
	s.writing.Store(false)
	s.report.add(s.conn.Sent() - before)
	return err
}

// explain returns why not to go on after a write that ended with err. If the
// connection was closed, awaitAnswer knows the reason. A peer that is gone may have
// answered before: that counts, if it can still be read.
func (s *snapshotSender) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case s.conn.Failure() != nil:
		return errSendingOver
	case errors.Is(err, errno.TimedOut):
		return explainUnacknowledged(err)
	case errno.IsTimeout(err):
		return err
	}
	s.lost = true
	return errSendingOver
}

// finish waits for the answer: for at most limit, if it is positive, while the
// peer restores, and no longer than for anything else if the peer is gone.
func (s *snapshotSender) finish(limit time.Duration, resp *InstallSnapshotResponse) error {
	if s.lost {
		limit = s.conn.Timeout
	}
	if limit > 0 && tasks.Pause(limit, s.answered) {
		_ = s.conn.Close(errno.Timeout(fmt.Sprintf("no answer within %v after the snapshot was sent", limit)))
	}
	<-s.answered
	if s.failure != nil {
		return s.failure
	}
	*resp = s.resp
	return s.err
}

// sizes is called after finish.
func (s *snapshotSender) sizes() sizes {
	return sizes{request: s.conn.last.request + s.report.event.Done, response: s.conn.In.Consumed()}
}
