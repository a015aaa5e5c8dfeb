package raftwire

import (
	"bytes"
	"context"
	"io"
	"math"
	"time"

	"github.com/raftwire/raftwire/internal/progress"
	"github.com/raftwire/raftwire/internal/tasks"
)

// InstallSnapshot implements [Transport]; see InstallSnapshotContext.
func (i *InmemTransport) InstallSnapshot(id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return i.InstallSnapshotContext(context.Background(), id, target, args, resp, data)
}

// InstallSnapshotContext implements [WithContext]. The body goes to the peer in copies, all of
// it, whatever args.Size says. It is bounded as over a network, with a stall limit of
// a minute, or the timeout if that is longer; the answer must come within ten timeouts
// after the end of the body. If ctx ends during a Read of data, the call ends when that
// returns.
func (i *InmemTransport) InstallSnapshotContext(ctx context.Context, id ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return i.request(ctx, rpcInstallSnapshot, id, target, args, resp, func(pipe *inmemPipe) error {
		data, err := orEmpty(data, args.Size)
		if err != nil {
			return err
		}
		limits := defaultStallLimits(i.timeout)
		s := &inmemSnapshot{pipe: pipe, limits: limits, size: args.Size, clock: limits.bodyClock(func() bool { return pipe.to.othersWait(pipe.from) })}
		s.chunks, s.answered, s.over = make(chan sent[[]byte]), make(chan struct{}), make(chan struct{})
		return s.transfer(cloneRequest(args), resp, data)
	})
}

// inmemSnapshot carries the body of a snapshot from the sender's goroutine,
// which owns the reader, to the consumer, whose Reader it is.
type inmemSnapshot struct {
	pipe   *inmemPipe
	limits stallLimits
	chunks chan sent[[]byte] // closed after the last

	answered chan struct{} // closed when the consumer has answered, or never will
	over     chan struct{} // closed when the answer is there, in the following
	resp     InstallSnapshotResponse
	err      error

	// Owned by Read.
	size, got int64 // announced, and read
	clock     progress.Clock
	chunk     []byte // rest of what has arrived
	onTheWay  *sent[[]byte]
	readErr   error
}

// transfer sends the body, while deliver waits for the answer.
func (s *inmemSnapshot) transfer(request any, resp *InstallSnapshotResponse, data io.Reader) error {
	if !s.pipe.from.tasks.Start(func() { s.deliver(request) }) {
		return ErrTransportShutdown
	}
	_, err := copyBody(data, math.MaxInt64, s.write)
	if err != nil && err != errSendingOver {
		s.pipe.end(err)
		<-s.over
		return err
	}
	close(s.chunks)
	defer s.pipe.limit(10 * s.limits.timeout)()
	<-s.over
	*resp = s.resp
	return s.err
}

// write sends a chunk. It leaves when the one before is read, and so there are
// two on the way at most.
func (s *inmemSnapshot) write(piece []byte) error {
	if len(piece) == 0 {
		return s.pipe.failure()
	}
	chunk := sent[[]byte]{bytes.Clone(piece), s.pipe.there.depart()}
	clock := s.limits.sendClock(s.pipe.there.traffic.lastAnswered)
	for {
		if sent, err := s.offer(chunk, clock.NextLook()); sent || err != nil {
			return err
		}
		if late := clock.Check(false); late != nil {
			return late
		}
	}
}

// offer waits for the consumer to take a chunk, no longer than until.
func (s *inmemSnapshot) offer(chunk sent[[]byte], until time.Time) (sent bool, err error) {
	expired, stop := tasks.Until(until)
	defer stop()
	select {
	case s.chunks <- chunk:
		return true, nil
	case <-s.over:
		return false, errSendingOver
	case <-s.pipe.done:
		return false, s.pipe.failure()
	case <-expired:
		return false, nil
	}
}

// deliver brings the request to the consumer and the answer back.
func (s *inmemSnapshot) deliver(request any) {
	defer close(s.over)
	start := time.Now()
	stop := s.pipe.limit(s.limits.timeout)
	s.err = s.pipe.reach(rpcInstallSnapshot)
	stop()
	if s.err != nil {
		return
	}
	err := s.pipe.deal(s.pipe.to.dispatcher(s.pipe.gone), rpcInstallSnapshot, request, s, &s.resp)
	close(s.answered)
	if s.err = s.pipe.comeBack(err, &s.resp); s.err == nil {
		s.pipe.there.traffic.answered(start)
	}
}

// Read implements io.Reader for the consumer, with the errors of snapshotBody.
func (s *inmemSnapshot) Read(p []byte) (int, error) {
	if tasks.IsClosed(s.answered) {
		return 0, errBodyClosed
	}
	for len(p) > 0 && len(s.chunk) == 0 && s.readErr == nil {
		s.readErr = s.next()
	}
	if len(p) > 0 && len(s.chunk) == 0 {
		return 0, s.readErr
	}
	n := copy(p, s.chunk)
	s.chunk = s.chunk[n:]
	s.got += int64(n)
	return n, nil
}

// next waits for the next chunk until its clock wants to look again.
func (s *inmemSnapshot) next() error {
	expired, stop := tasks.Until(s.clock.NextLook())
	defer stop()
	s.clock.Resume()
	err := s.await(expired)
	s.clock.Received(len(s.chunk), MinSnapshotBytesPerSecond)
	if err != errCommandTimeout {
		return err
	}
	if late := s.clock.Check(false); late != nil {
		return errStalled(s.got, s.size, late)
	}
	return nil
}

// await waits for a chunk to leave, and then for it to arrive.
func (s *inmemSnapshot) await(expired <-chan time.Time) error {
	if s.onTheWay == nil {
		select {
		case <-s.answered:
			return errBodyClosed
		case chunk, ok := <-s.chunks:
			if !ok && s.got < s.size {
				return errEndedEarly(s.got, s.size)
			} else if !ok {
				return io.EOF
			}
			s.onTheWay = &chunk
		case <-s.pipe.gone:
			return errEndedEarly(s.got, s.size)
		case <-expired:
			return errCommandTimeout
		}
	}
	switch {
	case s.pipe.there.await(s.onTheWay.passage, s.pipe.gone, expired):
		s.chunk, s.onTheWay = s.onTheWay.what, nil
		return nil
	case tasks.IsClosed(s.pipe.gone): // it will not come any more
		return errEndedEarly(s.got, s.size)
	}
	return errCommandTimeout
}
