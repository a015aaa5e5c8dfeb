// Command raftwire looks at Raft nodes from outside: what answers at an address, and
// what a capture of packets says. See README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

const manual = `raftwire looks at Raft nodes from outside.

  raftwire probe [flags] HOST:PORT    says what answers there
  raftwire dump [flags] FILE.pcap     prints the Raft requests and answers of a capture
  raftwire help [command]             explains

It speaks the wire format of hashicorp/raft, which is raftwire's.
`

// What main ends with, beside the results of a probe.
const (
	exitFailed = 1
	exitUsage  = 2
)

// commands take their arguments, and return what to end with. Results go to out.
var commands = map[string]func(args []string, out io.Writer) (int, error){
	"probe": runProbe,
	"dump":  runDump,
}

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "raftwire:", err)
	}
	os.Exit(code)
}

func run(args []string, out io.Writer) (int, error) {
	if len(args) == 0 {
		fmt.Fprint(out, manual)
		return exitUsage, nil
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) == 0 {
			fmt.Fprint(out, manual)
			return 0, nil
		}
		name, rest = rest[0], []string{"-h"}
	}
	command, ok := commands[name]
	if !ok {
		return exitUsage, fmt.Errorf("unknown command %q: there are probe, dump and help", name)
	}
	code, err := command(rest, out)
	if errors.Is(err, flag.ErrHelp) {
		return 0, nil
	}
	return code, err
}

// parse parses flags, which may stand before and after the one argument that it
// returns. Help, which begins with about, goes to out.
func parse(flags *flag.FlagSet, args []string, about string, out io.Writer) (argument string, err error) {
	flags.SetOutput(io.Discard)
	var given []string
	for err == nil && len(args) > 0 {
		if err = flags.Parse(args); err == nil && flags.NArg() > 0 {
			given = append(given, flags.Arg(0))
			args = flags.Args()[1:]
			continue
		}
		break
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, about)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return "", err
	case err != nil:
		return "", fmt.Errorf("%w (raftwire help %s lists the flags)", err, flags.Name())
	case len(given) != 1:
		return "", fmt.Errorf("%s takes one argument, not %d (raftwire help %s)", flags.Name(), len(given), flags.Name())
	}
	return given[0], nil
}
