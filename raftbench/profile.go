package main

import (
	"bytes"
	"fmt"
	"io"
	"runtime/pprof"
	"strings"

	"github.com/google/pprof/profile"
)

// Work is what CPU time is spent on.
type Work string

const (
	workCalls    Work = "system calls" // reading and writing, with the system's copies
	workSchedule Work = "scheduling"   // goroutines and threads that wait and are woken, channels, locks
	workMemory   Work = "memory"       // allocating, clearing, collecting, and copying into fresh memory
	workCodec    Work = "codec"
	workElse     Work = "transport" // what else it does
	workEnds     Work = "ends"      // the benchmark's sender, consumer and checks
)

var allWork = []Work{workCalls, workSchedule, workMemory, workCodec, workElse, workEnds}

// Spent is CPU time in ns, by what it was spent on.
type Spent map[Work]int64

// profiled calls f and returns what the process spends meanwhile.
func profiled(f func() error) (Spent, error) {
	var out bytes.Buffer
	if err := pprof.StartCPUProfile(&out); err != nil {
		return nil, err
	}
	err := f()
	pprof.StopCPUProfile()
	if err != nil {
		return nil, err
	}
	p, err := profile.Parse(&out)
	if err != nil {
		return nil, err
	}
	spent := make(Spent)
	for _, sample := range p.Sample {
		spent[workOf(sample)] += sample.Value[len(sample.Value)-1] // the last is in ns
	}
	return spent, nil
}

func (s Spent) add(other Spent) {
	for work, ns := range other {
		s[work] += ns
	}
}

func (s Spent) total() (ns int64) {
	for _, of := range s {
		ns += of
	}
	return ns
}

// workOf sorts a sample by its stack, from the inside out: the first frame that
// tells decides.
func workOf(sample *profile.Sample) Work {
	for _, location := range sample.Location {
		for _, line := range location.Line {
			if work := workIn(line.Function); work != "" {
				return work
			}
		}
	}
	return workSchedule // the runtime's own threads
}

// signs are beginnings of functions' names. What is not named says nothing, as
// the standard library's functions do that somebody calls.
var signs = []struct {
	prefix string
	work   Work
}{
	{"runtime.futex", workSchedule},
	{"runtime.usleep", workSchedule},
	{"internal/runtime/syscall/linux.EpollWait", workSchedule},
	{"syscall.", workCalls},
	{"runtime.mallocgc", workMemory},
	{"runtime.gc", workMemory},
	{"runtime.bg", workMemory},
	{"runtime.growslice", workMemory},
	{"runtime.memmove", workMemory},
	{"runtime.memclr", workMemory},
	{"runtime.wbBuf", workMemory},
	{"runtime.selectgo", workSchedule},
	{"runtime.chan", workSchedule},
	{"runtime.selectnb", workSchedule},
	{"runtime.mcall", workSchedule},
	{"runtime.newproc", workSchedule},
	{"runtime.goexit0", workSchedule},
	{"runtime.mstart", workSchedule},
	{"sync.", workSchedule},
	{"internal/sync.", workSchedule},
	{"github.com/raftwire/raftwire/internal/msgpack.", workCodec},
	{"github.com/hashicorp/go-msgpack/", workCodec},
	{"main.", workEnds},
	{"github.com/raftwire/raftwire/raftbench.", workEnds},
}

// workIn returns "" if a function says nothing.
func workIn(f *profile.Function) Work {
	for _, sign := range signs {
		if strings.HasPrefix(f.Name, sign.prefix) {
			return sign.work
		}
	}
	switch {
	case strings.HasPrefix(f.Name, "github.com/raftwire/") && strings.HasSuffix(f.Filename, "/codec.go"):
		return workCodec
	case strings.HasPrefix(f.Name, "github.com/"):
		return workElse
	}
	return ""
}

// writeSpent prints where the time went, for every result that was profiled.
func writeSpent(out io.Writer, r *Report) {
	rows := [][]string{{"workload", "window", "rival", "CPU µs/RPC"}}
	for _, work := range allWork {
		rows[0] = append(rows[0], string(work))
	}
	for _, result := range r.Results {
		if result.spent.total() > 0 {
			rows = append(rows, spentRow(result))
		}
	}
	if len(rows) == 1 {
		return
	}
	fmt.Fprint(out, "\nwhere CPU time goes\n\n")
	writeAligned(out, 3, rows)
}

func spentRow(result *Result) []string {
	row := []string{result.Workload.String(), result.cell().lane(), result.Rival, short(result.Median.CPUSecsPerMRPC)}
	for _, work := range allWork {
		row = append(row, percent(float64(result.spent[work])/float64(result.spent.total())))
	}
	return row
}
