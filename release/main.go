// Command release keeps the modules of this repository at one version.
//
//	go run ./release check              the tree can be released as it is
//	go run ./release tidy               go mod tidy, for go.mod and go.*.mod of all modules
//	go run ./release pack -o DIR        the modules at a made-up version, in a GOPROXY of files
//	go run ./release rehearse           what users do with them, from such a proxy
//	go run ./release tag v0.1.0         a commit and a tag for each published module; pushes nothing
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const usage = `Usage: go run ./release check
       go run ./release tidy
       go run ./release pack -o DIR
       go run ./release rehearse [-packed DIR]
       go run ./release tag VERSION
Run it in the root of the repository.
`

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, output io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	out := flags.String("o", "", "")
	packed := flags.String("packed", "", "")
	if len(args) == 0 || args[0] == "help" {
		_, err := io.WriteString(output, usage)
		return err
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	t, err := openTree(".", kinds)
	if err != nil {
		return err
	}
	switch command := args[0]; {
	case command == "check" && flags.NArg() == 0:
		return t.check(kinds)
	case command == "tidy" && flags.NArg() == 0:
		return t.tidy()
	case command == "pack" && flags.NArg() == 0 && *out != "":
		version, err := t.packTree(*out, kinds)
		fmt.Fprintln(output, version)
		return err
	case command == "rehearse" && flags.NArg() == 0:
		return rehearseIn(t, *packed, output)
	case command == "tag" && flags.NArg() == 1:
		return t.tag(flags.Arg(0), time.Now(), kinds)
	}
	flags.Usage()
	return errors.New("no such command")
}

// rehearseIn rehearses with what pack has left in a folder, or packs first.
func rehearseIn(t *tree, packed string, output io.Writer) error {
	if packed != "" {
		packed, err := filepath.Abs(packed)
		if err != nil {
			return err
		}
		return rehearse(packed, kinds, output)
	}
	packed, err := os.MkdirTemp("", "raftwire-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(packed)
	if _, err := t.packTree(packed, kinds); err != nil {
		return err
	}
	return rehearse(packed, kinds, output)
}
