package raftwire

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
)

// Snapshots from a file and into a file. Between a regular file and a TCP
// connection the system can move bytes that this process never sees (sendfile,
// splice). That is tried in pieces, so that progress can be judged; whatever
// does not work is left to the way that all other readers and writers take.

// filePiece is how much the system moves at once. Each piece has the
// transport's timeout, and may overrun it as long as it comes forward.
const filePiece = 4 << 20

// sendFile sends data if it is a regular file, but for the last chunk. That is
// left to copyBody, which also finds out what was wrong where less was sent.
func (s *snapshotSender) sendFile(data io.Reader, size int64) (sent int64, err error) {
	raw, isTCP := s.conn.raw.(*net.TCPConn)
	file, start := regularFile(data)
	if !isTCP || file == nil {
		return 0, nil
	}
	for sent < size-snapshotChunk {
		want := s.pacer.piece(min(size-snapshotChunk-sent, filePiece))
		if !s.mayWrite(want) {
			return sent, nil
		}
		n, err := raw.ReadFrom(&io.LimitedReader{R: file, N: want})
		s.sent(n)
		if sent += n; n == want {
			continue
		}
		if s.isStalled(n, err) {
			return sent, errStalled(err)
		}
		// Bytes that were read from the file may not have been written.
		if _, err := file.Seek(start+sent, io.SeekStart); err != nil {
			return sent, fmt.Errorf("reading the snapshot: %w", err)
		}
		if !isTimeout(err) {
			return sent, nil
		}
	}
	return sent, nil
}

// regularFile returns data as a file, and its offset, or nil if it is not a
// regular one.
func regularFile(data any) (file *os.File, offset int64) {
	file, ok := data.(*os.File)
	if !ok {
		return nil, 0
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, 0
	}
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0
	}
	return file, offset
}

// WriteTo implements [io.WriterTo]: into a regular file the system moves the
// bytes.
func (b *snapshotBody) WriteTo(w io.Writer) (written int64, err error) {
	file, _ := regularFile(w)
	raw, isTCP := b.conn.raw.(*net.TCPConn)
	for more := isTCP && file != nil; more && err == nil; {
		var n int64
		n, more, err = b.fillFile(file, raw)
		written += n
	}
	if err != nil {
		return written, err
	}
	n, err := io.Copy(w, struct{ io.Reader }{b})
	return written + n, err
}

// fillFile moves a piece. The lock is held meanwhile: a regular file does not
// keep the body from being closed for long.
func (b *snapshotBody) fillFile(file *os.File, raw *net.TCPConn) (n int64, more bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil || b.left == 0 {
		return 0, false, nil // Read says so
	}
	b.claim()
	if b.conn.in.Buffered() > 0 {
		n, err := b.fillFromBuffer(file)
		b.progress.add(n)
		return n, true, err
	}
	if err := b.beforeRead(); err != nil {
		return 0, false, err
	}
	want := min(b.left, filePiece)
	n, err = file.ReadFrom(&io.LimitedReader{R: raw, N: want})
	b.left -= n
	b.conn.traffic.read(n)
	b.progress.add(n)
	switch {
	case n == want || n > 0 && isTimeout(err):
		return n, true, nil
	case err != nil && !isTimeout(err):
		// Bytes that were taken from the connection may not have reached the
		// file. So nobody knows how many are still to come.
		b.lost, b.left = true, math.MaxInt64
	}
	return n, false, b.fail(err) // nil if the connection has ended, as Read will find
}

func (b *snapshotBody) fillFromBuffer(file *os.File) (int64, error) {
	chunk := make([]byte, b.conn.in.Buffered())
	got, err := b.read(chunk)
	if err != nil {
		return 0, err
	}
	n, err := file.Write(chunk[:got])
	return int64(n), err
}
