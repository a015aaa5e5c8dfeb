package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/raftwire/raftwire/cmd/raftwire/internal/dump"
)

const aboutDump = `Usage: raftwire dump [flags] FILE.pcap

Prints the Raft requests and answers of a capture, a line each, and says of other
connections that they are TLS or unknown. FILE is pcap or pcapng, as tcpdump and
Wireshark write it; - is standard input. Times are UTC. For example:

  tcpdump -i any -s 0 -w raft.pcap port 8300
  raftwire dump raft.pcap

Flags:
`

type dumpFlags struct {
	port         uint
	noHeartbeats bool
}

func (f *dumpFlags) define(flags *flag.FlagSet) {
	flags.UintVar(&f.port, "port", 0, "only connections with this `port` at either end")
	flags.BoolVar(&f.noHeartbeats, "no-heartbeats", false, "leave out heartbeats and their answers")
}

func runDump(args []string, out io.Writer) (int, error) {
	var given dumpFlags
	flags := flag.NewFlagSet("dump", flag.ContinueOnError)
	given.define(flags)
	name, err := parse(flags, args, aboutDump, out)
	if err != nil {
		return exitUsage, err
	}
	if given.port > math.MaxUint16 {
		return exitUsage, fmt.Errorf("-port %d: the highest is %d", given.port, math.MaxUint16)
	}
	file := os.Stdin
	if name != "-" {
		if file, err = os.Open(name); err != nil {
			return exitFailed, err
		}
		defer file.Close()
	}
	options := dump.Options{Port: uint16(given.port), NoHeartbeats: given.noHeartbeats}
	if err := dump.Dump(file, out, options); err != nil {
		return exitFailed, fmt.Errorf("%s: %w", name, err)
	}
	return 0, nil
}
