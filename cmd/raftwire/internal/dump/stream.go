package dump

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"time"
)

// A stream is one direction of a connection: its bytes in order, and the function
// that reads them. That runs as a coroutine: feed resumes it, and it is suspended when
// it has read everything. So it can be written as if it read from a connection, and
// nothing runs at the same time as something else.
type stream struct {
	coroutine func()
	*bufio.Reader
	bytes   []byte // fed and not read
	lost    int    // how many bytes are missing, if that was fed
	ended   bool
	now     time.Time // when the bytes were captured that were read last
	err     error     // what Read returned last, if it was an error
	resume  func() (struct{}, bool)
	suspend func(struct{}) bool
}

// A gap is the error of Read where bytes are missing.
type gap int

func (g gap) Error() string { return fmt.Sprintf("%d bytes are missing in the capture", int(g)) }

// start begins to read.
func (s *stream) start() {
	s.Reader = bufio.NewReader(reader{s})
	s.resume, _ = iter.Pull(func(yield func(struct{}) bool) {
		s.suspend = yield
		s.coroutine()
	})
}

// feed hands over bytes, which are not kept, or says that some were lost. end must be
// called in the end.
func (s *stream) feed(seen time.Time, lost int, bytes []byte) {
	if s.resume == nil {
		s.start()
	}
	s.bytes, s.lost, s.now = bytes, lost, seen
	s.resume()
	s.bytes = nil // of a reader that has returned
}

// end ends the stream, and lets its reader return.
func (s *stream) end() {
	s.ended = true
	for more := s.resume != nil; more; {
		_, more = s.resume()
	}
}

// failure returns the error with which the bytes ran out, rather than what a decoder
// made of it. Read repeats that error until failure is called.
func (s *stream) failure(err error) error {
	if err != nil && s.err != nil {
		err = s.err
	}
	s.err = nil
	return err
}

// reader is what the bufio.Reader reads from.
type reader struct{ s *stream }

// Read suspends the coroutine until there are bytes.
func (r reader) Read(p []byte) (n int, err error) {
	s := r.s
	for len(s.bytes) == 0 && s.lost == 0 && s.err == nil {
		if s.ended || !s.suspend(struct{}{}) {
			s.err = io.EOF
		}
	}
	if s.lost > 0 && s.err == nil {
		s.err, s.lost = gap(s.lost), 0
	}
	if s.err != nil {
		return 0, s.err
	}
	n = copy(p, s.bytes)
	s.bytes = s.bytes[n:]
	return n, nil
}
