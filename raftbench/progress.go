package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells what is measured: a line for each figure, or one line that is
// rewritten if out is a terminal.
type progress struct {
	out      io.Writer
	terminal bool

	started time.Time
	total   int // measurements
	done    int
	line    string
}

func newProgress(out *os.File) *progress {
	info, err := out.Stat()
	return &progress{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// begin is called before so many measurements.
func (p *progress) begin(total int) { p.started, p.total = time.Now(), total }

// show names the measurement that begins.
func (p *progress) show(round, rounds int, what string) {
	p.line = fmt.Sprintf("round %d/%d  %s", round+1, rounds, what)
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s  %d/%d  %s", p.line, p.done+1, p.total, p.left())
	}
}

// measured reports the measurement that ended.
func (p *progress) measured(figure float64, unit string) {
	p.done++
	if !p.terminal {
		fmt.Fprintf(p.out, "%s  %12s %s  %d/%d  %s\n", p.line, grouped(figure), unit, p.done, p.total, p.left())
	}
}

// left estimates how long the rest takes.
func (p *progress) left() string {
	if p.done == 0 {
		return ""
	}
	perFigure := time.Since(p.started) / time.Duration(p.done)
	return fmt.Sprintf("%v left", (perFigure * time.Duration(p.total-p.done)).Round(time.Second))
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
