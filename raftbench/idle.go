package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const aboutIdle = `Measures what idle inbound connections cost: opens so many to a receiver in a process
of its own, has a heartbeat answered on each, and asks the receiver for its memory.
"raw" is a goroutine for each connection that waits in Read, and nothing else. Flags:
`

// idleOptions are what the command line asks for.
type idleOptions struct {
	conns   int
	rounds  int
	timeout time.Duration
	format  format
	json    string
	serve   string
}

func parseIdleOptions(args []string, help io.Writer) (idleOptions, error) {
	var o idleOptions
	flags := newFlagSet("idle")
	flags.IntVar(&o.conns, "conns", 10_000, "`connections` to each rival; fewer if the system allows fewer open files")
	flags.IntVar(&o.rounds, "rounds", 3, "`rounds` in which each rival is measured once, in a new process")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "`time` limit of connecting, and of a heartbeat")
	formatFlag(flags, &o.format)
	flags.StringVar(&o.json, "json", "", "write all figures of all rounds to `file`")
	flags.StringVar(&o.serve, "serve", "", "be the process in which this `rival` receives, spoken to through standard input; the program starts itself so")
	if err := parseFlags(flags, args, aboutIdle, help); err != nil {
		return o, err
	}
	switch {
	case o.conns < 1:
		return o, fmt.Errorf("-conns %d: at least 1 is needed", o.conns)
	case o.rounds < 1 || o.rounds > maxRounds:
		return o, fmt.Errorf("-rounds %d: choose from 1 to %d", o.rounds, maxRounds)
	case o.timeout <= 0:
		return o, fmt.Errorf("-timeout %v: must be longer than 0, for example 10s", o.timeout)
	}
	return o, ensureWritable(o.json)
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
	return idleWith(ctx, o, startReceiver, newProgress(os.Stderr), out)
}

// A starter starts a process in which a rival receives.
type starter func(ctx context.Context, o idleOptions, rival string) (*process, error)

// idleWith measures all rivals, each in a process that start starts.
func idleWith(ctx context.Context, o idleOptions, start starter, status *progress, out io.Writer) error {
	if n := connsAllowed(o.conns); n < o.conns {
		fmt.Fprintf(out, "The system allows %d connections, not %d: raise the limit of open files (ulimit -n).\n\n", n, o.conns)
		o.conns = n
	}
	trials := &Trials{
		Command: "idle",
		About:   fmt.Sprintf("what an idle inbound connection costs its receiver, with %s of them", grouped(float64(o.conns))),
		Machine: thisMachine(),
		Figures: []string{figureHeap, figureStack, figureRSS, figureGoroutines},
		To:      nameHashicorp,
	}
	err := o.measureInto(ctx, trials, start, status)
	if err := errors.Join(err, trials.publish(out, o.format, o.json)); err != nil {
		return err
	}
	if o.format == formatBenchfmt {
		return nil
	}
	fmt.Fprint(out, "heap: live after a collection. RSS: of the whole process, after unused memory went back to\n"+
		"the system, which has memory for each socket besides; \"-\" where it is not known (Linux only).\n")
	return nil
}

func (o idleOptions) measureInto(ctx context.Context, trials *Trials, start starter, status *progress) error {
	status.begin(o.rounds * len(idleRivals))
	defer status.end()
	for round := range o.rounds {
		for _, r := range turn(idleRivals, round) {
			status.show(round, o.rounds, fmt.Sprintf("%-14s", r.name))
			m, err := measureIdleRival(ctx, o, start, r.name)
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in round %d of %d", round+1, o.rounds)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			s := m.each(o.conns)
			trials.add(noCell, r.name, s)
			status.measured(s[figureHeap], figureHeap)
		}
	}
	return nil
}

// connsAllowed returns how many of n connections the process may have,
// besides the files that it has open anyway.
func connsAllowed(n int) int {
	const others = 64
	return max(1, min(n, raiseOpenFiles(n+others)-others))
}

func measureIdleRival(ctx context.Context, o idleOptions, start starter, rival string) (memory, error) {
	p, err := start(ctx, o, rival)
	if err != nil {
		return memory{}, err
	}
	m, err := measureIdleProcess(ctx, o, p)
	return m, errors.Join(err, p.end())
}

// measureIdleProcess returns what a receiver's memory grows by.
func measureIdleProcess(ctx context.Context, o idleOptions, p *process) (memory, error) {
	var first idleAnswer
	if err := p.ask(idleQuestion{}, &first); err != nil {
		return memory{}, err
	}
	if err := connectIdle(ctx, o, first.Address, 1, func() error { return nil }); err != nil {
		return memory{}, err // what exists once, whatever comes
	}
	var before, after idleAnswer
	if err := p.ask(idleQuestion{}, &before); err != nil {
		return memory{}, err
	}
	err := connectIdle(ctx, o, first.Address, o.conns, func() error { return p.ask(idleQuestion{}, &after) })
	return after.Memory.minus(before.Memory), err
}

// connectIdle calls then while it has n connections.
func connectIdle(ctx context.Context, o idleOptions, address string, n int, then func() error) error {
	for i := range n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		conn, err := greet(address, nil, o.timeout)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w%s", i+1, n, err, advice(err))
		}
		defer conn.Close()
	}
	return then()
}

// advice says what to do where the system's error does not.
func advice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return " (one address has no more local ports: choose fewer -conns, or widen net.ipv4.ip_local_port_range)"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return " (choose fewer -conns, or raise the limit of open files)"
	}
	return ""
}

// startReceiver starts this program again.
func startReceiver(ctx context.Context, o idleOptions, rival string) (*process, error) {
	return startSelf(ctx, "idle", "-serve", rival, "-conns", strconv.Itoa(o.conns), "-timeout", o.timeout.String())
}

// An idleQuestion has only one answer.
type idleQuestion struct{}

// An idleAnswer is where a process receives, and what memory it has.
type idleAnswer struct {
	Address string `json:"address"`
	Memory  memory `json:"memory"`
}

// serveIdle is the other process, until the end of in.
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
	err = answerAll(in, out, func(idleQuestion) idleAnswer { return idleAnswer{r.address(), readMemory()} })
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

// The figures of an idle connection.
const (
	figureHeap       = "heap B"
	figureStack      = "stack B"
	figureRSS        = "RSS B"
	figureGoroutines = "goroutines"
)

// each returns the memory for each of n connections.
func (m memory) each(n int) sample {
	each := func(total int64) float64 { return float64(total) / float64(n) }
	s := sample{figureHeap: each(m.Heap), figureStack: each(m.Stack), figureGoroutines: each(m.Goroutines)}
	if m.RSS != 0 {
		s[figureRSS] = each(m.RSS)
	}
	return s
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
