package raftwire

import (
	"bytes"
	"io"
	"math"
	"time"

	"github.com/raftwire/raftwire/internal/progress"
)

// InstallSnapshot implements [Transport]. The body goes to the peer in copies, all of
// it, whatever args.Size says. It is bounded as over a network, with a stall limit of
// a minute, or the timeout if that is longer; the answer must come within ten timeouts
// after the end of the body.
func (i *InmemTransport) InstallSnapshot(_ ServerID, target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	return i.request(rpcInstallSnapshot, target, args, resp, func() error {
		return i.sendSnapshot(target, args, resp, data)
	})
}

func (i *InmemTransport) sendSnapshot(target ServerAddress, args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	data, err := orEmpty(data, args.Size)
	if err != nil {
		return err
	}
	pipe, err := i.openPipe(target)
	if err != nil {
		return err
	}
	defer pipe.close(errAnswered)
	return newInmemSnapshot(pipe, i.timeout).transfer(args, resp, data)
}

// inmemSnapshot carries the body of a snapshot from the sender's goroutine,
// which owns the reader, to the consumer.
type inmemSnapshot struct {
	pipe   *inmemPipe
	limits stallLimits
	chunks chan inmemChunk // closed after the last

	answered chan struct{} // closed when the consumer has answered, or never will
	over     chan struct{} // closed when the answer is there, in the following
	resp     InstallSnapshotResponse
	err      error
}

type inmemChunk struct {
	data []byte
	passage
}

func newInmemSnapshot(pipe *inmemPipe, timeout time.Duration) *inmemSnapshot {
	return &inmemSnapshot{
		pipe:     pipe,
		limits:   defaultStallLimits(timeout),
		chunks:   make(chan inmemChunk),
		answered: make(chan struct{}),
		over:     make(chan struct{}),
	}
}

func (s *inmemSnapshot) transfer(args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	request := cloneRequest(args)
	tasks := &s.pipe.from.tasks
	if !tasks.Start(func() { s.deliver(request, args.Size) }) {
		return ErrTransportShutdown
	}
	_, err := copyBody(data, math.MaxInt64, s.write)
	if err != nil && err != errSendingOver {
		s.pipe.close(err)
		<-s.over
		return err
	}
	close(s.chunks)
	defer s.pipe.limit(10 * s.limits.timeout)()
	<-s.over
	*resp = s.resp
	return s.err
}

// deliver brings the request to the consumer and the answer back.
func (s *inmemSnapshot) deliver(request any, size int64) {
	defer close(s.over)
	if s.err = s.reach(); s.err != nil {
		return
	}
	othersWait := func() bool { return s.pipe.to.othersWait(s.pipe.from) }
	body := &inmemBody{snapshot: s, size: size, clock: s.limits.bodyClock(othersWait)}
	start := time.Now()
	err := s.pipe.deal(s.pipe.to.dispatcher(s.pipe.gone), rpcInstallSnapshot, request, body, &s.resp)
	close(s.answered)
	if s.err = s.pipe.comeBack(err, &s.resp); s.err == nil {
		s.pipe.there.answered(start)
	}
}

// reach brings the request to the peer, as any other within the timeout.
func (s *inmemSnapshot) reach() error {
	defer s.pipe.limit(s.limits.timeout)()
	return s.pipe.reach()
}

// write sends a chunk. It leaves when the one before is read, and so there are
// two on the way at most.
func (s *inmemSnapshot) write(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	chunk := inmemChunk{bytes.Clone(piece), s.pipe.there.depart()}
	clock := s.limits.sendClock(s.pipe.there.lastAnswered)
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
func (s *inmemSnapshot) offer(chunk inmemChunk, until time.Time) (sent bool, err error) {
	expired, stop := deadlineTimer(until)
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

// inmemBody is the consumer's end of an inmemSnapshot.
type inmemBody struct {
	snapshot *inmemSnapshot
	size     int64 // as announced
	got      int64
	clock    progress.Clock
	chunk    []byte // rest of what has arrived
	onTheWay *inmemChunk
	err      error
}

// Read implements io.Reader with the errors of snapshotBody.
func (b *inmemBody) Read(p []byte) (int, error) {
	if isClosed(b.snapshot.answered) {
		return 0, errBodyClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(b.chunk) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.err = b.next()
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	b.got += int64(n)
	return n, nil
}

// next waits for the next chunk until its clock wants to look again.
func (b *inmemBody) next() error {
	b.clock.Resume()
	err := b.await()
	b.clock.Received(len(b.chunk), MinSnapshotBytesPerSecond)
	if err != errCommandTimeout {
		return err
	}
	if late := b.clock.Check(false); late != nil {
		return errStalled(b.got, b.size, late)
	}
	return nil
}

func (b *inmemBody) await() error {
	s := b.snapshot
	expired, stop := deadlineTimer(b.clock.NextLook())
	defer stop()
	if b.onTheWay != nil {
		return b.take(expired)
	}
	select {
	case <-s.answered:
		return errBodyClosed
	case chunk, ok := <-s.chunks:
		if !ok {
			return b.end()
		}
		b.onTheWay = &chunk
		return b.take(expired)
	case <-s.pipe.gone:
		return errEndedEarly(b.got, b.size)
	case <-expired:
		return errCommandTimeout
	}
}

// end is what a body ends with that has come to its end.
func (b *inmemBody) end() error {
	if b.got < b.size {
		return errEndedEarly(b.got, b.size)
	}
	return io.EOF
}

// take waits for the chunk that is on its way.
func (b *inmemBody) take(expired <-chan time.Time) error {
	pipe := b.snapshot.pipe
	switch {
	case pipe.there.await(b.onTheWay.passage, pipe.gone, expired):
		b.chunk, b.onTheWay = b.onTheWay.data, nil
		return nil
	case isClosed(pipe.gone): // it will not come any more
		return errEndedEarly(b.got, b.size)
	}
	return errCommandTimeout
}
