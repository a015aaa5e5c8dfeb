package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The floor: what TCP, or TLS, alone does with the same bytes. No rival can be faster
// than its stream, and none that makes calls faster than its ping-pong.

// rawBlock is how many bytes a stream reads, and writes unless a request is
// longer, at a time.
const rawBlock = 64 << 10

// A rawPair is a connection from this process to itself.
type rawPair struct {
	client, server  net.Conn
	request, answer []byte
	served          chan struct{} // closed when the server's goroutine has ended
}

// openRaw connects and starts serve, which ends when its connection does.
func openRaw(s setup, serve func(*rawPair)) (*rawPair, error) {
	client, server, err := connect(s.credentials, s.timeout)
	if err != nil {
		return nil, err
	}
	p := &rawPair{
		client:  client,
		server:  server,
		request: s.content.requestFrame(),
		answer:  answerFrame(),
		served:  make(chan struct{}),
	}
	go func() {
		defer close(p.served)
		defer server.Close() // tells the client if serve gives up
		serve(p)
	}()
	return p, nil
}

// connect returns both ends of a connection, secured if there are credentials.
func connect(c *credentials, timeout time.Duration) (client, server net.Conn, err error) {
	client, server, err = connectTCP()
	if err != nil {
		return nil, nil, err
	}
	client, server = c.client(client), c.server(server)
	shook := make(chan error, 1)
	go func() { shook <- shakeHands(server, timeout) }()
	if err := errors.Join(shakeHands(client, timeout), <-shook); err != nil {
		return nil, nil, errors.Join(err, client.Close(), server.Close())
	}
	return client, server, nil
}

func connectTCP() (client, server net.Conn, err error) {
	listener, err := net.Listen("tcp", loopback)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	client, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	server, err = listener.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	return client, server, nil
}

func (p *rawPair) Close() error {
	err := p.client.Close()
	p.server.Close()
	<-p.served
	return err
}

// A pingPong writes a request and reads its answer, in turn.
type pingPong struct{ *rawPair }

func openPingPong(s setup) (exchange, error) {
	p, err := openRaw(s, (*rawPair).servePingPong)
	return pingPong{p}, err
}

// openHandOver is a ping-pong in which a goroutine of its own makes the
// answers, as in a transport whose requests go to a Raft core.
func openHandOver(s setup) (exchange, error) {
	p, err := openRaw(s, (*rawPair).serveHandOver)
	return pingPong{p}, err
}

func (p pingPong) run(stop *atomic.Bool, latency *hdrhistogram.Histogram) (int64, error) {
	got := make([]byte, len(p.answer))
	for n := int64(1); ; n++ {
		start := time.Now()
		if _, err := p.client.Write(p.request); err != nil {
			return n, err
		}
		if _, err := io.ReadFull(p.client, got); err != nil {
			return n, err
		}
		record(latency, time.Since(start))
		if !bytes.Equal(got, p.answer) {
			return n, errors.New("wrong answer")
		}
		if stop.Load() {
			return n, nil
		}
	}
}

func (p *rawPair) servePingPong() {
	got := make([]byte, len(p.request))
	for {
		if _, err := io.ReadFull(p.server, got); err != nil {
			return
		}
		if _, err := p.server.Write(p.answer); err != nil {
			return
		}
	}
}

func (p *rawPair) serveHandOver() {
	requests, answers := make(chan []byte), make(chan []byte, 1)
	defer close(requests)
	go func() {
		for range requests {
			answers <- p.answer
		}
	}()
	got := make([]byte, len(p.request))
	for {
		if _, err := io.ReadFull(p.server, got); err != nil {
			return
		}
		requests <- got
		if _, err := p.server.Write(<-answers); err != nil {
			return
		}
	}
}

// A stream writes blocks of requests without waiting for answers.
type stream struct {
	*rawPair
	block    []byte // requests, back to back
	requests int64  // in block
}

func openStream(s setup) (exchange, error)      { return newStream(s, (*rawPair).serveStream) }
func openFreshStream(s setup) (exchange, error) { return newStream(s, (*rawPair).serveFreshStream) }

func newStream(s setup, serve func(*rawPair)) (exchange, error) {
	p, err := openRaw(s, serve)
	if err != nil {
		return nil, err
	}
	n := max(1, rawBlock/len(p.request))
	return &stream{rawPair: p, block: bytes.Repeat(p.request, n), requests: int64(n)}, nil
}

// run does not record latency, which would be that of the sockets' buffers.
func (s *stream) run(stop *atomic.Bool, _ *hdrhistogram.Histogram) (int64, error) {
	var total atomic.Int64
	sent := make(chan error, 1)
	go func() { sent <- s.send(stop, &total) }()
	n, err := s.receive(&total)
	if err != nil {
		s.client.Close() // ends send
	}
	return n, errors.Join(err, <-sent)
}

// send sends until stop is set, and sets total before its last block.
func (s *stream) send(stop *atomic.Bool, total *atomic.Int64) error {
	for n := s.requests; ; n += s.requests {
		last := stop.Load()
		if last {
			total.Store(n)
		}
		if _, err := s.client.Write(s.block); err != nil || last {
			return err
		}
	}
}

func (s *stream) receive(total *atomic.Int64) (int64, error) {
	size := int64(len(s.answer))
	buffer := make([]byte, rawBlock)
	var got int64
	for {
		n, err := s.client.Read(buffer)
		got += int64(n)
		if want := total.Load() * size; want > 0 && got >= want {
			return got / size, surplus(got - want)
		}
		if err != nil {
			return got / size, err
		}
	}
}

func surplus(n int64) error {
	if n > 0 {
		return fmt.Errorf("%d bytes more than there are answers", n)
	}
	return nil
}

// serveStream counts the requests in each block and answers them together.
func (p *rawPair) serveStream() {
	buffer := make([]byte, rawBlock)
	answers := bytes.Repeat(p.answer, rawBlock/len(p.request)+1)
	for pending := 0; ; pending %= len(p.request) {
		n, err := p.server.Read(buffer)
		if err != nil {
			return
		}
		pending += n
		complete := pending / len(p.request)
		if complete == 0 {
			continue
		}
		if _, err := p.server.Write(answers[:complete*len(p.answer)]); err != nil {
			return
		}
	}
}

// serveFreshStream reads each request into memory of its own, as a transport
// must that hands requests on, and answers together what arrived together.
func (p *rawPair) serveFreshStream() {
	reader := bufio.NewReaderSize(p.server, rawBlock)
	var answers []byte
	for {
		if _, err := io.ReadFull(reader, make([]byte, len(p.request))); err != nil {
			return
		}
		answers = append(answers, p.answer...)
		if reader.Buffered() >= len(p.request) {
			continue
		}
		if _, err := p.server.Write(answers); err != nil {
			return
		}
		answers = answers[:0]
	}
}
