package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// A format is how a run's figures are printed.
type format string

const (
	formatTable    format = "table"
	formatBenchfmt format = "benchfmt"
)

// formatFlag defines the flag -o.
func formatFlag(flags *flag.FlagSet, f *format) {
	*f = formatTable
	flags.Func("o", "`format` of what is printed: table, or benchfmt, which benchstat reads (default \"table\")", func(s string) error {
		if *f = format(s); *f != formatTable && *f != formatBenchfmt {
			return fmt.Errorf("%q: choose from %s, %s", s, formatTable, formatBenchfmt)
		}
		return nil
	})
}

// writeBenchmarkHead writes the lines of the Go benchmark format that hold for
// all that follow.
func writeBenchmarkHead(out io.Writer, m Machine) {
	fmt.Fprintf(out, "goos: %s\ngoarch: %s\npkg: github.com/raftwire/raftwire/raftbench\ncpu: %s\n", m.OS, m.Arch, m.CPU)
}

// writeBenchmarks writes a line for each round of each rival.
func (r *Report) writeBenchmarks(out io.Writer) {
	writeBenchmarkHead(out, r.Machine)
	for _, result := range r.Results {
		c := result.cell()
		for _, f := range result.Rounds {
			fmt.Fprintf(out, "BenchmarkAppendEntries/workload=%s/window=%s/followers=%s/rival=%s-%d\t%.0f\t%.1f ns/op\t%.1f RPC/s\t%.1f B/op\t%.2f allocs/op\t%.1f CPU-ns/op",
				c.workload, c.window, c.followers, benchmarkName(result.Rival), r.Machine.Cores,
				f.RPCs, 1e9/f.RPCsPerSecond, f.RPCsPerSecond, f.AllocBytesPerRPC, f.AllocsPerRPC, f.CPUSecsPerMRPC*1e3)
			for _, latency := range []struct {
				unit   string
				micros float64
			}{{"p50-ns", f.P50Micros}, {"p99-ns", f.P99Micros}, {"p99.9-ns", f.P999Micros}} {
				if latency.micros > 0 {
					fmt.Fprintf(out, "\t%.0f %s", latency.micros*1e3, latency.unit)
				}
			}
			fmt.Fprintln(out)
		}
	}
}

// writeBenchmarks writes a line for each round of each rival.
func (t *Trials) writeBenchmarks(out io.Writer) {
	writeBenchmarkHead(out, t.Machine)
	for _, trial := range t.Results {
		name := "Benchmark" + strings.ToUpper(t.Command[:1]) + t.Command[1:]
		if trial.Cell != noCell {
			for i, value := range trial.Cell.columns() {
				name += "/" + cellColumns[i] + "=" + value
			}
		}
		for _, round := range trial.Rounds {
			fmt.Fprintf(out, "%s/rival=%s-%d\t1", name, benchmarkName(trial.Rival), t.Machine.Cores)
			for _, figure := range t.Figures {
				if value, known := round[figure]; known {
					fmt.Fprintf(out, "\t%g %s", value, strings.ReplaceAll(figure, " ", "-"))
				}
			}
			fmt.Fprintln(out)
		}
	}
}

// benchmarkName returns a rival's name without what separates parts of names.
func benchmarkName(rival string) string { return strings.ReplaceAll(rival, "/", "-") }
