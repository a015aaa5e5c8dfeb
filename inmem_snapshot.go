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
	clearResponse(resp)
	pipe, err := i.connectFor(target, args)
	if err == nil {
		err = newInmemSnapshot(pipe, i.timeout).transfer(args, resp, data)
		pipe.close(errAnswered)
	}
	return explainInmem(rpcInstallSnapshot, target, err)
}

// inmemSnapshot carries the body of a snapshot from the sender's goroutine,
// which owns the reader, to the consumer.
type inmemSnapshot struct {
	pipe    *inmemPipe
	timeout time.Duration
	chunks  chan []byte // closed after the last

	over chan struct{} // closed when the answer is there, in the following
	resp InstallSnapshotResponse
	err  error
}

func newInmemSnapshot(pipe *inmemPipe, timeout time.Duration) *inmemSnapshot {
	return &inmemSnapshot{pipe: pipe, timeout: timeout, chunks: make(chan []byte), over: make(chan struct{})}
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

func (s *inmemSnapshot) deliver(request any, size int64) {
	s.err = s.pipe.exchange(rpcInstallSnapshot, request, &inmemBody{snapshot: s, left: size}, &s.resp)
	close(s.over)
}

func (s *inmemSnapshot) write(chunk []byte) error {
	expired, stop := after(s.timeout)
	defer stop()
	select {
	case s.chunks <- bytes.Clone(chunk):
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
	chunk    []byte
}

// Read implements io.Reader with the errors of snapshotBody.
func (b *inmemBody) Read(p []byte) (int, error) {
	select {
	case <-b.snapshot.over:
		return 0, errBodyClosed
	default:
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
	case <-s.over:
		return errBodyClosed
	case chunk, ok := <-s.chunks:
		if !ok {
			return io.ErrUnexpectedEOF
		}
		b.chunk = chunk
		return nil
	case <-s.pipe.done:
		return io.ErrUnexpectedEOF
	case <-expired:
		return errCommandTimeout
	}
}
