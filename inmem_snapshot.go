package raftwire

import (
	"bytes"
	"io"
	"time"
)

// InstallSnapshot implements [Transport]. The body goes to the peer in copies.
// It is bounded by progress: a chunk must be taken within the timeout, and the
// answer must come within ten timeouts after the last one.
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
	pipe    *inmemPipe
	timeout time.Duration
	chunks  chan inmemChunk // closed after the last

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
		timeout:  timeout,
		chunks:   make(chan inmemChunk),
		answered: make(chan struct{}),
		over:     make(chan struct{}),
	}
}

func (s *inmemSnapshot) transfer(args *InstallSnapshotRequest, resp *InstallSnapshotResponse, data io.Reader) error {
	request := cloneRequest(args)
	tasks := &s.pipe.from.tasks
	if !tasks.start(func() { s.deliver(request, args.Size) }) {
		return ErrTransportShutdown
	}
	err := copyBody(data, 0, args.Size, s.write)
	if err != nil && err != errSendingOver {
		s.pipe.close(err)
		<-s.over
		return err
	}
	close(s.chunks)
	defer s.pipe.limit(10 * s.timeout)()
	<-s.over
	*resp = s.resp
	return s.err
}

// deliver brings the request to the consumer and the answer back.
func (s *inmemSnapshot) deliver(request any, size int64) {
	defer close(s.over)
	if s.err = s.pipe.reach(); s.err != nil {
		return
	}
	body := &inmemBody{snapshot: s, left: size}
	err := s.pipe.deal(s.pipe.to.dispatcher(s.pipe.gone), rpcInstallSnapshot, request, body, &s.resp)
	close(s.answered)
	s.err = s.pipe.comeBack(err, &s.resp)
}

// write sends a chunk. It leaves when the one before is read, and so there are
// two on the way at most.
func (s *inmemSnapshot) write(chunk []byte) error {
	expired, stop := after(s.timeout)
	defer stop()
	select {
	case s.chunks <- inmemChunk{bytes.Clone(chunk), s.pipe.there.depart()}:
		return nil
	case <-s.over:
		return errSendingOver
	case <-s.pipe.done:
		return s.pipe.failure()
	case <-expired:
		return s.pipe.timeoutError()
	}
}

// after is time.After with a stop; 0 or less is never.
func after(d time.Duration) (<-chan time.Time, func() bool) {
	if d <= 0 {
		return nil, func() bool { return true }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}

// inmemBody is the consumer's end of an inmemSnapshot.
type inmemBody struct {
	snapshot *inmemSnapshot
	left     int64
	chunk    []byte // rest of what has arrived
}

// Read implements io.Reader with the errors of snapshotBody.
func (b *inmemBody) Read(p []byte) (int, error) {
	if isClosed(b.snapshot.answered) {
		return 0, errBodyClosed
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if len(b.chunk) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	b.left -= int64(n)
	return n, nil
}

func (b *inmemBody) next() error {
	s := b.snapshot
	expired, stop := after(s.timeout)
	defer stop()
	select {
	case <-s.answered:
		return errBodyClosed
	case chunk, ok := <-s.chunks:
		if !ok {
			return io.ErrUnexpectedEOF
		}
		return b.take(chunk, expired)
	case <-s.pipe.gone:
		return io.ErrUnexpectedEOF
	case <-expired:
		return errCommandTimeout
	}
}

// take waits for a chunk that is on its way.
func (b *inmemBody) take(chunk inmemChunk, expired <-chan time.Time) error {
	pipe := b.snapshot.pipe
	switch {
	case pipe.there.await(chunk.passage, pipe.gone, expired):
		b.chunk = chunk.data
		return nil
	case pipe.failure() != nil:
		return io.ErrUnexpectedEOF
	}
	return errCommandTimeout
}
