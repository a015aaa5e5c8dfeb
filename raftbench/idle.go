package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const aboutIdle = `Measures what idle inbound connections cost: opens so many to a receiver in a process
of its own, has a heartbeat answered on each, and asks the receiver for its memory.
"raw" is a goroutine for each connection that waits in Read, and nothing else. Flags:
`

// idleOptions are what the command line asks for.
type idleOptions struct {
	conns   int
	timeout time.Duration
	serve   string
}

func parseIdleOptions(args []string, help io.Writer) (idleOptions, error) {
	var o idleOptions
	flags := newFlagSet("idle")
	flags.IntVar(&o.conns, "conns", 10_000, "`connections` to each rival; fewer if the system allows fewer open files")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit of connecting, and of a heartbeat")
	flags.StringVar(&o.serve, "serve", "", "be the process in which this `rival` receives, spoken to through standard input; the program starts itself so")
	if err := parseFlags(flags, args, aboutIdle, help); err != nil {
		return o, err
	}
	switch {
	case o.conns < 1:
		return o, fmt.Errorf("-conns %d: at least 1 is needed", o.conns)
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	}
	return o, nil
}

// An idleRival is something that connections can be made to.
type idleRival struct {
	name   string
	listen func(address string, s setup) (receiver, error)
}

const nameRaw = "raw"

var idleRivals = []idleRival{
	{nameRaw, listenRaw},
	{nameHashicorp, hashicorpStack.listen},
	{nameRaftwire, raftwireStack.listen},
}

// measureIdle is the command idle.
func measureIdle(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseIdleOptions(args, out)
	if err != nil {
		return err
	}
	if o.serve != "" {
		return serveIdle(o, os.Stdin, out)
	}
	return idleWith(ctx, o, startSelf, out)
}

// idleWith measures all rivals, each in a process that start starts.
func idleWith(ctx context.Context, o idleOptions, start func(context.Context, string) (*idleProcess, error), out io.Writer) error {
	if n := connsAllowed(o.conns); n < o.conns {
		fmt.Fprintf(out, "The system allows %d connections, not %d: raise the limit of open files (ulimit -n).\n\n", n, o.conns)
		o.conns = n
	}
	rows := [][]string{{"rival", "heap B", "stack B", "RSS B", "goroutines"}}
	for _, r := range idleRivals {
		p, err := start(ctx, r.name)
		if err != nil {
			return err
		}
		cost, err := measureIdleRival(ctx, o, p)
		if err = errors.Join(err, p.end()); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		rows = append(rows, cost.row(r.name, o.conns))
	}
	fmt.Fprintf(out, "what an idle inbound connection costs its receiver, with %s of them\n%s\n\n", grouped(float64(o.conns)), thisMachine())
	writeAligned(out, 1, rows)
	fmt.Fprint(out, "\nheap: live after a collection. RSS: of the whole process, after unused memory went back to\n"+
		"the system, which has memory for each socket besides; \"-\" where it is not known (Linux only).\n")
	return nil
}

// connsAllowed returns how many of n connections the process may have,
// besides the files that it has open anyway.
func connsAllowed(n int) int {
	const others = 64
	return max(1, min(n, raiseOpenFiles(n+others)-others))
}

// measureIdleRival returns what a receiver's memory grows by.
func measureIdleRival(ctx context.Context, o idleOptions, p *idleProcess) (memory, error) {
	address, err := p.line()
	if err != nil {
		return memory{}, err
	}
	if err := connectIdle(ctx, o, address, 1, func() error { return nil }); err != nil {
		return memory{}, err // what exists once, whatever comes
	}
	before, err := p.memory()
	if err != nil {
		return memory{}, err
	}
	var after memory
	err = connectIdle(ctx, o, address, o.conns, func() (err error) {
		after, err = p.memory()
		return err
	})
	return after.minus(before), err
}

// connectIdle calls then while it has n connections.
func connectIdle(ctx context.Context, o idleOptions, address string, n int, then func() error) error {
	beat := newContent(heartbeat).requestFrame()
	answer := make([]byte, len(answerFrame()))
	for range n {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		conn, err := net.DialTimeout("tcp", address, o.timeout)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(o.timeout)); err != nil {
			return err
		}
		if _, err := conn.Write(beat); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, answer); err != nil {
			return fmt.Errorf("answer to a heartbeat: %w", err)
		}
	}
	return then()
}

// An idleProcess is where a receiver is.
type idleProcess struct {
	questions io.WriteCloser
	answers   *bufio.Reader
	wait      func() error
}

// startSelf starts this program again.
func startSelf(ctx context.Context, rival string) (*idleProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "idle", "-serve", rival)
	c.Stderr = os.Stderr
	in, inErr := c.StdinPipe()
	out, outErr := c.StdoutPipe()
	if err := errors.Join(inErr, outErr, c.Start()); err != nil {
		return nil, err
	}
	return &idleProcess{questions: in, answers: bufio.NewReader(out), wait: c.Wait}, nil
}

func (p *idleProcess) line() (string, error) {
	line, err := p.answers.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the receiving process ended early: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (p *idleProcess) memory() (m memory, err error) {
	if _, err := fmt.Fprintln(p.questions, "memory"); err != nil {
		return m, err
	}
	line, err := p.line()
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal([]byte(line), &m)
}

func (p *idleProcess) end() error {
	return errors.Join(p.questions.Close(), p.wait())
}

// serveIdle is the other process: it tells its address, then its memory for
// each line that it reads, and ends at their end.
func serveIdle(o idleOptions, in io.Reader, out io.Writer) error {
	i := slices.IndexFunc(idleRivals, func(r idleRival) bool { return r.name == o.serve })
	if i < 0 {
		return fmt.Errorf("-serve %q: choose from %s, %s, %s", o.serve, nameRaw, nameHashicorp, nameRaftwire)
	}
	raiseOpenFiles(o.conns)
	r, err := idleRivals[i].listen(loopback, setup{timeout: o.timeout})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, r.address())
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		err = errors.Join(err, answers.Encode(readMemory()))
	}
	return errors.Join(err, r.Close())
}

// memory is what a process has, or a difference of that.
type memory struct{ Heap, Stack, RSS, Goroutines int64 }

func readMemory() memory {
	runtime.GC()
	debug.FreeOSMemory() // the second collection empties pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return memory{
		Heap:       int64(stats.HeapAlloc),
		Stack:      int64(stats.StackInuse),
		RSS:        residentBytes(),
		Goroutines: int64(runtime.NumGoroutine()),
	}
}

// residentBytes returns 0, which stands for unknown, except on Linux.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func (m memory) minus(o memory) memory {
	return memory{m.Heap - o.Heap, m.Stack - o.Stack, m.RSS - o.RSS, m.Goroutines - o.Goroutines}
}

// row returns the memory for each of n connections.
func (m memory) row(name string, n int) []string {
	each := func(total int64) float64 { return float64(total) / float64(n) }
	rss := "-"
	if m.RSS != 0 {
		rss = grouped(each(m.RSS))
	}
	return []string{name, grouped(each(m.Heap)), grouped(each(m.Stack)), rss, fmt.Sprintf("%.2f", each(m.Goroutines))}
}

// A rawReceiver has a goroutine for each connection, which waits for a
// heartbeat and answers it.
type rawReceiver struct {
	listener net.Listener
	serving  sync.WaitGroup

	requestLen int
	answer     []byte
}

func listenRaw(address string, _ setup) (receiver, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	r := &rawReceiver{
		listener:   listener,
		requestLen: len(newContent(heartbeat).requestFrame()),
		answer:     answerFrame(),
	}
	r.serving.Go(r.accept)
	return r, nil
}

func (r *rawReceiver) address() string { return r.listener.Addr().String() }

func (r *rawReceiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.serving.Go(func() { r.serve(conn) })
	}
}

func (r *rawReceiver) serve(conn net.Conn) {
	defer conn.Close()
	request := make([]byte, r.requestLen)
	for {
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		if _, err := conn.Write(r.answer); err != nil {
			return
		}
	}
}

// Close waits until the senders have closed their connections.
func (r *rawReceiver) Close() error {
	err := r.listener.Close()
	r.serving.Wait()
	return err
}
